import numpy as np
import pytest
import torch
from cia_adapt.modules.gradient_reversal import reverse_gradient
from cia_adapt.modules.mc import MODES, MutualComplementarity
from cia_adapt.modules.pooling import average_pool, weighted_pool
from cia_adapt.modules.sc import SpatialConsensus, multi_scale_correlation
from cia_adapt.modules.temporal import tsn_consensus
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

SEEDS = st.integers(0, 2**16)


def maps(seed: int, batch: int = 2, channels: int = 32) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {m: torch.rand(batch, channels, 7, 7, generator=generator) for m in ("rgb", "flow")}


def shaken(module: torch.nn.Module, seed: int) -> torch.nn.Module:
    """The module with all parameters drawn at random: as after some training."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator))
    return module


# --- MC -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=10, deadline=None)
@given(seed=SEEDS)
def test_mc_starts_as_the_identity(mode, seed):
    torch.manual_seed(seed)
    mc = MutualComplementarity(("rgb", "flow"), 32, ratio=4, mode=mode)
    inputs = maps(seed)
    for modality, refined in mc(inputs).items():
        assert torch.equal(refined, inputs[modality])


@settings(max_examples=20, deadline=None)
@given(seed=SEEDS)
def test_mc_gates_lie_between_minus_one_and_one(seed):
    mc = shaken(MutualComplementarity(("rgb", "flow"), 32, ratio=4), seed)
    squeezed = {m: average_pool(x) for m, x in maps(seed).items()}
    gate = mc.gate("rgb", "flow", squeezed)
    assert gate.shape == (2, 32) and (gate.abs() <= 1).all() and gate.abs().max() > 0


def slow_mc(mc: MutualComplementarity, inputs: dict[str, Tensor]) -> dict[str, np.ndarray]:
    """MC by its formula in numpy, one clip, channel and cell at a time."""
    x = {m: v.double().numpy() for m, v in inputs.items()}
    z = {m: v.mean((2, 3)) if v.ndim == 4 else v for m, v in x.items()}
    result = {}
    for r in x:
        out = x[r].copy()
        total = np.zeros_like(out)
        senders = [m for m in x if m != r]
        for s in senders:
            first, _, last = mc.gates[f"{r}_from_{s}"]
            w1, b1, w2, b2 = (p.detach().double().numpy() for p in (first.weight, first.bias, last.weight, last.bias))
            for b in range(len(out)):
                hidden = np.maximum(w1 @ np.concatenate([z[r][b], z[s][b]]) + b1, 0)
                gate = 2 / (1 + np.exp(-(w2 @ hidden + b2))) - 1
                for c in range(out.shape[1]):
                    evidence = {"recalibrate": out[b, c], "inject_vec": z[s][b, c], "inject_map": x[s][b, c]}[mc.mode]
                    total[b, c] += gate[c] * evidence / len(senders)
        result[r] = out + total
    return result


@pytest.mark.parametrize("mode", MODES)
def test_mc_equals_its_formula(mode):
    mc = shaken(MutualComplementarity(("rgb", "flow"), 32, ratio=4, mode=mode), 3)
    with torch.no_grad():
        for parameter in mc.parameters():
            parameter.mul_(0.1)
    inputs = maps(5)
    for modality, expected in slow_mc(mc, inputs).items():
        np.testing.assert_allclose(mc(inputs)[modality].detach().numpy(), expected, atol=1e-5)


def test_mc_with_a_vector_modality_and_three_in_all():
    mc = shaken(MutualComplementarity(("rgb", "flow", "audio"), 32, ratio=4), 3)
    with torch.no_grad():
        for parameter in mc.parameters():
            parameter.mul_(0.1)
    inputs = maps(1) | {"audio": torch.rand(2, 32)}
    refined = mc(inputs)
    assert refined["audio"].shape == (2, 32) and refined["rgb"].shape == (2, 32, 7, 7)
    for modality, expected in slow_mc(mc, inputs).items():
        np.testing.assert_allclose(refined[modality].detach().numpy(), expected, atol=1e-5)


def test_mc_parameters_and_refusals():
    assert sum(p.numel() for p in MutualComplementarity(("rgb", "flow")).parameters()) == 788_736
    with pytest.raises(ValueError, match="needs two"):
        MutualComplementarity(("rgb",))
    with pytest.raises(ValueError, match="choose from recalibrate"):
        MutualComplementarity(("rgb", "flow"), mode="nonsense")


# --- SC -----------------------------------------------------------------------------------------------------------------


def slow_correlation(a: np.ndarray, b: np.ndarray, scale: int) -> np.ndarray:
    """c_κ of [E, 7, 7] maps by loops: unit vectors, box means over valid cells, cosine."""
    unit = [x / np.linalg.norm(x, axis=0, keepdims=True) for x in (a, b)]
    front, back = (scale - 1) // 2, scale // 2
    out = np.zeros((7, 7))
    for i in range(7):
        for j in range(7):
            rows, columns = slice(max(i - front, 0), i + back + 1), slice(max(j - front, 0), j + back + 1)
            first, second = (u[:, rows, columns].mean((1, 2)) for u in unit)
            out[i, j] = first @ second / np.linalg.norm(first) / np.linalg.norm(second)
    return out


@pytest.mark.parametrize("scale", [1, 2, 3, 4])
def test_correlation_equals_slow_loops(scale):
    generator = torch.Generator().manual_seed(scale)
    first, second = (torch.randn(2, 16, 7, 7, generator=generator) for _ in range(2))
    cells = [x.flatten(2).transpose(1, 2) for x in (first, second)]
    ours = multi_scale_correlation(*cells, scale, 7, 7)[:, scale - 1].unflatten(1, (7, 7))
    for clip in range(2):
        expected = slow_correlation(first[clip].double().numpy(), second[clip].double().numpy(), scale)
        np.testing.assert_allclose(ours[clip].numpy(), expected, atol=1e-5)
    assert (ours.abs() <= 1 + 1e-5).all()


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS, scales=st.integers(1, 4), embedding=st.sampled_from([0, 8]))
def test_consensus_map_is_normalised(seed, scales, embedding):
    sc = shaken(SpatialConsensus(("rgb", "flow"), 32, embedding, scales), seed)
    consensus = sc.consensus(maps(seed))
    assert consensus.shape == (2, 7, 7) and (consensus >= 0).all()
    torch.testing.assert_close(consensus.sum((1, 2)), torch.ones(2))


@settings(max_examples=15, deadline=None)
@given(seed=SEEDS)
def test_swapping_the_modalities_leaves_the_map_unchanged(seed):
    sc = shaken(SpatialConsensus(("rgb", "flow"), 32, 8), seed)
    swapped = SpatialConsensus(("rgb", "flow"), 32, 8)
    swapped.embed["rgb"].load_state_dict(sc.embed["flow"].state_dict())
    swapped.embed["flow"].load_state_dict(sc.embed["rgb"].state_dict())
    inputs = maps(seed)
    torch.testing.assert_close(sc.consensus(inputs), swapped.consensus({"rgb": inputs["flow"], "flow": inputs["rgb"]}))


def test_a_uniform_map_is_average_pooling():
    """Maps that agree everywhere (equal up to scale, identity embedding) give a uniform S, and so the plain mean."""
    inputs = maps(4)
    inputs["flow"] = 3 * inputs["rgb"]
    pooled, consensus = SpatialConsensus(("rgb", "flow"), 32, embedding=0)(inputs)
    torch.testing.assert_close(consensus, torch.full((2, 7, 7), 1 / 49))
    for modality, values in pooled.items():
        torch.testing.assert_close(values, inputs[modality].mean((2, 3)))
    torch.testing.assert_close(weighted_pool(inputs["rgb"], torch.full((2, 7, 7), 1 / 49)), inputs["rgb"].mean((2, 3)))


def test_one_scale_is_equivariant_to_a_joint_permutation_of_cells_and_three_are_not():
    inputs = maps(8)
    order = torch.randperm(49, generator=torch.Generator().manual_seed(0))
    permuted = {m: x.flatten(2)[:, :, order].view_as(x) for m, x in inputs.items()}
    for scales, equal in ((1, True), (3, False)):
        sc = shaken(SpatialConsensus(("rgb", "flow"), 32, 8, scales), 1)
        expected = sc.consensus(inputs).flatten(1)[:, order]
        assert torch.allclose(sc.consensus(permuted).flatten(1), expected, atol=1e-6) == equal


def test_consensus_falls_where_the_modalities_agree():
    """Identity embedding, agreement in one corner alone: that corner gets the weight."""
    inputs = maps(2, channels=64)
    inputs = {m: x - 0.5 for m, x in inputs.items()}
    inputs["flow"][:, :, :3, :3] = inputs["rgb"][:, :, :3, :3]
    consensus = SpatialConsensus(("rgb", "flow"), 64, embedding=0, temperature=0.1).consensus(inputs)
    assert (consensus[:, :2, :2].sum((1, 2)) > 0.5).all()


def test_memory_format_does_not_change_the_numbers():
    sc, inputs = shaken(SpatialConsensus(("rgb", "flow"), 32, 8), 1), maps(6)
    last = {m: x.contiguous(memory_format=torch.channels_last) for m, x in inputs.items()}
    torch.testing.assert_close(sc.consensus(inputs), sc.consensus(last))


def test_sc_survives_cells_that_are_zero():
    """Maps behind a ReLU have dead cells; their gradient must stay finite."""
    inputs = maps(1)
    inputs["rgb"][:, :, 2:5, 2:5] = 0
    inputs["rgb"].requires_grad_()
    sc = SpatialConsensus(("rgb", "flow"), 32, embedding=0)
    sc(inputs)[0]["rgb"].sum().backward()
    assert torch.isfinite(inputs["rgb"].grad).all()


def test_sc_parameters():
    assert sum(p.numel() for p in SpatialConsensus(("rgb", "flow")).parameters()) == 1_049_600


# --- gradient reversal, TSN ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize("strength", [0.0, 0.1, 1.0, 10.0])
def test_gradient_reversal_flips_and_scales(strength):
    x = torch.randn(5, 3, requires_grad=True)
    target = torch.randn(5, 3)
    (plain,) = torch.autograd.grad(((x - target) ** 2).sum(), x)
    y = reverse_gradient(x, strength)
    assert torch.equal(y, x)
    (reversed_,) = torch.autograd.grad(((y - target) ** 2).sum(), x)
    torch.testing.assert_close(reversed_, -strength * plain)


def test_permuting_frames_leaves_tsn_unchanged():
    frames = torch.randn(4, 5, 16)
    torch.testing.assert_close(tsn_consensus(frames[:, torch.tensor([3, 0, 4, 1, 2])]), tsn_consensus(frames))
