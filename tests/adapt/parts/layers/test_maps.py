import math

import numpy as np
import pytest
import torch
from cia_adapt.parts.layers import maps
from cia_adapt.parts.layers.contrastive import info_nce, same_class_nce
from cia_adapt.parts.layers.entropy import entropy
from cia_adapt.parts.layers.gradient_reversal import ramp, reverse_gradient
from cia_adapt.parts.layers.maps import Feature, gram, to_float
from torch import nn


def channels_last(*shape: int, seed: int = 0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.rand(*shape, generator=generator).contiguous(memory_format=torch.channels_last)


def vectors(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


# --- gradient reversal and entropy: the values of `docs/facts.md` ----------------------------------------------------------


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
    low, high, alpha = 0.2, 0.8, 1.0  # TLL's warm start: λ(i) = 2(hi − lo) / (1 + e^(−αi/N)) − (hi − lo) + lo
    warm = [2 * (high - low) / (1 + math.exp(-alpha * p)) - (high - low) + low for p in progress.tolist()]
    np.testing.assert_allclose(high * ramp(progress, alpha, low / high), warm)


def test_reversal_acts_once_on_each_path():
    """Twice reversed is λ² times forwards; beside a reversed path the plain one keeps its sign."""
    x = vectors(3, 4).requires_grad_()
    (twice,) = torch.autograd.grad(reverse_gradient(reverse_gradient(x, 0.5), 0.5).sum(), x)
    assert torch.equal(twice, torch.full_like(x, 0.25))
    (both,) = torch.autograd.grad(reverse_gradient(x, 0.1).sum() + 3 * x.sum(), x)
    torch.testing.assert_close(both, torch.full_like(x, 2.9))


def test_entropies():
    entropies = [float(entropy(torch.tensor(logits))) for logits in ([2.0, 0, 0], [0.0, 0], [1.0, -1])]
    np.testing.assert_allclose(entropies, [0.665573, 0.693147, 0.365334], atol=1e-6)


def test_entropy_of_any_shape_stays_finite_for_certain_classes():
    logits = torch.tensor([[[0.0, 0, 0], [1000, 0, 0]], [[-500, 0, 0], [3, 3, -1000]]], requires_grad=True)
    entropies = entropy(logits)
    np.testing.assert_allclose(entropies.detach().numpy(), [[math.log(3), 0], [math.log(2), math.log(2)]], atol=1e-6)
    entropies.sum().backward()
    assert torch.isfinite(logits.grad).all()


# --- gates that wait ------------------------------------------------------------------------------------------------------


def slow_steps(data: np.ndarray, steps: list[tuple[str, np.ndarray]]) -> np.ndarray:
    """Gates and vectors put on every cell, one after the other."""
    out = data.copy()
    for what, vector in steps:
        for clip in range(out.shape[0]):
            for channel in range(out.shape[1]):
                out[clip, channel] = (
                    out[clip, channel] * vector[clip, channel]
                    if what == "times"
                    else (out[clip, channel] + vector[clip, channel])
                )
    return out


@pytest.mark.parametrize("order", [(), ("times",), ("plus",), ("times", "plus", "times"), ("plus", "times", "plus", "plus")])
@pytest.mark.parametrize("shape", [(3, 8, 4, 5), (3, 8)])
def test_gates_applied_late_equal_gates_on_every_cell(order, shape):
    data = channels_last(*shape) if len(shape) == 4 else vectors(*shape)
    steps = [(what, vectors(*shape[:2], seed=seed)) for seed, what in enumerate(order, 1)]
    feature = Feature(data)
    for what, vector in steps:
        feature = getattr(feature, what)(vector)
    expected = slow_steps(data.double().numpy(), [(what, v.double().numpy()) for what, v in steps])
    np.testing.assert_allclose(feature.dense().numpy(), expected, atol=1e-5)
    assert feature.is_map == (len(shape) == 4)
    if not feature.is_map:
        np.testing.assert_allclose(feature.average().numpy(), expected, atol=1e-5)
        return
    np.testing.assert_allclose(feature.average().numpy(), expected.mean((2, 3)), atol=1e-5)
    weights = torch.rand(3, 4, 5, generator=torch.Generator().manual_seed(1))
    pooled = np.zeros((3, 8))
    for clip, channel, i, j in np.ndindex(3, 8, 4, 5):
        pooled[clip, channel] += float(weights[clip, i, j]) * expected[clip, channel, i, j]
    np.testing.assert_allclose(feature.pool(weights).numpy(), pooled, atol=1e-4)


def test_to_float_keeps_the_values_and_puts_channels_side_by_side():
    half = torch.rand(2, 8, 7, 7).half()
    assert torch.equal(to_float(half), half.float()) and to_float(half).is_contiguous(memory_format=torch.channels_last)


def plain_gram(features: list[Feature], layers: list[nn.Linear | None]) -> dict[tuple[int, int], torch.Tensor]:
    """By autograd's own operations, (data · gain + shift) Wᵀ + b."""
    units = []
    for feature, layer in zip(features, layers, strict=True):
        cells = feature.dense().flatten(2).transpose(1, 2)
        units.append(cells if layer is None else layer(cells))
    return {(m, n): units[m] @ units[n].transpose(1, 2) for m in range(len(units)) for n in range(m, len(units))}


@pytest.mark.parametrize("embedded", [True, False])
@pytest.mark.parametrize("gated", [True, False])
def test_gram_and_its_gradients_equal_autograds(embedded, gated, monkeypatch):
    """Values, and gradients of gains, shifts, weights and biases; more frames than a chunk, and a ragged last one."""
    monkeypatch.setattr(maps, "CHUNK", 3 * 6 * 9 * 4)  # three frames of float32
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
    products, expected = gram(features, layers), plain_gram(features, layers)
    assert products.keys() == expected.keys() == {(0, 0), (0, 1), (1, 1)}
    outer = {key: vectors(*x.shape, seed=sum(key)) for key, x in expected.items()}
    for key in expected:
        torch.testing.assert_close(products[key], expected[key], atol=1e-4, rtol=1e-4)
    if leaves:
        a, b = (
            torch.autograd.grad(sum((x[k] * outer[k]).sum() for k in outer), leaves, retain_graph=True)
            for x in (products, expected)
        )
        for mine, theirs in zip(a, b, strict=True):
            torch.testing.assert_close(mine, theirs, atol=1e-3, rtol=1e-3)


@pytest.mark.parametrize("gated", [(True, True), (True, False), (False, True)], ids=["gain+shift", "gain", "shift"])
@pytest.mark.parametrize("embedded", [True, False])
def test_grams_gradients_equal_finite_differences(embedded, gated, monkeypatch):
    """In float64, over a chunk of two frames and one of one."""
    monkeypatch.setattr(maps, "CHUNK", 2 * 4 * 6 * 8)
    torch.manual_seed(0)
    data = [torch.rand(3, 4, 2, 3, dtype=torch.float64) for _ in range(2)]
    leaves = [torch.randn(3, 4, dtype=torch.float64, requires_grad=True) for _ in range(2 * sum(gated))]
    layers = [nn.Linear(4, 2).double() if embedded else None for _ in range(2)]
    parameters = [p for layer in layers if layer for p in layer.parameters()]

    def products(*given: torch.Tensor) -> tuple[torch.Tensor, ...]:
        rest = iter(given)
        features = [Feature(x, *(next(rest) if present else None for present in gated)) for x in data]
        return tuple(gram(features, layers).values())

    assert torch.autograd.gradcheck(lambda *given: products(*given[: len(leaves)]), (*leaves, *parameters))


def test_gram_of_three_modalities_over_whole_chunks_equals_autograds(monkeypatch):
    """Two chunks and a ragged one; channels differ; in float64, so that nothing hides in the rounding."""
    monkeypatch.setattr(maps, "CHUNK", 16 * 6 * 4 * 8)  # of the first modality
    torch.manual_seed(0)
    count, channels = 2 * 16 + 3, (6, 5, 4)
    gates = [torch.randn(count, c, dtype=torch.float64, requires_grad=True) for c in channels]
    features = [Feature(torch.rand(count, len(g[0]), 2, 2, dtype=torch.float64)).times(g).plus(g * g) for g in gates]
    layers = [nn.Linear(c, 3).double() for c in channels]
    leaves = gates + [p for layer in layers for p in layer.parameters()]
    products, expected = gram(features, layers), plain_gram(features, layers)
    assert list(products) == [(0, 0), (0, 1), (0, 2), (1, 1), (1, 2), (2, 2)]
    outer = {key: torch.randn_like(x) for key, x in expected.items()}
    mine, theirs = (
        torch.autograd.grad(sum((x[k] * outer[k]).sum() for k in outer), leaves, retain_graph=True) for x in (products, expected)
    )
    for a, b in zip([*products.values(), *mine], [*expected.values(), *theirs], strict=True):
        torch.testing.assert_close(a, b, atol=1e-10, rtol=1e-10)


def test_gram_in_bfloat16_is_close_and_not_equal():
    torch.manual_seed(0)
    gain, shift = (vectors(3, 32, seed=s).requires_grad_() for s in (5, 6))
    features = [Feature(channels_last(3, 32, 7, 7, seed=s)).times(gain).plus(shift) for s in (0, 1)]
    layers = [nn.Linear(32, 16), nn.Linear(32, 16)]
    leaves = [gain, shift, *(p for layer in layers for p in layer.parameters())]
    exact = gram(features, layers)
    outer = {key: torch.randn_like(x) for key, x in exact.items()}
    with torch.autocast("cpu", torch.bfloat16):
        rough = gram(features, layers)
    of_exact, of_rough = (torch.autograd.grad(sum((x[k] * outer[k]).sum() for k in outer), leaves) for x in (exact, rough))
    assert all(x.dtype == torch.float32 for x in (*rough.values(), *of_rough))
    for a, b in zip([*rough.values(), *of_rough], [*exact.values(), *of_exact], strict=True):
        assert not torch.equal(a, b) and float((a - b).detach().norm()) < 0.02 * float(b.detach().norm())


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
    anchor_classes, other_classes, tau = [0, 1, 2, -1], [0, 0, 1, -1, 3, 1], 0.5
    x, y = (v.double().numpy() / np.linalg.norm(v.double().numpy(), axis=1, keepdims=True) for v in (a, b))
    losses = []
    for i, k in enumerate(anchor_classes):
        labelled = [j for j, other in enumerate(other_classes) if other >= 0]
        positive = [j for j in labelled if other_classes[j] == k]
        if k >= 0 and positive:
            total = sum(math.exp(x[i] @ y[j] / tau) for j in labelled)
            losses.append(-np.mean([math.log(math.exp(x[i] @ y[j] / tau) / total) for j in positive]))
    loss = same_class_nce(a, torch.tensor(anchor_classes), b, torch.tensor(other_classes), tau)
    assert len(losses) == 2 and float(loss) == pytest.approx(np.mean(losses), rel=1e-5)
    a.requires_grad_()
    nothing = same_class_nce(a, torch.tensor([-1] * 4), b, torch.tensor(other_classes), tau)
    assert float(nothing.detach()) == 0 and not torch.autograd.grad(nothing, a)[0].any()
    (gradient,) = torch.autograd.grad(same_class_nce(a, torch.tensor(anchor_classes), b, torch.tensor(other_classes), tau), a)
    assert torch.isfinite(gradient).all() and gradient.any(1).tolist() == [True, True, False, False]


def test_info_nce_is_symmetric_and_falls_when_pairs_agree():
    a, b = vectors(5, 8), vectors(5, 8, seed=1)
    assert float(info_nce(a, b, 0.1)) == pytest.approx(float(info_nce(b, a, 0.1)), rel=1e-6)
    assert float(info_nce(3 * a, a, 0.1)) == pytest.approx(float(info_nce(a, a, 0.1)), rel=1e-5)  # lengths do not matter
    assert float(info_nce(a, a, 0.1)) < float(info_nce(a, b, 0.1)) and float(info_nce(a, a.roll(1, 0), 0.1)) > math.log(5)
