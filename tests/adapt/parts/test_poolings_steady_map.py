"""The ways to keep SC's map from collapsing: centred embeddings, standardised scores, a blend with the average."""

import math

import numpy as np
import pytest
import torch
from cia_adapt.parts.poolings.sc import centred
from cia_adapt.training.health import consensus_metrics

from tests.adapt.parts.test_poolings import CELLS, GRID, consensus_of, features, numpy_maps, slow_score


def test_centring_compares_embeddings_less_their_mean_over_the_frame():
    inputs = features(3)
    sc = consensus_of(inputs, centre=True, scales=2)
    weights = sc(inputs).weights.detach().double().numpy()
    for clip in range(2):
        embedded = {}
        for m, maps in numpy_maps(inputs, clip).items():
            weight, bias = (p.detach().double().numpy() for p in sc.embed[m].parameters())
            u = np.einsum("ec,chw->ehw", weight, maps) + bias[:, None, None]
            u -= u.mean((1, 2), keepdims=True)
            embedded[m] = u / np.linalg.norm(u, axis=0)
        scores = np.array([sum(slow_score(embedded["rgb"], embedded["flow"], i, j, k, "pool") for k in (1, 2)) for i, j in CELLS])
        expected = np.exp(scores / (2 * sc.options.temperature))
        np.testing.assert_allclose(weights[clip], (expected / expected.sum()).reshape(GRID), rtol=2e-3)


def test_centred_products_are_products_of_centred_cells():
    u, v = torch.randn(2, 6, 3, dtype=torch.float64), torch.randn(2, 6, 3, dtype=torch.float64)
    products = centred(u @ v.transpose(1, 2))
    torch.testing.assert_close(products, (u - u.mean(1, keepdim=True)) @ (v - v.mean(1, keepdim=True)).transpose(1, 2))


@pytest.mark.parametrize(("spread", "cells"), [(0.5, 38.4), (1, 21.2), (2, 7.1), (3, 3.8)])
def test_standardised_scores_give_the_sharpness_asked_for(spread, cells):
    """Normal scores of just this standard deviation leave so many of 49 cells, whatever the spread of the features."""
    sc = consensus_of(features(), standardise=spread)
    scores = torch.randn(20_000, 49, generator=torch.Generator().manual_seed(0))
    effective = []
    for factor, offset in ((1e-3, 0.9), (5.0, -2.0)):
        weights = sc._standardised(factor * scores + offset).softmax(1)
        effective.append(float((1 / weights.square().sum(1)).mean()))
    assert effective[0] == pytest.approx(effective[1], rel=1e-2)
    assert effective[0] == pytest.approx(cells, rel=0.03)


@pytest.mark.parametrize(("ratio", "cells"), [(0.5, 38.7), (1, 21.8), (2, 7.5), (3, 3.9)])
def test_effective_cells_at_a_ratio_of_spread_and_temperature(ratio, cells):
    """The values of `docs/facts.md`: scores are drawn with the standard deviation ratio · τ, which a standardised frame has."""
    scores = torch.randn(20_000, 1, 49, generator=torch.Generator().manual_seed(0))
    maps = (ratio * scores).softmax(2).unflatten(2, (7, 7))
    assert float(consensus_metrics(maps, 20_000)["source_effective_cells"]) == pytest.approx(cells, rel=0.03)


def test_equal_scores_stay_the_average_when_they_are_standardised():
    sc = consensus_of(features(), standardise=2.0)
    assert sc._standardised(torch.full((1, 20), 0.3)).softmax(1).tolist()[0] == pytest.approx([1 / 20] * 20)


@pytest.mark.parametrize("alpha", [0.0, 0.25])
def test_the_blend_lies_between_the_average_and_the_map(alpha):
    inputs = features(2)
    alone, blended = (consensus_of(inputs, blend=a)(inputs).weights for a in (1.0, alpha))
    torch.testing.assert_close(blended, (1 - alpha) / len(CELLS) + alpha * alone)


def test_a_trained_blend_starts_where_it_is_told_to_and_never_leaves_0_to_1():
    inputs = features(2)
    sc = consensus_of(inputs, blend=0.0, learn_blend=True)
    pooled = sc(inputs)
    torch.testing.assert_close(pooled.weights, torch.full_like(pooled.weights, 1 / len(CELLS)))
    sum(v[:, 0].sum() for v in pooled.vectors.values()).backward()
    assert sc.blend.grad.abs() > 0
    for value, expected in ((-3.0, 1 / len(CELLS)), (7.0, None)):
        sc.blend.data.fill_(value)
        weights = sc(inputs).weights
        assert (weights >= 0).all() and weights.sum((1, 2)).tolist() == pytest.approx([1, 1])
        assert expected is None or weights.flatten().tolist() == pytest.approx([expected] * weights.numel())


def test_metrics_of_the_map_are_by_domain():
    sharp, even = torch.zeros(1, 2, 7, 7), torch.full((3, 2, 7, 7), 1 / 49)
    sharp[..., 0, :2] = 0.5
    metrics = {name: float(value) for name, value in consensus_metrics(torch.cat([sharp, even]), 1).items()}
    assert metrics == pytest.approx(
        {
            "source_effective_cells": 2, "source_largest_weight": 0.5,
            "target_effective_cells": 49, "target_largest_weight": 1 / 49,
        }
    )  # fmt: skip
    assert consensus_metrics(None, 1) == {} and len(consensus_metrics(sharp, 1)) == 2
    assert not any(math.isnan(value) for value in metrics.values())
