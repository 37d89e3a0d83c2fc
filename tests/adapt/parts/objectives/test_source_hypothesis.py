import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Described, Sizes
from cia_adapt.parts.objectives import source_hypothesis
from cia_adapt.parts.objectives.information_maximisation import information_maximisation
from scipy.spatial.distance import cdist

from tests.adapt.objective_parts import SOURCE, TARGET, arrays, output, slow_cross_entropy, slow_entropy, step
from tests.adapt.runs_of import run

HEADS = (3, 4)
SIZES = Sizes({}, {}, HEADS, 5, 0.0, target_train_clips=TARGET)


def slow_labels(features: np.ndarray, probabilities: np.ndarray) -> list[int]:
    """By loops and scipy's cosine distance, with means for centroids."""
    f = np.array([np.append(x, 1) / np.linalg.norm(np.append(x, 1)) for x in features])
    labels, weights = list(probabilities.argmax(1)), probabilities
    for _ in range(2):
        classes = sorted(set(labels))
        centroids = [sum(w * x for w, x in zip(weights[:, k], f, strict=True)) / weights[:, k].sum() for k in classes]
        labels = [classes[i] for i in cdist(f, np.array(centroids), "cosine").argmin(1)]
        weights = np.array([[float(k == label) for k in range(probabilities.shape[1])] for label in labels])
    return labels


def test_the_toy_s_third_label_changes():
    """The value of `docs/facts.md`."""
    f = torch.tensor([[1, 0], [0.9, 0.1], [0, 1], [0.2, 0.9]])
    p = torch.tensor([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.55, 0.45]])
    assert p.argmax(1).tolist() == [0, 0, 1, 0]
    assert source_hypothesis.centroid_labels(f, p).tolist() == slow_labels(arrays(f), arrays(p)) == [0, 0, 1, 1]


@pytest.mark.parametrize("seed", range(5))
def test_labels_equal_a_slow_loop(seed):
    """Of 40 clips and 6 classes, one of which nobody is predicted to be."""
    generator = torch.Generator().manual_seed(seed)
    f, z = torch.randn(40, 5, generator=generator), torch.randn(40, 6, generator=generator)
    z[:, 2] = -9
    labels = source_hypothesis.centroid_labels(f, z.softmax(1))
    assert labels.tolist() == slow_labels(arrays(f), arrays(z.softmax(1)))
    assert 2 not in labels and labels.tolist() != z.argmax(1).tolist()


def test_the_loss_is_information_maximisation_and_the_labels_cross_entropy():
    objective = source_hypothesis.build(SIZES, source_hypothesis.Options(0.7, 0.2))
    generator = torch.Generator().manual_seed(3)
    features = torch.randn(TARGET, 8, generator=generator)
    probabilities = tuple(torch.randn(TARGET, k, generator=generator).softmax(1) for k in HEADS)
    objective.relabel(Described(features, probabilities))
    labels = [slow_labels(arrays(features), arrays(p)) for p in probabilities]
    of = output(heads=HEADS)
    positions = [5, 0, 1, 2, 3, 4]
    term = objective(of, step(positions=positions))
    certainties, losses = [], []
    for logits in of.logits.values():
        for i, z in enumerate(of.split(logits[SOURCE:])):
            mean = arrays(z.softmax(1)).mean(0)
            certainties.append(np.mean([slow_entropy(x) for x in arrays(z)]) - slow_entropy(np.log(mean)))
            assert certainties[-1] == pytest.approx(float(information_maximisation(z)[0].detach()), rel=1e-4)
            losses.append(np.mean([slow_cross_entropy(x, labels[i][p]) for x, p in zip(arrays(z), positions, strict=True)]))
    assert float(term.loss.detach()) == pytest.approx(0.7 * np.mean(certainties) + 0.2 * np.mean(losses), rel=1e-5)
    gradient = torch.autograd.grad(term.loss, of.logits["rgb"])[0]
    assert gradient[SOURCE:].any() and not gradient[:SOURCE].any()


@pytest.mark.parametrize("head", ["concat", "average"])
def test_trains_in_both_phases(small_file, head):
    trainer, outcome = run(small_file, "shot-fl", epochs=2, head=head, batch=11)
    first, second = outcome.history
    assert np.isfinite(first["class_loss"]) and "pseudo_label_loss" not in first
    assert np.isfinite(second["information_maximisation_loss"]) and second["pseudo_label_loss"] > 0
    assert trainer.setup.smoothing == 0.1 and outcome.selected.epoch == 2
    assert not any(p.requires_grad for p in trainer.model.classifiers.parameters())
