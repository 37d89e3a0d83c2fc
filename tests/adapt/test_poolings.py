import numpy as np
import pytest
import torch
from cia_adapt.modules.maps import Feature
from cia_adapt.poolings import att, att_flow, avg, tada
from cia_adapt.poolings import max as max_pooling
from cia_adapt.poolings.sc import Options, SpatialConsensus
from cia_extract.errors import UsageError

SCORINGS = ("pool", "patch", "window_max")
SIDE = 5


def features(seed: int = 0, channels: int = 8, modalities=("rgb", "flow"), audio: bool = False) -> dict[str, Feature]:
    generator = torch.Generator().manual_seed(seed)
    found = {m: Feature(torch.rand(2, channels, SIDE, SIDE, generator=generator)) for m in modalities}
    return found | ({"audio": Feature(torch.rand(2, 4, generator=generator))} if audio else {})


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
    return [(i + a, j + b) for a in near for b in near if 0 <= i + a < SIDE and 0 <= j + b < SIDE]


def slow_score(a: np.ndarray, b: np.ndarray, i: int, j: int, k: int, scoring: str) -> float:
    cells = box(i, j, k)
    if scoring == "pool":
        u, v = (sum(x[:, p, q] for p, q in cells) / len(cells) for x in (a, b))
        return float(u @ v / np.sqrt((u @ u) * (v @ v)))
    if scoring == "patch":
        return float(sum(a[:, p, q] @ b[:, p, q] for p, q in cells) / len(cells))
    return float(max(a[:, i, j] @ b[:, p, q] for p, q in cells) + max(a[:, p, q] @ b[:, i, j] for p, q in cells)) / 2


@pytest.mark.parametrize("embedding", [4, 0])
@pytest.mark.parametrize("scales", [1, 2, 3])
@pytest.mark.parametrize("scoring", SCORINGS)
def test_sc_equals_slow_loops(scoring, scales, embedding):
    inputs = features(1)
    sc = consensus_of(inputs, scoring=scoring, scales=scales, embedding=embedding, temperature=0.2)
    pooled = sc(inputs)
    for clip in range(2):
        maps = {m: f.data[clip].double().numpy() for m, f in inputs.items()}
        a, b = (slow_units(sc, m, maps[m]) for m in ("rgb", "flow"))
        scores = np.array(
            [[sum(slow_score(a, b, i, j, k, scoring) for k in range(1, scales + 1)) for j in range(SIDE)] for i in range(SIDE)]
        )
        expected = np.exp(scores / (scales * 0.2))
        expected /= expected.sum()
        np.testing.assert_allclose(pooled.weights[clip].detach().numpy(), expected, atol=1e-5)
        for m in maps:
            np.testing.assert_allclose(pooled.vectors[m][clip].detach().numpy(), (maps[m] * expected).sum((1, 2)), atol=1e-5)


def test_sc_with_three_maps_is_the_mean_over_pairs():
    inputs = features(2, modalities=("rgb", "flow", "depth"))
    sc = consensus_of(inputs, scales=1)
    maps = {m: f.data[0].double().numpy() for m, f in inputs.items()}
    units = {m: slow_units(sc, m, maps[m]) for m in maps}
    pairs = [(units[a] * units[b]).sum(0) for a, b in (("rgb", "flow"), ("rgb", "depth"), ("flow", "depth"))]
    expected = np.exp(np.mean(pairs, axis=0) / 0.1)
    np.testing.assert_allclose(sc(inputs).weights[0].detach().numpy(), expected / expected.sum(), atol=1e-5)


@pytest.mark.parametrize("scoring", SCORINGS)
def test_sc_is_normalised_and_does_not_mind_the_order_of_modalities(scoring):
    inputs = features(3)
    sc, swapped = consensus_of(inputs, scoring=scoring), consensus_of(dict(reversed(inputs.items())), scoring=scoring)
    swapped.load_state_dict(sc.state_dict())
    weights = sc(inputs).weights
    torch.testing.assert_close(weights.sum((1, 2)), torch.ones(2))
    assert (weights >= 0).all()
    torch.testing.assert_close(swapped(inputs).weights, weights)


def test_equal_maps_up_to_scale_give_average_pooling():
    inputs = features(4)
    inputs["flow"] = Feature(inputs["rgb"].data * 3)
    sc = consensus_of(inputs)
    with torch.no_grad():
        sc.embed["rgb"].bias.zero_()
    sc.embed["flow"].load_state_dict(sc.embed["rgb"].state_dict())
    torch.testing.assert_close(sc(inputs).weights, torch.full((2, SIDE, SIDE), 1 / SIDE**2))
    torch.testing.assert_close(sc(inputs).vectors["rgb"], avg.AveragePooling()(inputs).vectors["rgb"])


def test_one_scale_moves_with_the_cells():
    inputs, order = features(5), torch.randperm(SIDE * SIDE, generator=torch.Generator().manual_seed(0))
    moved = {m: Feature(f.data.flatten(2)[:, :, order].unflatten(2, (SIDE, SIDE))) for m, f in inputs.items()}
    for scales, same in ((1, True), (3, False)):
        sc = consensus_of(inputs, scales=scales)
        found = torch.allclose(sc(moved).weights.flatten(1), sc(inputs).weights.flatten(1)[:, order], atol=1e-6)
        assert found == same


def test_sc_trains_its_temperature_if_told_to_and_leaves_vectors_alone():
    inputs = features(6, audio=True)
    sc = consensus_of(inputs, learn_temperature=True)
    pooled = sc(inputs)
    assert torch.equal(pooled.vectors["audio"], inputs["audio"].data)
    pooled.vectors["rgb"].square().sum().backward()
    assert sc.log_temperature.grad.abs() > 0 and sc.embed["flow"].weight.grad.abs().sum() > 0
    assert not [name for name, _ in consensus_of(inputs).named_parameters() if "temperature" in name]


def test_sc_parameters_and_mistakes():
    assert sum(p.numel() for p in SpatialConsensus({"rgb": 1024, "flow": 1024}).parameters()) == 1_049_600
    assert not list(SpatialConsensus({"rgb": 8, "flow": 8}, Options(embedding=0)).parameters())
    for channels, options, message in (
        ({"rgb": 8}, Options(), "needs two, here: rgb"),
        ({"rgb": 8, "flow": 8}, Options(scales=9), "sc.scales=9: must lie between 1 and 7"),
        ({"rgb": 8, "flow": 8}, Options(temperature=0), "sc.temperature=0: must be positive"),
        ({"rgb": 8, "flow": 6}, Options(embedding=0), "without an embedding the modalities need equal channels"),
    ):
        with pytest.raises(UsageError, match=message):
            SpatialConsensus(channels, options)
    assert SpatialConsensus({"rgb": 8, "flow": 6}, Options(embedding=4))


# --- the other poolings ---------------------------------------------------------------------------------------------------


def test_average_and_max():
    inputs = {m: f.times(torch.randn(2, 8)) for m, f in features(0).items()} | {"audio": Feature(torch.rand(2, 4))}
    for module, reduce in ((avg.AveragePooling(), np.mean), (max_pooling.MaxPooling(), np.max)):
        vectors = module(inputs).vectors
        for m in ("rgb", "flow"):
            np.testing.assert_allclose(vectors[m].numpy(), reduce(inputs[m].dense().numpy(), axis=(2, 3)), atol=1e-5)
        assert torch.equal(vectors["audio"], inputs["audio"].data)


def slow_gate(gate: att.SpatialGate, planes: list[np.ndarray]) -> np.ndarray:
    """σ(BN(conv)) of one clip's planes [H, W], cell by cell, batch normalisation in evaluation."""
    convolution, norm = gate.layers
    kernel = convolution.weight[0].detach().double().numpy()
    reach, out = kernel.shape[1] // 2, np.zeros((SIDE, SIDE))
    for i in range(SIDE):
        for j in range(SIDE):
            for plane, weights in zip(planes, kernel, strict=True):
                for a in range(-reach, reach + 1):
                    for b in range(-reach, reach + 1):
                        if 0 <= i + a < SIDE and 0 <= j + b < SIDE:
                            out[i, j] += weights[reach + a, reach + b] * plane[i + a, j + b]
    mean, var = float(norm.running_mean), float(norm.running_var)
    out = (out - mean) / np.sqrt(var + 1e-5) * norm.weight.item() + norm.bias.item()
    return 1 / (1 + np.exp(-out))


def shaken_gates(module: torch.nn.Module) -> torch.nn.Module:
    for gate in module.gates.values():
        torch.nn.init.normal_(gate.layers[1].weight)
        torch.nn.init.normal_(gate.layers[1].bias)
        gate.layers[1].running_mean.fill_(0.3)
        gate.layers[1].running_var.fill_(2.0)
    return module.eval()


@pytest.mark.parametrize("guided", [False, True])
def test_attention_equals_slow_loops(guided):
    torch.manual_seed(0)
    inputs = features(1, audio=True)
    kind = att_flow.GuidedAttention if guided else att.Attention
    module = shaken_gates(kind(("rgb", "flow"), 3))
    found = module(inputs).vectors
    for clip in range(2):
        maps = {m: inputs[m].data[clip].double().numpy() for m in ("rgb", "flow")}
        guide = slow_gate(module.gates["flow"], [maps["flow"].max(0), maps["flow"].mean(0)])
        further = [guide] if guided else []
        attention = {"flow": guide, "rgb": slow_gate(module.gates["rgb"], [maps["rgb"].max(0), maps["rgb"].mean(0), *further])}
        for m, x in maps.items():
            np.testing.assert_allclose(found[m][clip].detach().numpy(), (x * attention[m]).mean((1, 2)), atol=1e-5)
    assert torch.equal(found["audio"], inputs["audio"].data) and list(found) == ["rgb", "flow", "audio"]


def test_attention_by_flow_needs_flow():
    with pytest.raises(UsageError, match="flow guides another modality with maps; here are rgb"):
        att_flow.GuidedAttention(("rgb",))


def test_tada_equals_slow_loops():
    torch.manual_seed(0)
    inputs = features(2)
    module = tada.TransferableAttention({"rgb": 8, "flow": 8}, {"rgb": (SIDE, SIDE), "flow": (SIDE, SIDE)}, tada.Options(3))
    for discriminators in module.discriminators.values():
        torch.nn.init.normal_(discriminators.last)
    pooled = module(inputs)
    for m, f in inputs.items():
        d = module.discriminators[m]
        w1, b1, w2, b2 = (p.detach().double().numpy() for p in (d.first, d.first_bias, d.last, d.last_bias))
        for clip in range(2):
            cells = f.data[clip].double().numpy().reshape(8, -1)
            total = np.zeros(8)
            for i in range(SIDE * SIDE):
                logits = np.maximum(cells[:, i] @ w1[i] + b1[i, 0], 0) @ w2[i] + b2[i, 0]
                np.testing.assert_allclose(pooled.domain_logits[f"region_{m}"][clip, i].detach().numpy(), logits, atol=1e-5)
                p = np.exp(logits) / np.exp(logits).sum()
                total += (2 + (p * np.log(p)).sum()) * cells[:, i] / SIDE**2
            np.testing.assert_allclose(pooled.vectors[m][clip].detach().numpy(), total, atol=1e-5)


def test_tadas_discriminators_send_reversed_gradients_to_what_refined_the_maps():
    torch.manual_seed(0)
    module = tada.TransferableAttention({"rgb": 8}, {"rgb": (SIDE, SIDE)}, tada.Options(3, strength=0.5))
    torch.nn.init.normal_(module.discriminators["rgb"].last)
    data, gradients = torch.rand(2, 8, SIDE, SIDE), []
    for strength in (0.5, -1.0):
        module.strength = strength
        gain = torch.ones(2, 8, requires_grad=True)
        loss = module({"rgb": Feature(data, gain)}).domain_logits["region_rgb"][..., 0].sum()
        gradients.append(torch.autograd.grad(loss, gain)[0])
    torch.testing.assert_close(gradients[0], -0.5 * gradients[1])
