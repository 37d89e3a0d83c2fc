import math

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import information_maximisation as im

from tests.adapt.objective_parts import SOURCE, Z, arrays, output, slow_entropy, step
from tests.adapt.runs_of import trained_and_resumed


def slow_loss(logits: np.ndarray, diversity: float = 1.0) -> float:
    mean = np.mean([np.exp(row) / np.exp(row).sum() for row in logits], axis=0)
    return float(np.mean([slow_entropy(row) for row in logits])) + diversity * sum(p * math.log(p) for p in mean)


def test_value_known_from_the_formula():
    assert float(im.information_maximisation(Z)[0]) == pytest.approx(-0.142650, abs=1e-6)
    assert slow_loss(arrays(Z)) == pytest.approx(-0.142650, abs=1e-6)


def test_it_is_least_where_predictions_are_certain_and_use_all_classes():
    best, one_class = 200 * torch.eye(3), torch.tensor([[200.0, 0, 0]]).repeat(3, 1)
    assert float(im.information_maximisation(best)[0]) == pytest.approx(-math.log(3), abs=1e-5)
    assert float(im.information_maximisation(one_class)[0]) == pytest.approx(0, abs=1e-5)
    assert all(torch.isfinite(x) for x in im.information_maximisation(1e4 * best))


@pytest.mark.parametrize("diversity", [1.0, 0.0, 2.5])
def test_the_mean_over_streams_and_labels_of_the_target_alone(diversity):
    of, at = output(heads=(3, 4)), step()
    term = im.build(Sizes({}, {}, (3, 4), 5, 0.0), im.Options(0.5, diversity))(of, at)
    parts = [arrays(x)[SOURCE:, columns] for x in of.logits.values() for columns in (slice(0, 3), slice(3, 7))]
    expected = np.mean([slow_loss(part, diversity) for part in parts])
    assert float(term.loss.detach()) == pytest.approx(0.5 * expected, rel=1e-5)
    assert float(term.metrics["information_maximisation_loss"]) == pytest.approx(expected, rel=1e-5)
    gradient = torch.autograd.grad(term.loss, of.logits["flow"])[0]
    assert not gradient[:SOURCE].any() and gradient[SOURCE:].any(1).all()


@pytest.mark.parametrize("head", ["concat", "average"])
def test_trains_and_goes_on(small_file, tmp_path, head):
    history = trained_and_resumed(small_file, "im", tmp_path, head=head)
    assert all(0 < epoch["prediction_diversity"] <= math.log(3) + 1e-6 for epoch in history)
