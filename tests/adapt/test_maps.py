import math

import numpy as np
import pytest
import torch
from cia_adapt.modules import maps
from cia_adapt.modules.contrastive import info_nce, same_class_nce
from cia_adapt.modules.entropy import entropy
from cia_adapt.modules.gradient_reversal import ramp, reverse_gradient
from cia_adapt.modules.maps import Feature, gram, to_float
from torch import nn


def channels_last(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator).contiguous(memory_format=torch.channels_last)


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- gradient reversal and entropy: the values of `method.md` §5 ----------------------------------------------------------


@pytest.mark.parametrize("strength", [0.1, 1, 10, torch.tensor(0.5)])
def test_gradient_reversal_flips_and_scales(strength):
    x = vectors(3, 4).requires_grad_()
    plain = torch.autograd.grad((x**2).sum(), x)[0]
    reversed_ = reverse_gradient(x, strength)
    assert torch.equal(reversed_, x)
    torch.testing.assert_close(torch.autograd.grad((reversed_**2).sum(), x)[0], -float(strength) * plain)


def test_ramps():
    progress = torch.tensor([0.1, 0.25, 0.5, 1.0], dtype=torch.float64)
    np.testing.assert_allclose(ramp(progress), [0.462117, 0.848284, 0.986614, 0.999909], atol=5e-7)
    np.testing.assert_allclose(ramp(progress, 1.0), [2 / (1 + math.exp(-p)) - 1 for p in progress.tolist()])
    assert ramp(progress, 0.0).tolist() == [1, 1, 1, 1]


def test_entropies():
    found = [float(entropy(torch.tensor(logits))) for logits in ([2.0, 0, 0], [0.0, 0], [1.0, -1])]
    np.testing.assert_allclose(found, [0.665573, 0.693147, 0.365334], atol=1e-6)
    assert [round(2 - h, 6) for h in found[1:]] == [1.306853, 1.634666]  # TA3N's attention


# --- gates that wait ------------------------------------------------------------------------------------------------------


def test_gates_commute_with_pooling():
    feature = Feature(channels_last(3, 8, 7, 7)).times(vectors(3, 8)).plus(vectors(3, 8, seed=1)).times(vectors(3, 8, seed=2))
    dense = feature.dense()
    by_hand = (feature.data * feature.gain[:, :, None, None]) + feature.shift[:, :, None, None]
    torch.testing.assert_close(dense, by_hand)
    torch.testing.assert_close(feature.average(), dense.mean((2, 3)), atol=1e-5, rtol=1e-5)
    weights = torch.rand(3, 7, 7)
    torch.testing.assert_close(feature.pool(weights), (dense * weights[:, None]).sum((2, 3)), atol=1e-4, rtol=1e-4)


def test_vectors_are_their_own_average():
    feature = Feature(vectors(3, 8)).times(vectors(3, 8, seed=1)).plus(vectors(3, 8, seed=2))
    assert not feature.is_map and torch.equal(feature.dense(), feature.average())


def test_to_float_keeps_the_values_and_puts_channels_side_by_side():
    half = torch.rand(2, 8, 7, 7).half()
    assert torch.equal(to_float(half), half.float()) and to_float(half).is_contiguous(memory_format=torch.channels_last)


def plain_gram(features: list[Feature], layers: list[nn.Linear | None]) -> dict[tuple[int, int], torch.Tensor]:
    """By autograd's own operations."""
    units = []
    for feature, layer in zip(features, layers, strict=True):
        cells = feature.dense().flatten(2).transpose(1, 2)
        units.append(cells if layer is None else layer(cells))
    return {(m, n): units[m] @ units[n].transpose(1, 2) for m in range(len(units)) for n in range(m, len(units))}


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_gram_and_its_gradients_equal_autograds(embedded, gated, monkeypatch):
    """Values, and gradients of gains, shifts, weights and biases; more frames than a chunk, and a ragged last one."""
    monkeypatch.setattr(maps, "CHUNK", 3)
    torch.manual_seed(0)
    leaves: list[torch.Tensor] = []
    features, layers = [], []
    for seed in (0, 1):
        feature = Feature(channels_last(7, 6, 3, 3, seed=seed))
        if gated:
            gain, shift = vectors(7, 6, seed=seed).requires_grad_(), vectors(7, 6, seed=seed + 9).requires_grad_()
            leaves += [gain, shift]
            feature = feature.times(gain).plus(shift)
        features.append(feature)
        layers.append(nn.Linear(6, 4) if embedded else None)
        leaves += list(layers[-1].parameters()) if embedded else []
    found, expected = gram(features, layers), plain_gram(features, layers)
    assert found.keys() == expected.keys() == {(0, 0), (0, 1), (1, 1)}
    outer = {key: vectors(*x.shape, seed=sum(key)) for key, x in expected.items()}
    for key in expected:
        torch.testing.assert_close(found[key], expected[key], atol=1e-4, rtol=1e-4)
    if leaves:
        a, b = (
            torch.autograd.grad(sum((x[k] * outer[k]).sum() for k in outer), leaves, retain_graph=True) for x in (found, expected)
        )
        for mine, theirs in zip(a, b, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


def test_gram_in_bfloat16_is_close_and_not_equal():
    features, layers = [Feature(channels_last(3, 32, 7, 7, seed=s)) for s in (0, 1)], [nn.Linear(32, 16), nn.Linear(32, 16)]
    exact = gram(features, layers)[0, 1]
    with torch.autocast("cpu", torch.bfloat16):
        rough = gram(features, layers)[0, 1]
        rough.sum().backward()
    assert rough.dtype == torch.float32 and not torch.equal(rough, exact)
    assert float((rough - exact).abs().max()) < 0.05 * float(exact.abs().max()) and layers[0].weight.grad is not None


# --- contrastive losses ---------------------------------------------------------------------------------------------------


def slow_nce(first: np.ndarray, second: np.ndarray, tau: float) -> float:
    unit = [x / np.linalg.norm(x, axis=1, keepdims=True) for x in (first, second)]
    total = 0.0
    for a, b in (unit, unit[::-1]):
        for i in range(len(a)):
            scores = [math.exp(float(a[i] @ b[j]) / tau) for j in range(len(b))]
            total -= math.log(scores[i] / sum(scores)) / (2 * len(a))
    return total


def test_info_nce_equals_a_slow_loop():
    a, b = vectors(5, 8), vectors(5, 8, seed=1)
    assert float(info_nce(a, b, 0.3)) == pytest.approx(slow_nce(a.double().numpy(), b.double().numpy(), 0.3), rel=1e-5)


def test_same_class_nce_equals_a_slow_loop():
    a, b = vectors(4, 8), vectors(6, 8, seed=1)
    of_a, of_b, tau = [0, 1, 2, -1], [0, 0, 1, -1, 3, 1], 0.5
    x, y = (v.double().numpy() / np.linalg.norm(v.double().numpy(), axis=1, keepdims=True) for v in (a, b))
    losses = []
    for i, k in enumerate(of_a):
        known = [j for j, other in enumerate(of_b) if other >= 0]
        positive = [j for j in known if of_b[j] == k]
        if k >= 0 and positive:
            total = sum(math.exp(x[i] @ y[j] / tau) for j in known)
            losses.append(-np.mean([math.log(math.exp(x[i] @ y[j] / tau) / total) for j in positive]))
    found = same_class_nce(a, torch.tensor(of_a), b, torch.tensor(of_b), tau)
    assert len(losses) == 2 and float(found) == pytest.approx(np.mean(losses), rel=1e-5)
    assert float(same_class_nce(a, torch.tensor([-1] * 4), b, torch.tensor(of_b), tau)) == 0
