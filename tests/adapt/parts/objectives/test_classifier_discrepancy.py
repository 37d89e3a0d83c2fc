from dataclasses import replace

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import classifier_discrepancy as mcd

from tests.adapt.objective_parts import SOURCE, Z2, Z, arrays, output, slow_cross_entropy, slow_mlp, step
from tests.adapt.runs_of import trained_and_resumed
from tests.adapt.shake import shaken

SIZES = Sizes({}, {}, (3,), 5, 0.0, videos={"rgb": 8, "flow": 8})


def softmax(logits: np.ndarray) -> np.ndarray:
    return np.exp(logits) / np.exp(logits).sum(-1, keepdims=True)


def test_the_discrepancy_is_the_mean_distance_of_probabilities():
    first, second = softmax(arrays(Z)), softmax(arrays(Z2))
    expected = sum(abs(first[i, k] - second[i, k]) for i in range(3) for k in range(3)) / 9
    assert float(mcd.classifier_discrepancy(Z, Z2)) == pytest.approx(expected, rel=1e-5)
    assert float(mcd.classifier_discrepancy(Z, Z)) == 0


def test_cross_entropies_minus_the_discrepancy():
    of, at = output(), step()
    module = shaken(mcd.build(SIZES, mcd.Options(weight=0.5, hidden=4)))
    term = module(of, at)
    class_losses, differences = [], []
    for stream, features in of.videos.items():
        logits = [
            np.stack([slow_mlp(head, x) for x in arrays(features)]) for head in (module.first[stream], module.second[stream])
        ]
        for head in logits:
            class_losses.append(np.mean([slow_cross_entropy(head[i], int(at.labels[i, 0])) for i in range(SOURCE)]))
        differences.append(np.abs(softmax(logits[0][SOURCE:]) - softmax(logits[1][SOURCE:])).mean())
    assert float(term.metrics["two_classifiers_loss"]) == pytest.approx(np.mean(class_losses), rel=1e-5)
    assert float(term.metrics["classifier_discrepancy"]) == pytest.approx(np.mean(differences), rel=1e-5)
    assert float(term.loss.detach()) == pytest.approx(2 * np.mean(class_losses) - 0.5 * np.mean(differences), rel=1e-5)


def test_label_smoothing_reaches_the_two_classifiers():
    """By hand: (1 − ε) · CE with the label + ε · the mean of CE with each class."""
    of, at = output(("rgb",)), step()
    module = shaken(mcd.ClassifierDiscrepancy({"rgb": 8}, 3, mcd.Options(weight=0)))
    clips, losses = arrays(of.videos["rgb"])[:SOURCE], []
    for classify in (module.first["rgb"], module.second["rgb"]):
        for clip, label in zip(clips, at.labels[:, 0].tolist(), strict=True):
            by_class = [slow_cross_entropy(slow_mlp(classify, clip), k) for k in range(3)]
            losses.append(0.8 * by_class[label] + 0.2 * np.mean(by_class))
    assert float(module(of, replace(at, smoothing=0.2)).loss.detach()) == pytest.approx(2 * np.mean(losses), rel=1e-5)


def test_two_labels_have_a_cross_entropy_each():
    sizes = Sizes({}, {}, (3, 4), 5, 0.0, videos={"rgb": 8})
    module = shaken(mcd.build(sizes, mcd.Options(weight=0.0, hidden=4)))
    of, at = output(("rgb",), heads=(3, 4)), step()
    at = type(at)(at.labels.repeat(1, 2), at.is_target, at.target_positions, at.progress)
    cross = torch.nn.functional.cross_entropy
    expected = 0.0
    for head in (module.first["rgb"], module.second["rgb"]):
        logits = head(of.videos["rgb"][:SOURCE])
        expected += (cross(logits[:, :3], at.labels[:, 0]) + cross(logits[:, 3:], at.labels[:, 1])) / 2
    assert float(module(of, at).loss.detach()) == pytest.approx(float(expected.detach()), rel=1e-5)


def test_one_backward_does_the_papers_three_steps():
    """Classifiers descend on −discrepancy (B), features on +λ·discrepancy (C); both on the source's cross-entropy (A)."""
    of, at = output(), step()
    module = shaken(mcd.build(SIZES, mcd.Options(strength=0.5, ramp=0.0, hidden=4)))
    features, own = list(of.videos.values()), list(module.parameters())
    mine = torch.autograd.grad(module(of, at).loss, features + own)
    cross = torch.nn.functional.cross_entropy
    class_loss, discrepancy = torch.zeros(()), torch.zeros(())
    for stream, x in of.videos.items():
        first, second = (head(x) for head in (module.first[stream], module.second[stream]))
        class_loss = class_loss + sum(cross(logits[:SOURCE], at.labels[:, 0]) for logits in (first, second)) / 2
        discrepancy = discrepancy + mcd.classifier_discrepancy(first[SOURCE:], second[SOURCE:]) / 2
    step_a = torch.autograd.grad(class_loss, features + own, retain_graph=True)
    apart = torch.autograd.grad(discrepancy, features + own)
    for gradient, a, d in zip(mine[:2], step_a[:2], apart[:2], strict=True):
        assert d.any()
        torch.testing.assert_close(gradient, a + 0.5 * d, rtol=1e-4, atol=1e-7)
    for gradient, a, d in zip(mine[2:], step_a[2:], apart[2:], strict=True):
        torch.testing.assert_close(gradient, a - d, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("head", ["concat", "average"])
def test_trains_and_goes_on(small_file, tmp_path, head):
    history = trained_and_resumed(small_file, "mcd", tmp_path, head=head)
    assert history[0]["discrepancy_reversal"] < history[1]["discrepancy_reversal"] < 0.1  # the set-up's reversal is 0.1
    assert all(epoch["classifier_discrepancy"] > 0 for epoch in history)
