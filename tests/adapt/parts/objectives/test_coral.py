"""CORAL against a loop written from the paper."""

import numpy as np
import pytest
import torch
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.objectives import coral

from tests.adapt.objective_parts import SOURCE, X, Y, arrays, output, step
from tests.adapt.runs_of import trained_and_resumed


def slow_covariance(clips: np.ndarray) -> list[list[float]]:
    """Equation 2: (DᵀD − (1ᵀD)ᵀ(1ᵀD)/n) / (n − 1), entry by entry."""
    n, d = clips.shape
    sums = [sum(clips[:, i]) for i in range(d)]
    return [[(sum(x[i] * x[j] for x in clips) - sums[i] * sums[j] / n) / (n - 1) for j in range(d)] for i in range(d)]


def slow_distance(clips: np.ndarray, source: int) -> float:
    first, second = slow_covariance(clips[:source]), slow_covariance(clips[source:])
    d = clips.shape[1]
    return sum((first[i][j] - second[i][j]) ** 2 for i in range(d) for j in range(d)) / (4 * d * d)


def test_value_known_from_the_formula():
    assert float(coral.covariance_distance(X, Y)) == pytest.approx(0.065972, abs=1e-6)
    assert slow_distance(arrays(torch.cat([X, Y])), 3) == pytest.approx(0.065972, abs=1e-6)


@pytest.mark.parametrize("layer", ["logits", "features"])
def test_the_mean_over_streams_and_labels(layer):
    of, at = output(heads=(3, 4)), step()
    term = coral.build(Sizes({}, {}, (3, 4), 5, 0.0), coral.Options(0.5, layer))(of, at)
    parts = [arrays(x)[:, columns] for x in of.logits.values() for columns in (slice(0, 3), slice(3, 7))]
    parts = parts if layer == "logits" else [arrays(x) for x in of.videos.values()]
    expected = np.mean([slow_distance(part, SOURCE) for part in parts])
    assert float(term.loss.detach()) == pytest.approx(0.5 * expected, rel=1e-4)
    assert float(term.metrics["coral_loss"]) == pytest.approx(expected, rel=1e-4)
    reached = of.logits if layer == "logits" else of.videos
    assert all(x.any(1).all() for x in torch.autograd.grad(term.loss, list(reached.values())))


def test_a_shift_of_a_domain_changes_nothing_and_its_scale_does():
    assert float(coral.covariance_distance(X, X + 5)) == pytest.approx(0, abs=1e-6)
    assert float(coral.covariance_distance(X, 2 * X)) > 0.01


def test_one_clip_has_no_covariance():
    assert float(coral.covariance_distance(X[:1], Y)) == float(coral.covariance_distance(X, Y[:1])) == 0


def test_one_column_has_a_variance():
    assert float(coral.covariance_distance(X[:, :1], Y[:, :1])) == pytest.approx(0, abs=1e-7)
    assert float(coral.covariance_distance(X[:, :1], 3 * X[:, :1])) == pytest.approx((8 / 3) ** 2 / 4, rel=1e-5)


def test_16_bits_do_not_reach_the_covariances():
    with torch.autocast("cpu", torch.bfloat16):
        assert float(coral.covariance_distance(X, Y)) == pytest.approx(0.065972, abs=1e-6)


@pytest.mark.parametrize(("head", "sets"), [("concat", ()), ("average", ()), ("concat", ("coral.layer=features",))])
def test_trains_and_goes_on(small_file, tmp_path, head, sets):
    history = trained_and_resumed(small_file, "coral", tmp_path, head=head, sets=sets)
    assert all(epoch["coral_loss"] > 0 for epoch in history)
