"""CoMix's losses against loops over pairs of softmaxes."""

import math

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import temporal_contrast as comix

from tests.adapt.objective_parts import CLIPS, SOURCE, TARGET, arrays, output, step
from tests.adapt.runs_of import trained_and_resumed

SIZES = Sizes({}, {}, (3,), 5, 0.0)
TAU = 0.5


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(1, keepdims=True)


def slow_contrast(p: np.ndarray, classes) -> float:
    by_anchor = []
    for i in range(len(p)):
        others = [j for j in range(len(p)) if j != i and min(classes[i], classes[j]) >= 0]
        mine = [j for j in others if classes[j] == classes[i]]
        if mine:
            total = sum(math.exp(p[i] @ p[k] / TAU) for k in others)
            by_anchor.append(np.mean([math.log(total) - p[i] @ p[j] / TAU for j in mine]))
    return TAU / 0.07 * float(np.mean(by_anchor))


def test_the_contrast_is_the_loop_over_pairs():
    p = softmax(arrays(torch.randn(6, 3, generator=torch.Generator().manual_seed(0))))
    classes = [0, 1, 0, -1, 1, 2]
    got = comix.contrast(torch.tensor(p), torch.tensor(classes), TAU)
    assert float(got) == pytest.approx(slow_contrast(p, classes), rel=1e-6)


def test_speeds_and_mixtures_of_a_clip_are_positives_of_each_other(monkeypatch):
    """γ = 0.25: each domain's clips are mixed with those of the other in turn, at the same speed."""
    monkeypatch.setattr(torch, "rand", lambda *shape, device=None: torch.tensor(0.5))
    of, second = output(("all",), seed=0), output(("all",), seed=1)
    term = comix.build(SIZES, comix.Options(pseudo=0.0))(of, step(second))
    speeds, expected = [arrays(view.logits["all"]) for view in (of, second)], 0.0
    for own, other, count in ((range(SOURCE), range(SOURCE, CLIPS), TARGET), (range(SOURCE, CLIPS), range(SOURCE), SOURCE)):
        mixed = [[0.75 * z[i] + 0.25 * z[other[n % count]] for n, i in enumerate(own)] for z in speeds]
        p = softmax(np.array([z[i] for z in speeds for i in own] + mixed[0] + mixed[1]))
        expected += slow_contrast(p, list(range(len(own))) * 4)
    assert float(term.loss.detach()) == pytest.approx(0.1 * expected, rel=1e-5)


def test_confident_target_clips_are_contrasted_by_class():
    of, second = output(("all",), seed=0), output(("all",), seed=1)
    fast, slow = (arrays(view.logits["all"])[SOURCE:] for view in (of, second))
    fused = softmax((fast + slow) / 2)
    classes = [int(row.argmax()) if row.max() > 0.5 else -1 for row in fused]
    assert -1 in classes and len(set(classes)) > 2
    term = comix.build(SIZES, comix.Options(mixed=0.0, threshold=0.5))(of, step(second))
    expected = slow_contrast(softmax(np.concatenate([fast, slow])), classes * 2)
    assert float(term.loss.detach()) == pytest.approx(0.01 * expected, rel=1e-5)
    assert float(term.metrics["pseudo_labelled"]) == pytest.approx(100 * np.mean([c >= 0 for c in classes]))


def test_labels_start_after_a_share_of_the_training():
    for progress, begun in ((0.28, False), (0.3, True)):
        term = comix.build(SIZES, comix.Options(start=0.29))(output(), step(output(seed=1), progress=progress))
        assert (float(term.loss.detach()) > 0) == begun


@pytest.mark.parametrize("head", ["concat", "average"])
def test_trains_and_goes_on(small_file, tmp_path, head):
    history = trained_and_resumed(small_file, "comix-fl", tmp_path, head=head, sets=("temporal_contrast.threshold=0.35",))
    assert all(epoch["contrast_mixed"] > 0 for epoch in history)
