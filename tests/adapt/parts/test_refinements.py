import numpy as np
import pytest
import torch
from cia_adapt import parts
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature
from cia_adapt.parts.refinements import mmtm, none
from cia_adapt.parts.refinements.mc import MutualComplementarity, Options
from cia_extract.common.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

from tests.adapt.shake import shaken

MODES, VARIANTS = ("recalibrate", "inject_vec", "inject_map"), ("a", "c", "e")


def features(seed: int, channels: int = 16, audio: int = 0, gated: bool = False) -> dict[str, Feature]:
    """Maps of rgb and flow, an audio vector of so many channels; `gated`: with gains and shifts that wait."""
    generator = torch.Generator().manual_seed(seed)
    by_modality = {m: Feature(torch.rand(2, channels, 3, 4, generator=generator)) for m in ("rgb", "flow")}
    by_modality |= {"audio": Feature(torch.rand(2, audio, generator=generator))} if audio else {}
    if not gated:
        return by_modality
    gates = {m: torch.randn(2, 2, f.data.shape[1], generator=generator) for m, f in by_modality.items()}
    return {m: f.times(gates[m][0]).plus(gates[m][1]) for m, f in by_modality.items()}


def weights(layers: nn.Sequential) -> list[np.ndarray]:
    return [p.detach().double().numpy() for layer in (layers[0], layers[2]) for p in (layer.weight, layer.bias)]


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def slow_mc(mc: MutualComplementarity, inputs: dict[str, Feature]) -> dict[str, np.ndarray]:
    """By the formula, one clip, channel and cell at a time."""
    x = {m: f.dense().double().numpy() for m, f in inputs.items()}
    z = {m: v.mean((2, 3)) if v.ndim == 4 else v for m, v in x.items()}
    result = {}
    for r in x:
        senders = [m for m in x if m != r]
        out = x[r].copy()
        for b in range(len(out)):
            for s in senders:
                w1, b1, w2, b2 = weights(mc.gates[f"{r}_from_{s}"])
                seen = z[s][b] if mc.options.variant == "a" else np.concatenate([z[r][b], z[s][b]])
                gates = (2 * sigmoid(w2 @ np.maximum(w1 @ seen + b1, 0) + b2) - 1) / len(senders)
                for c in range(out.shape[1]):
                    if mc.options.variant != "e" and mc.options.mode == "recalibrate":
                        out[b, c] += gates[c] * x[r][b, c]
                        continue
                    sent = x[s][b, c] if mc.options.mode == "inject_map" and x[r].ndim == 4 else z[s][b, c]
                    if mc.options.variant == "e":
                        out[b, c] += gates[c] * x[r][b, c] + gates[out.shape[1] + c] * sent
                    else:
                        out[b, c] += gates[c] * sent
        result[r] = out
    return result


def check_mc(inputs: dict[str, Feature], options: Options) -> None:
    mc = shaken(MutualComplementarity({m: f.data.shape[1] for m, f in inputs.items()}, options), 3, 0.3)
    refined = mc(inputs)
    assert list(refined) == list(inputs)
    for modality, expected in slow_mc(mc, inputs).items():
        np.testing.assert_allclose(refined[modality].dense().detach().numpy(), expected, atol=1e-4)
        mean = expected.mean((2, 3)) if expected.ndim == 4 else expected
        np.testing.assert_allclose(refined[modality].average().detach().numpy(), mean, atol=1e-4)


@pytest.mark.parametrize("gated", [False, True])
@pytest.mark.parametrize("audio", [0, 16])
@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mode", MODES)
def test_mc_equals_its_formula(mode, variant, audio, gated):
    check_mc(features(5, audio=audio, gated=gated), Options(4, mode, variant))


@pytest.mark.parametrize("variant", ["a", "c"])
def test_mc_equals_its_formula_with_other_channels_in_the_audio(variant):
    check_mc(features(6, audio=6), Options(4, "recalibrate", variant))


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mode", MODES)
def test_a_refined_map_pools_as_its_gates_do(mode, variant):
    """Under any weights: Σ S(i) F̂(·, i) of the map that was made equals the pool of gates that wait."""
    inputs = features(7, gated=True)
    weights = torch.rand(2, 3, 4, generator=torch.Generator().manual_seed(0))
    for feature in shaken(MutualComplementarity({"rgb": 16, "flow": 16}, Options(4, mode, variant)), 3, 0.3)(inputs).values():
        by_hand = np.einsum("nchw,nhw->nc", feature.dense().detach().double().numpy(), weights.double().numpy())
        np.testing.assert_allclose(feature.pool(weights).detach().numpy(), by_hand, atol=1e-4)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize("mode", MODES)
@settings(max_examples=5, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_mc_starts_as_the_identity(mode, variant, seed):
    torch.manual_seed(seed)
    mc = MutualComplementarity({"rgb": 16, "flow": 16, "audio": 16}, Options(4, mode, variant))
    inputs = features(seed, audio=16)
    for modality, refined in mc(inputs).items():
        assert torch.equal(refined.dense(), inputs[modality].data)


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 2**16))
def test_mc_gates_lie_between_minus_one_and_one(seed):
    mc = shaken(MutualComplementarity({"rgb": 16, "flow": 16}, Options(4)), seed, 2.0)
    gate = mc.gate("rgb", "flow", {m: f.average() for m, f in features(seed).items()})
    assert gate.shape == (2, 16) and (gate.abs() <= 1).all() and gate.abs().max() > 0


def test_injecting_maps_is_injecting_vectors_under_average_pooling():
    inputs = features(1)
    vec, whole = (
        shaken(MutualComplementarity({"rgb": 16, "flow": 16}, Options(4, mode)), 3, 0.3) for mode in ("inject_vec", "inject_map")
    )
    for m in inputs:
        torch.testing.assert_close(vec(inputs)[m].average(), whole(inputs)[m].average(), atol=1e-5, rtol=1e-5)


def test_channels_may_differ_where_nothing_is_injected():
    inputs = {"rgb": Feature(torch.rand(2, 16, 7, 7)), "audio": Feature(torch.rand(2, 6))}
    refined = shaken(MutualComplementarity({"rgb": 16, "audio": 6}, Options(4)), 0, 0.3)(inputs)
    assert refined["rgb"].dense().shape == (2, 16, 7, 7) and refined["audio"].dense().shape == (2, 6)
    for modality, feature in refined.items():
        assert not torch.allclose(feature.dense(), inputs[modality].data)
    for options in (Options(mode="inject_vec"), Options(variant="e")):
        with pytest.raises(UsageError, match="needs equal channels, here are rgb 16, audio 6"):
            MutualComplementarity({"rgb": 16, "audio": 6}, options)
    with pytest.raises(UsageError, match="MC exchanges between modalities and needs two"):
        MutualComplementarity({"rgb": 16})
    with pytest.raises(UsageError, match="MMTM exchanges between modalities and needs two"):
        mmtm.MultimodalTransfer({"rgb": 16})


@pytest.mark.parametrize("part", ["mc", "mmtm"])
def test_a_ratio_of_zero_is_refused_in_one_line(part):
    sizes = Sizes({"rgb": 16, "flow": 16}, {}, (3,), 5, 0.0)
    with pytest.raises(UsageError, match="ratio"):
        parts.find("refinements", part).build(sizes, parts.options("refinements", part, {"ratio": 0}))


def test_maps_of_unlike_grids_cannot_be_injected():
    inputs = {"rgb": Feature(torch.rand(2, 16, 7, 7)), "flow": Feature(torch.rand(2, 16, 5, 5))}
    sizes = Sizes({"rgb": 16, "flow": 16}, {"rgb": (7, 7), "flow": (5, 5)}, (3,), 5, 0.0)
    assert parts.find("refinements", "mc").build(sizes, Options(mode="inject_vec"))(inputs)["flow"].dense().shape[2:] == (5, 5)
    with pytest.raises(UsageError):
        parts.find("refinements", "mc").build(sizes, Options(mode="inject_map"))(inputs)


def test_no_refinement_is_the_identity():
    inputs = features(0, audio=4)
    refined = none.build(Sizes({}, {}, (3,), 5, 0.0), none.Options())(inputs)
    assert list(refined) == list(inputs) and all(refined[m] is f for m, f in inputs.items())


def count(module: nn.Module) -> int:
    return sum(p.numel() for p in module.parameters())


def test_parameters():
    """The table of `docs/reconstruction.md`."""
    two = {"rgb": 1024, "flow": 1024}
    counts = {v: count(MutualComplementarity(two, Options(variant=v))) for v in VARIANTS}
    assert counts == {"a": 264_320, "c": 788_736, "e": 1_052_928}
    assert count(mmtm.MultimodalTransfer(two, mmtm.Options(ratio=16))) == 1_050_880


@pytest.mark.parametrize("doubled", [False, True])
def test_mmtm_equals_its_formula(doubled):
    inputs = {"rgb": Feature(torch.rand(2, 12, 7, 7)), "audio": Feature(torch.rand(2, 8))}
    module = shaken(mmtm.MultimodalTransfer({"rgb": 12, "audio": 8}, mmtm.Options(4, doubled)), 2, 0.3)
    assert module.squeeze.out_features == 10
    z = np.concatenate([inputs["rgb"].data.double().numpy().mean((2, 3)), inputs["audio"].data.double().numpy()], axis=1)
    w, b = (p.detach().double().numpy() for p in module.squeeze.parameters())
    for m, x in inputs.items():
        wm, bm = (p.detach().double().numpy() for p in module.excite[m].parameters())
        for clip in range(2):
            gate = (2 if doubled else 1) * sigmoid(wm @ np.maximum(w @ z[clip] + b, 0) + bm)
            expected = x.data[clip].double().numpy() * (gate[:, None, None] if x.is_map else gate)
            np.testing.assert_allclose(module(inputs)[m].dense()[clip].detach().numpy(), expected, atol=1e-5)
    with pytest.raises(UsageError, match="nothing is left of 4 channels"):
        mmtm.MultimodalTransfer({"rgb": 2, "flow": 2}, mmtm.Options(16))


def test_refinements_know_no_domain():
    """A clip's refinement does not depend on what else is in the batch, nor on whether it is training; and no parameter or
    buffer is of anything but an ordered pair of modalities (MC), or of a modality (MMTM).
    """
    inputs = features(0)
    two = {"rgb": 16, "flow": 16}
    for module in (*(MutualComplementarity(two, Options(4, variant=v)) for v in VARIANTS), mmtm.MultimodalTransfer(two)):
        whole: Tensor = shaken(module.train(), 1, 0.3)(inputs)["rgb"].dense()
        alone = module.eval()({m: Feature(f.data[1:]) for m, f in inputs.items()})["rgb"].dense()
        torch.testing.assert_close(whole[1:], alone)
        owners = {name.rsplit(".", 2)[0] if "gates" in name else name.rsplit(".", 1)[0] for name in module.state_dict()}
        assert owners in (
            {"gates.rgb_from_flow", "gates.flow_from_rgb"},
            {"squeeze", "excite.rgb", "excite.flow"},
        )
