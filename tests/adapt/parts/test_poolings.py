from collections.abc import Callable

import numpy as np
import pytest
import torch
from cia_adapt import parts
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature
from cia_adapt.parts.poolings import att, att_flow, avg, tada
from cia_adapt.parts.poolings import max as max_pooling
from cia_adapt.parts.poolings.sc import Options, SpatialConsensus
from cia_adapt.parts.refinements import mc
from cia_extract.common.errors import UsageError
from torch import Tensor, nn

from tests.adapt.shake import shaken

SCORINGS = ("pool", "patch", "window_max")
HEIGHT, WIDTH = 4, 5
GRID = (HEIGHT, WIDTH)
CELLS = [(i, j) for i in range(HEIGHT) for j in range(WIDTH)]
BOTH = ("rgb", "flow")


def features(seed: int = 0, channels: int = 8, modalities=BOTH, audio: bool = False, gated: bool = False) -> dict[str, Feature]:
    """Maps, an audio vector of 4 channels; `gated`: with gains and shifts that wait."""
    generator = torch.Generator().manual_seed(seed)
    by_modality = {m: Feature(torch.rand(2, channels, HEIGHT, WIDTH, generator=generator)) for m in modalities}
    by_modality |= {"audio": Feature(torch.rand(2, 4, generator=generator))} if audio else {}
    if not gated:
        return by_modality
    gates = {m: torch.randn(2, 2, f.data.shape[1], generator=generator) for m, f in by_modality.items()}
    return {m: f.times(gates[m][0]).plus(gates[m][1]) for m, f in by_modality.items()}


def numpy_maps(inputs: dict[str, Feature], clip: int) -> dict[str, np.ndarray]:
    return {m: f.dense()[clip].detach().double().numpy() for m, f in inputs.items() if f.is_map}


# --- SC -------------------------------------------------------------------------------------------------------------------


def consensus_of(inputs: dict[str, Feature], **options) -> SpatialConsensus:
    torch.manual_seed(0)
    return SpatialConsensus({m: f.data.shape[1] for m, f in inputs.items() if f.is_map}, Options(**({"embedding": 4} | options)))


def slow_units(sc: SpatialConsensus, modality: str, maps: np.ndarray) -> np.ndarray:
    """[E, H, W] of one clip: embedded, each cell of length one."""
    if sc.options.embedding:
        weight, bias = (p.detach().double().numpy() for p in sc.embed[modality].parameters())
        maps = np.einsum("ec,chw->ehw", weight, maps) + bias[:, None, None]
    return maps / np.linalg.norm(maps, axis=0)


def box(i: int, j: int, k: int) -> list[tuple[int, int]]:
    """Cells of the k×k box around (i, j), one further to the right and bottom where k is even."""
    near = range(-((k - 1) // 2), k // 2 + 1)
    return [(i + a, j + b) for a in near for b in near if (i + a, j + b) in CELLS]


def slow_score(a: np.ndarray, b: np.ndarray, i: int, j: int, k: int, scoring: str) -> float:
    cells = box(i, j, k)
    if scoring == "pool":
        u, v = (sum(x[:, p, q] for p, q in cells) / len(cells) for x in (a, b))
        return float(u @ v / np.sqrt((u @ u) * (v @ v)))
    if scoring == "patch":
        return float(sum(a[:, p, q] @ b[:, p, q] for p, q in cells) / len(cells))
    return float(max(a[:, i, j] @ b[:, p, q] for p, q in cells) + max(a[:, p, q] @ b[:, i, j] for p, q in cells)) / 2


def slow_map(sc: SpatialConsensus, maps: dict[str, np.ndarray]) -> np.ndarray:
    """S [H, W] of one clip, pair by pair, cell by cell, scale by scale."""
    units, names, k = {m: slow_units(sc, m, x) for m, x in maps.items()}, list(maps), sc.options.scales
    pairs = [(a, b) for n, a in enumerate(names) for b in names[n + 1 :]]
    scores = np.zeros(GRID)
    for a, b in pairs:
        for i, j in CELLS:
            for scale in range(1, k + 1):
                scores[i, j] += slow_score(units[a], units[b], i, j, scale, sc.options.scoring) / len(pairs)
    weights = np.exp(scores / (k * sc.options.temperature))
    return weights / weights.sum()


def test_boxes_reach_one_further_to_the_right_and_bottom_where_even():
    assert box(1, 1, 1) == [(1, 1)] and box(1, 1, 2) == [(1, 1), (1, 2), (2, 1), (2, 2)]
    assert box(HEIGHT - 1, WIDTH - 1, 2) == [(HEIGHT - 1, WIDTH - 1)] and len(box(0, 0, 3)) == 4 and len(box(1, 1, 3)) == 9


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("embedding", [4, 0])
@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("scoring", SCORINGS)
def test_sc_equals_slow_loops(scoring, scales, embedding, gated):
    inputs = features(1, gated=gated)
    sc = consensus_of(inputs, scoring=scoring, scales=scales, embedding=embedding, temperature=0.2)
    pooled = sc(inputs)
    for clip in range(2):
        maps = numpy_maps(inputs, clip)
        expected = slow_map(sc, maps)
        np.testing.assert_allclose(pooled.weights[clip].detach().numpy(), expected, atol=2e-5)
        for m in maps:
            np.testing.assert_allclose(pooled.vectors[m][clip].detach().numpy(), (maps[m] * expected).sum((1, 2)), atol=1e-4)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_sc_with_boxes_larger_than_the_grid(scoring):
    inputs = features(8)
    sc = consensus_of(inputs, scoring=scoring, scales=7)
    np.testing.assert_allclose(sc(inputs).weights[1].detach().numpy(), slow_map(sc, numpy_maps(inputs, 1)), atol=2e-5)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_sc_with_three_maps_is_the_mean_over_pairs(scoring):
    inputs = features(2, modalities=("rgb", "flow", "depth"))
    sc = consensus_of(inputs, scales=2, scoring=scoring)
    np.testing.assert_allclose(sc(inputs).weights[0].detach().numpy(), slow_map(sc, numpy_maps(inputs, 0)), atol=2e-5)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_sc_is_normalised_and_does_not_mind_the_order_of_modalities(scoring):
    inputs = features(3, modalities=("rgb", "flow", "depth"), gated=True)
    swapped_inputs = dict(reversed(inputs.items()))
    sc, swapped = consensus_of(inputs, scoring=scoring), consensus_of(swapped_inputs, scoring=scoring)
    swapped.load_state_dict(sc.state_dict())
    weights = sc(inputs).weights
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2))
    assert (weights >= 0).all() and float(weights.detach().std()) > 1e-3
    torch.testing.assert_close(swapped(swapped_inputs).weights, weights)
    exchanged = {"rgb": inputs["flow"], "flow": inputs["rgb"], "depth": inputs["depth"]}
    assert not torch.allclose(sc(exchanged).weights, weights, atol=1e-4)  # θ did not go with them


@pytest.mark.parametrize("embedding", [4, 0])
@pytest.mark.parametrize("scoring", SCORINGS)
def test_equal_maps_up_to_scale_give_average_pooling(scoring, embedding):
    inputs = features(4)
    inputs["flow"] = Feature(inputs["rgb"].data * 3)
    sc = consensus_of(inputs, scoring=scoring, embedding=embedding)
    if embedding:
        with torch.no_grad():
            sc.embed["rgb"].bias.zero_()
        sc.embed["flow"].load_state_dict(sc.embed["rgb"].state_dict())
    torch.testing.assert_close(sc(inputs).weights, torch.full((2, *GRID), 1 / len(CELLS)))
    for m in BOTH:
        torch.testing.assert_close(sc(inputs).vectors[m], avg.AveragePooling()(inputs).vectors[m])


def test_the_map_of_one_scale_moves_with_the_cells():
    inputs, order = features(5), torch.randperm(len(CELLS), generator=torch.Generator().manual_seed(0))
    moved = {m: Feature(f.data.flatten(2)[:, :, order].unflatten(2, GRID)) for m, f in inputs.items()}
    for scales, same in ((1, True), (3, False)):
        sc = consensus_of(inputs, scales=scales)
        moves = torch.allclose(sc(moved).weights.flatten(1), sc(inputs).weights.flatten(1)[:, order], atol=1e-6)
        assert moves == same


def test_a_smaller_temperature_makes_a_sharper_map():
    inputs = features(6)
    largest = [consensus_of(inputs, temperature=t)(inputs).weights.amax((1, 2)) for t in (1.0, 0.1, 0.01)]
    assert (largest[0] < largest[1]).all() and (largest[1] < largest[2]).all()


def test_sc_trains_its_temperature_if_told_to_and_leaves_vectors_alone():
    inputs = features(6, audio=True)
    sc = consensus_of(inputs, learn_temperature=True, temperature=0.2)
    pooled = sc(inputs)
    torch.testing.assert_close(pooled.weights, consensus_of(inputs, temperature=0.2)(inputs).weights)
    assert torch.equal(pooled.vectors["audio"], inputs["audio"].data) and list(pooled.vectors) == ["rgb", "flow", "audio"]
    pooled.vectors["rgb"].square().sum().backward()
    at = [consensus_of(inputs, temperature=0.2 * np.exp(d))(inputs).vectors["rgb"].square().sum() for d in (-0.05, 0.05)]
    assert float(sc.log_temperature.grad) == pytest.approx(float((at[1] - at[0]).detach()) / 0.1, rel=0.02)
    assert sc.embed["flow"].weight.grad.abs().sum() > 0
    assert not [name for name, _ in consensus_of(inputs).named_parameters() if "temperature" in name]


@pytest.mark.parametrize("scoring", SCORINGS)
def test_cells_of_zeros_agree_with_nothing_and_keep_the_gradient_finite(scoring):
    """Features behind a ReLU may be all zero in a cell: its cosine at one scale is 0."""
    inputs = features(7)
    inputs["rgb"].data[:, :, 1, 2] = 0
    gain = torch.ones(2, 8, requires_grad=True)
    sc = consensus_of(inputs, embedding=0, scales=1, scoring=scoring)
    weights = sc({"rgb": inputs["rgb"].times(gain), "flow": inputs["flow"]}).weights
    a, b = (x / np.maximum(np.linalg.norm(x, axis=0), 1e-30) for x in numpy_maps(inputs, 0).values())
    expected = np.exp((a * b).sum(0) / 0.1)
    np.testing.assert_allclose(weights[0].detach().numpy(), expected / expected.sum(), atol=1e-5)
    weights.square().sum().backward()
    assert torch.isfinite(gain.grad).all() and gain.grad.any()


@pytest.mark.parametrize("scoring", SCORINGS)
def test_scs_map_in_bfloat16_is_close_to_float32s(scoring):
    inputs = features(9, channels=32)
    sc = consensus_of(inputs, embedding=16, scoring=scoring)
    exact = sc(inputs)
    with torch.autocast("cpu", torch.bfloat16):
        rough = sc(inputs)
    assert rough.weights.dtype == torch.float32 and not torch.equal(rough.weights, exact.weights)
    torch.testing.assert_close(rough.weights, exact.weights, rtol=0.05, atol=0)
    for m in BOTH:
        torch.testing.assert_close(rough.vectors[m].float(), exact.vectors[m], rtol=0.02, atol=0.01)


def numeric_gradient(function: Callable[[], Tensor], parameter: Tensor, step: float = 1e-6) -> Tensor:
    """Central differences, one entry at a time."""
    gradient, flat = torch.zeros_like(parameter), parameter.detach().view(-1)
    with torch.no_grad():
        for i in range(len(flat)):
            start = float(flat[i])
            ends = []
            for side in (1, -1):
                flat[i] = start + side * step
                ends.append(float(function()))
            flat[i] = start
            gradient.view(-1)[i] = (ends[0] - ends[1]) / (2 * step)
    return gradient


@pytest.mark.parametrize("embedding", [2, 0])
@pytest.mark.parametrize("variant", ["a", "c", "e"])
@pytest.mark.parametrize("mode", ["recalibrate", "inject_vec", "inject_map"])
def test_the_gradient_of_scs_map_reaches_mc(mode, variant, embedding):
    """MC's gates are trained through what SC makes of the maps they refined; in float64, against differences."""
    channels = {"rgb": 4, "flow": 4}
    torch.manual_seed(0)
    refine = shaken(mc.MutualComplementarity(channels, mc.Options(2, mode, variant))).double()
    sc = SpatialConsensus(channels, Options(scales=2, embedding=embedding, temperature=0.5)).double()
    inputs = {m: Feature(f.data.double()) for m, f in features(0, channels=4).items()}
    outer = torch.randn(2, *GRID, dtype=torch.float64)

    def loss() -> Tensor:
        return (sc(refine(inputs)).weights * outer).sum()

    bias = refine.gates["rgb_from_flow"][2].bias
    gradient = torch.zeros_like(bias)
    value = loss()
    if value.requires_grad:
        (given,) = torch.autograd.grad(value, bias, allow_unused=True)
        gradient = gradient if given is None else given
    expected = numeric_gradient(loss, bias)
    assert float(expected.abs().max()) > 1e-4
    torch.testing.assert_close(gradient, expected, atol=1e-7, rtol=1e-4)


def test_sc_counts_its_parameters_and_refuses_wrong_settings():
    assert sum(p.numel() for p in SpatialConsensus({"rgb": 1024, "flow": 1024}).parameters()) == 1_049_600
    assert not list(SpatialConsensus({"rgb": 8, "flow": 8}, Options(embedding=0)).parameters())
    for channels, options, message in (
        ({}, Options(), "needs two, here: none"),
        ({"rgb": 8}, Options(), "needs two, here: rgb"),
        ({"rgb": 8, "flow": 6}, Options(embedding=0), "without an embedding the modalities need equal channels"),
    ):
        with pytest.raises(UsageError, match=message):
            SpatialConsensus(channels, options)
    unlike = {"rgb": Feature(features(0)["rgb"].data), "flow": Feature(features(0, channels=6)["flow"].data)}
    weights = consensus_of(unlike)(unlike).weights
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2))


def test_sc_is_built_for_the_modalities_that_have_maps():
    sizes = Sizes({"rgb": 8, "flow": 6, "audio": 4}, {"rgb": GRID, "flow": GRID}, (3,), 5, 0.0)
    assert parts.find("poolings", "sc").build(sizes, Options()).modalities == BOTH
    with pytest.raises(UsageError, match="needs two, here: rgb"):
        parts.find("poolings", "sc").build(Sizes({"rgb": 8, "audio": 4}, {"rgb": GRID}, (3,), 5, 0.0), Options())


@pytest.mark.parametrize("part", ["sc", "att_flow"])
def test_maps_of_unlike_grids_are_refused(part):
    inputs = {"rgb": Feature(torch.rand(2, 8, 7, 7)), "flow": Feature(torch.rand(2, 8, 5, 5))}
    sizes = Sizes({"rgb": 8, "flow": 8}, {"rgb": (7, 7), "flow": (5, 5)}, (3,), 5, 0.0)
    with pytest.raises(UsageError):
        parts.find("poolings", part).build(sizes, parts.options("poolings", part, {}))(inputs)


# --- the other poolings ---------------------------------------------------------------------------------------------------


def test_average_and_max():
    inputs = features(0, gated=True) | {"audio": Feature(torch.rand(2, 4))}
    for module, reduce in ((avg.AveragePooling(), np.mean), (max_pooling.MaxPooling(), np.max)):
        pooled = module(inputs)
        assert pooled.weights is None and list(pooled.vectors) == ["rgb", "flow", "audio"]
        for clip in range(2):
            for m, maps in numpy_maps(inputs, clip).items():
                expected = [reduce([maps[c, i, j] for i, j in CELLS]) for c in range(8)]
                np.testing.assert_allclose(pooled.vectors[m][clip].numpy(), expected, atol=1e-5)
        assert torch.equal(pooled.vectors["audio"], inputs["audio"].data)


def slow_gate(gate: att.SpatialGate, planes: list[np.ndarray]) -> np.ndarray:
    """σ(BN(conv)) of one clip's planes [H, W], cell by cell, batch normalisation in evaluation."""
    convolution, norm = gate.layers
    kernel = convolution.weight[0].detach().double().numpy()
    reach, out = kernel.shape[1] // 2, np.zeros(GRID)
    for i, j in CELLS:
        for plane, weights in zip(planes, kernel, strict=True):
            for a in range(-reach, reach + 1):
                for b in range(-reach, reach + 1):
                    if (i + a, j + b) in CELLS:
                        out[i, j] += weights[reach + a, reach + b] * plane[i + a, j + b]
    mean, var = float(norm.running_mean), float(norm.running_var)
    out = (out - mean) / np.sqrt(var + 1e-5) * norm.weight.item() + norm.bias.item()
    return 1 / (1 + np.exp(-out))


def shaken_gates(module: nn.Module) -> nn.Module:
    shaken(module)
    for gate in module.gates.values():
        gate.layers[1].running_mean.fill_(0.3)
        gate.layers[1].running_var.fill_(2.0)
    return module.eval()


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("kernel", [3, 7])
@pytest.mark.parametrize("guided", [False, True])
def test_attention_equals_slow_loops(guided, kernel, gated):
    inputs = features(1, audio=True, gated=gated)
    kind = att_flow.GuidedAttention if guided else att.Attention
    module = shaken_gates(kind(BOTH, kernel))
    pooled = module(inputs).vectors
    for clip in range(2):
        maps = numpy_maps(inputs, clip)
        guide = slow_gate(module.gates["flow"], [maps["flow"].max(0), maps["flow"].mean(0)])
        further = [guide] if guided else []
        attention = {"flow": guide, "rgb": slow_gate(module.gates["rgb"], [maps["rgb"].max(0), maps["rgb"].mean(0), *further])}
        for m, x in maps.items():
            np.testing.assert_allclose(pooled[m][clip].detach().numpy(), (x * attention[m]).mean((1, 2)), atol=1e-5)
    assert torch.equal(pooled["audio"], inputs["audio"].average()) and list(pooled) == ["rgb", "flow", "audio"]


def test_attention_has_cbams_layers():
    """As in the authors' code: 7×7, two planes to one, without a bias; batch normalisation of eps 1e-5 and momentum 0.01."""
    sizes = Sizes({"rgb": 8, "flow": 8, "audio": 4}, {"rgb": GRID, "flow": GRID}, (3,), 5, 0.0)
    module = att.build(sizes, att.Options())
    assert set(module.gates) == set(BOTH) and sum(p.numel() for p in module.parameters()) == 2 * (2 * 49 + 2)
    assert (module.gates["rgb"].layers[1].eps, module.gates["rgb"].layers[1].momentum) == (1e-5, 0.01)
    guided = att_flow.build(sizes, att_flow.Options())
    assert sum(p.numel() for p in guided.parameters()) == (2 + 3) * 49 + 4  # the third plane is flow's attention


def test_attention_by_flow_needs_flow():
    with pytest.raises(UsageError, match="flow guides another modality, and both need maps; modalities with maps: rgb"):
        att_flow.GuidedAttention(("rgb",))
    with pytest.raises(UsageError, match="modalities with maps: flow"):
        att_flow.GuidedAttention(("flow",))


@pytest.mark.parametrize(("part", "kernel"), [("att", 4), ("att", 0), ("att_flow", 2)])
def test_an_even_kernel_is_refused_in_one_line(part, kernel):
    sizes = Sizes({"rgb": 8, "flow": 8}, {"rgb": GRID, "flow": GRID}, (3,), 5, 0.0)
    with pytest.raises(UsageError, match=rf"{part}\.kernel={kernel}"):
        parts.find("poolings", part).build(sizes, parts.options("poolings", part, {"kernel": kernel}))(features(0))


def slow_discriminator(d: tada.CellDiscriminators, cell: np.ndarray, i: int) -> np.ndarray:
    w1, b1, w2, b2 = (p.detach().double().numpy() for p in (d.first, d.first_bias, d.last, d.last_bias))
    return np.maximum(cell @ w1[i] + b1[i, 0], 0) @ w2[i] + b2[i, 0]


@pytest.mark.parametrize("gated", [False, True])
def test_tada_equals_slow_loops(gated):
    inputs = features(2, audio=True, gated=gated)
    sizes = Sizes({"rgb": 8, "flow": 8, "audio": 4}, {"rgb": GRID, "flow": GRID}, (3,), 5, 0.0)
    module = shaken(tada.build(sizes, tada.Options(3)))
    pooled = module(inputs)
    assert {level: tuple(x.shape) for level, x in pooled.domain_logits.items()} == {
        "region_rgb": (2, len(CELLS), 2),
        "region_flow": (2, len(CELLS), 2),
    }
    for clip in range(2):
        for m, maps in numpy_maps(inputs, clip).items():
            total = np.zeros(8)
            for number, (i, j) in enumerate(CELLS):
                logits = slow_discriminator(module.discriminators[m], maps[:, i, j], number)
                np.testing.assert_allclose(pooled.domain_logits[f"region_{m}"][clip, number].detach(), logits, atol=1e-4)
                p = np.exp(logits) / np.exp(logits).sum()
                total += (1 + (1 + (p * np.log(p)).sum())) * maps[:, i, j] / len(CELLS)
            np.testing.assert_allclose(pooled.vectors[m][clip].detach().numpy(), total, atol=1e-4)
    assert torch.equal(pooled.vectors["audio"], inputs["audio"].average())


def test_an_untrained_discriminator_weighs_all_cells_equally():
    """H = ln 2 everywhere: (2 − ln 2) times the average."""
    inputs = features(3)
    module = tada.TransferableAttention({"rgb": 8, "flow": 8}, {"rgb": GRID, "flow": GRID})
    with torch.no_grad():
        for d in module.discriminators.values():
            d.last.zero_()
    torch.testing.assert_close(module(inputs).vectors["rgb"], 1.306853 * inputs["rgb"].average(), atol=1e-5, rtol=1e-5)


def test_tadas_discriminators_send_reversed_gradients_to_mcs_gates():
    """−strength times the gradient that they would send without reversal; their own is as it is."""
    channels = {"rgb": 8, "flow": 8}
    inputs = features(4)
    refine = shaken(mc.MutualComplementarity(channels, mc.Options(4)))
    module = shaken(tada.TransferableAttention(channels, {"rgb": GRID, "flow": GRID}, tada.Options(3, strength=0.5)), 1)
    gates, own = list(refine.parameters()), list(module.parameters())
    domain = torch.tensor([0, 1])[:, None].expand(2, len(CELLS)).flatten()

    def loss(logits: list[Tensor]) -> Tensor:
        return sum(nn.functional.cross_entropy(x.flatten(0, 1), domain) for x in logits)

    reversed_ = torch.autograd.grad(loss(list(module(refine(inputs)).domain_logits.values())), gates + own)
    refined = refine(inputs)
    straight = [module.discriminators[m](refined[m].dense().flatten(2).transpose(1, 2)) for m in BOTH]
    plain = torch.autograd.grad(loss(straight), gates + own)
    for mine, theirs in zip(reversed_[: len(gates)], plain[: len(gates)], strict=True):
        assert theirs.any()
        torch.testing.assert_close(mine, -0.5 * theirs, atol=1e-6, rtol=1e-4)
    for mine, theirs in zip(reversed_[len(gates) :], plain[len(gates) :], strict=True):
        torch.testing.assert_close(mine, theirs, atol=1e-6, rtol=1e-4)
