"""CO2A's losses against loops over pairs."""

import math

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import dual_contrast as co2a

from tests.adapt.objective_parts import CLASSES, SOURCE, arrays, output, slow_entropy, step, unit
from tests.adapt.runs_of import trained_and_resumed
from tests.adapt.shake import shaken

TAU = 0.5
STREAMS = ("rgb", "flow")


def slow_contrast(features: np.ndarray, positives, others) -> float:
    """The mean over anchors with a positive of the mean over positives of −log(e^s / Σ_others e^s)."""
    z, by_anchor = unit(features), []
    for i in range(len(z)):
        mine = [j for j in range(len(z)) if positives(i, j)]
        if mine:
            total = sum(math.exp(z[i] @ z[k] / TAU) for k in range(len(z)) if others(i, k))
            by_anchor.append(np.mean([math.log(total) - z[i] @ z[j] / TAU for j in mine]))
    return float(np.mean(by_anchor)) if by_anchor else 0.0


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def test_clips_of_one_class_are_positives_and_those_without_take_no_part():
    z, y = drawn(7, 3), [0, 1, 0, -1, 1, 2, -1]
    known = lambda i, j: min(y[i], y[j]) >= 0  # noqa: E731
    expected = slow_contrast(arrays(z), lambda i, j: i != j and known(i, j) and y[i] == y[j], lambda i, j: i != j and known(i, j))
    assert float(co2a.by_class(z, torch.tensor(y), None, TAU)) == pytest.approx(expected, rel=1e-5)


def test_across_domains_only_the_other_domain_s_clips_are_compared():
    z, y, domain = drawn(7, 3), [0, 1, 0, 1, -1, 2, 0], [0, 0, 0, 1, 1, 1, 1]
    allowed = lambda i, j: domain[i] != domain[j] and min(y[i], y[j]) >= 0  # noqa: E731
    expected = slow_contrast(arrays(z), lambda i, j: allowed(i, j) and y[i] == y[j], allowed)
    assert float(co2a.by_class(z, torch.tensor(y), torch.tensor(domain), TAU)) == pytest.approx(expected, rel=1e-5)


def test_places_of_the_same_clip_are_no_negatives():
    clips, places = 3, 2
    first, second = drawn(clips, places, 4), drawn(clips, places, 4, seed=1)
    flat = np.concatenate([arrays(first).reshape(-1, 4), arrays(second).reshape(-1, 4)])
    place = [n % (clips * places) for n in range(len(flat))]
    same = lambda i, j: i != j and place[i] == place[j]  # noqa: E731
    expected = slow_contrast(flat, same, lambda i, j: same(i, j) or place[i] // places != place[j] // places)
    assert float(co2a.by_view(first, second, TAU)) == pytest.approx(expected, rel=1e-5)


def test_the_classifier_shall_agree_with_the_contrastive_head():
    h_t, h_s, z_t, z_s = drawn(3, 4), drawn(2, 4, seed=1), drawn(3, 3, seed=2), drawn(2, 3, seed=3)
    losses = []
    for i in range(3):
        for j in range(2):
            alike = unit(arrays(h_t))[i] @ unit(arrays(h_s))[j] > 0.1
            q = 1 / (1 + math.exp(-float(arrays(z_t)[i] @ arrays(z_s)[j])))
            losses.append(-math.log(q if alike else 1 - q))
    assert len({round(loss, 3) for loss in losses}) > 2
    assert float(co2a.consistency(h_t, h_s, z_t, z_s, 0.1)) == pytest.approx(np.mean(losses), rel=1e-5)


def built(heads=(CLASSES,), **options):
    widths = dict.fromkeys(STREAMS, 8)
    return shaken(co2a.build(Sizes({}, {}, heads, 5, 0.0, frames=widths, videos=widths), co2a.Options(**options)))


def test_weights_multiply_the_five_losses():
    of, at = output(STREAMS, seed=0), step(output(STREAMS, seed=1))
    weights = {"source": 1.0, "across": 2.0, "clip_views": 0.2, "frame_views": 0.2, "consistency": 0.02}
    term = built(certain=1.1)(of, at)
    expected = sum(weight * float(term.metrics[f"contrast_{name}"]) for name, weight in weights.items())
    assert all(float(term.metrics[f"contrast_{name}"]) > 0 for name in weights)
    assert float(term.loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_a_pseudo_label_needs_a_certain_prediction():
    of, second = output(STREAMS, seed=0), output(STREAMS, seed=1)
    certain = [
        slow_entropy(np.log(row)) < math.log(CLASSES) / 1.1
        for view in (of, second)
        for row in arrays(view.probabilities()[0])[SOURCE:]
    ]
    assert 0 < np.mean(certain) < 1
    share = built(certain=1.1)(of, step(second)).metrics["pseudo_labelled"]
    assert float(share) == pytest.approx(100 * np.mean(certain), rel=1e-5)


def test_without_a_pseudo_label_nothing_is_contrasted_across_domains():
    term = built(certain=1e6)(output(STREAMS, seed=0), step(output(STREAMS, seed=1)))
    assert float(term.metrics["contrast_across"]) == float(term.metrics["pseudo_labelled"]) == 0
    assert torch.isfinite(term.loss)
    term.loss.backward()


@pytest.mark.parametrize("head", ["concat", "average"])
def test_trains_and_goes_on(small_file, tmp_path, head):
    history = trained_and_resumed(small_file, "co2a-fl", tmp_path, head=head, sets=("dual_contrast.certain=1.05",))
    assert all(epoch["contrast_frame_views"] > 0 for epoch in history)
