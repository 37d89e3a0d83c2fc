"""Grad-CAM against a network written again in NumPy and float64 from the formulas, with derivatives by finite differences."""

import numpy as np
import pytest
import torch
from cia_adapt import config
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import Sizes
from cia_adapt.results.figures.grad_cam import changed_by_pooling, explain

SEGMENTS, CHANNELS, GRID, SCALES, TAU = 2, 4, 3, 2, 0.5
MODALITIES = ("rgb", "flow")


def model_of(method: str, *sets: str, modalities=MODALITIES, classes=(3,), segments=SEGMENTS, head="") -> VideoModel:
    """A small model in evaluation, with weights of all parts drawn at random."""
    sizes = Sizes(
        dict.fromkeys(modalities, CHANNELS), dict.fromkeys(MODALITIES, (GRID, GRID)), classes, segments, 0.5, shared_features=6
    )
    chosen = config.load("uh", method, {"head": head} if head else {}, sets)
    model = VideoModel(chosen.for_pair("", ""), sizes).eval()
    torch.manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn_like(parameter) / parameter.shape[-1] ** 0.5 if parameter.ndim else parameter)
    return model


def maps_of(modalities=MODALITIES, segments=SEGMENTS) -> dict[str, torch.Tensor]:
    torch.manual_seed(2)
    return {
        m: torch.rand(1, segments, CHANNELS, GRID, GRID) if m != "audio" else torch.rand(1, segments, CHANNELS)
        for m in modalities
    }


class Slow:
    """CIA with MC (c, recalibrate) and SC (pool) in NumPy, from the formulas at the heads of mc.py and sc.py."""

    def __init__(self, model: VideoModel) -> None:
        self.weights = {name: value.double().numpy() for name, value in model.state_dict().items()}

    def linear(self, name: str, x: np.ndarray) -> np.ndarray:
        return x @ self.weights[f"{name}.weight"].T + self.weights[f"{name}.bias"]

    def refined(self, maps: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        z = {m: x.mean((2, 3)) for m, x in maps.items()}
        out = {}
        for r, s in (MODALITIES, MODALITIES[::-1]):
            gate = f"refinement.gates.{r}_from_{s}"
            hidden = np.maximum(self.linear(f"{gate}.0", np.concatenate([z[r], z[s]], axis=1)), 0)
            g = 2 / (1 + np.exp(-self.linear(f"{gate}.2", hidden))) - 1
            out[r] = maps[r] * (1 + g[:, :, None, None])
        return out

    def consensus(self, refined: dict[str, np.ndarray]) -> np.ndarray:
        """[S, H, W]."""
        u = {m: self.linear(f"pooling.embed.{m}", x.transpose(0, 2, 3, 1)) for m, x in refined.items()}  # [S, H, W, E]
        u = {m: x / np.linalg.norm(x, axis=3, keepdims=True) for m, x in u.items()}
        scores = np.zeros((SEGMENTS, GRID, GRID))
        for s, i, j in np.ndindex(scores.shape):
            for k in range(1, SCALES + 1):
                top, left = max(i - (k - 1) // 2, 0), max(j - (k - 1) // 2, 0)
                box = (s, slice(top, i + k // 2 + 1), slice(left, j + k // 2 + 1))
                a, b = (u[m][box].mean((0, 1)) for m in MODALITIES)
                scores[s, i, j] += a @ b / (np.linalg.norm(a) * np.linalg.norm(b)) / (SCALES * TAU)
        weights = np.exp(scores)
        return weights / weights.sum((1, 2), keepdims=True)

    def weighed(self, refined: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        s = self.consensus(refined)[:, None]
        return {m: s * x for m, x in refined.items()}

    def logits(self, weighed: dict[str, np.ndarray]) -> np.ndarray:
        frames = np.concatenate([weighed[m].sum((2, 3)) for m in MODALITIES], axis=1)
        shared = np.maximum(self.linear("shared.all.layers.0", frames), 0)
        return self.linear("classifiers.all", shared.mean(0))


def cam(maps: dict[str, np.ndarray], score, modalities) -> np.ndarray:
    """ReLU(Σ_k α_k A_k) over the channels of these modalities, every derivative a central difference."""
    total = np.zeros((SEGMENTS, GRID, GRID))
    for m in modalities:
        gradient = np.zeros_like(maps[m])
        for place in np.ndindex(gradient.shape):
            step = np.zeros_like(gradient)
            step[place] = 1e-5
            up, down = (score(maps | {m: maps[m] + sign * step}) for sign in (1, -1))
            gradient[place] = (up - down) / 2e-5
        total += (gradient.mean((2, 3), keepdims=True) * maps[m]).sum(1)
    return np.maximum(total, 0)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_every_panel_of_cia_is_that_of_the_formulas(number):
    sets = (f"sc.scales={SCALES}", f"sc.temperature={TAU}", "sc.embedding=5", "mc.ratio=2")
    model = model_of("cia", *sets)
    inputs = maps_of()
    explained = explain(model, inputs, 0, number)
    slow = Slow(model)
    maps = {m: x[0].double().numpy() for m, x in inputs.items()}
    refined = slow.refined(maps)
    weighed = slow.weighed(refined)
    logits = slow.logits(weighed)
    expected = {}
    for m in MODALITIES:
        expected[m] = cam(maps, lambda x: slow.logits(slow.weighed(slow.refined(x)))[number], [m])
        expected[f"refined {m}"] = cam(refined, lambda x: slow.logits(slow.weighed(x))[number], [m])
    expected["fused"] = cam(weighed, lambda x: slow.logits(x)[number], MODALITIES)
    expected["consensus"] = slow.consensus(refined)
    assert list(explained.maps) == list(expected)  # the order of the paper's figure
    for name, x in expected.items():
        np.testing.assert_allclose(explained.maps[name].numpy(), x, rtol=2e-4, atol=2e-5 * max(1, x.max()), err_msg=name)
    assert sum(x.max() > 0 for x in expected.values()) >= 4  # not all evidence is against the class
    p = np.exp(logits) / np.exp(logits).sum()
    np.testing.assert_allclose(explained.probabilities[0].numpy(), p, rtol=1e-4)


@pytest.mark.parametrize("head", ["concat", "average", "sum", "blend"])
def test_average_pooling_has_the_closed_form_of_a_linear_network(head):
    """Without ReLU's kink (all units alive) ∂y/∂A_k(i) = Σ_d w_yd W_dk / (S·HW), whatever the cell."""
    model = model_of("concat", head=head)
    inputs = maps_of()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "shared" in name:
                parameter.abs_()
    streams = ["all"] if head in ("concat", "blend") else list(MODALITIES)
    explained = explain(model, inputs, 0, 1)
    assert list(explained.maps) == list(MODALITIES)
    for i, m in enumerate(MODALITIES):
        alpha = torch.zeros(CHANNELS)
        for stream in streams:
            through = model.classifiers[stream].weight[1] @ model.shared[stream].layers[0].weight  # [ΣC or C]
            if stream in ("all", m):
                alpha += through[i * CHANNELS : (i + 1) * CHANNELS] if stream == "all" else through
        expected = (alpha[:, None, None] * inputs[m][0]).sum(1).relu() / (SEGMENTS * GRID * GRID)
        torch.testing.assert_close(explained.maps[m], expected)


@pytest.mark.parametrize("method", ["att", "att-flow", "max", "tada", "mmtm-fl", "ta3n", "ta3n-cia", "cia-trn"])
def test_any_method_with_maps_has_finite_panels_and_leaves_its_model_as_it_was(method):
    model, inputs = model_of(method, segments=5), maps_of(segments=5)
    with torch.no_grad():
        before = model(inputs)
    panels = explain(model, inputs, 0, 2).maps
    assert {"rgb", "flow"} <= set(panels) and all(x.shape == (5, GRID, GRID) and torch.isfinite(x).all() for x in panels.values())
    with torch.no_grad():
        after = model(inputs)
    for stream, logits in before.logits.items():
        assert torch.equal(logits, after.logits[stream])
    assert all(parameter.grad is None for parameter in model.parameters())


def test_reversed_gradients_are_not_reversed():
    """TADA's weights come from discriminators behind a reversal; a difference quotient of the logit knows nothing of it."""
    model, inputs = model_of("tada", "tada.hidden=3"), maps_of()
    panels = explain(model, inputs, 0, 0).maps
    gradient = torch.zeros(SEGMENTS, CHANNELS, GRID, GRID)
    for place in np.ndindex(*gradient.shape):
        values = []
        for sign in (1, -1):
            moved = inputs["rgb"].clone()
            moved[(0, *place)] += sign * 1e-2
            with torch.no_grad():
                values.append(model(inputs | {"rgb": moved}).logits["all"][0, 0])
        gradient[place] = (values[0] - values[1]) / 2e-2
    expected = (gradient.mean((2, 3), keepdim=True) * inputs["rgb"][0]).sum(1).relu()
    torch.testing.assert_close(panels["rgb"], expected, rtol=2e-2, atol=1e-3 * float(expected.max() + 1e-3))


def test_sound_has_no_panel():
    panels = explain(model_of("cia", "mc.ratio=2", modalities=("rgb", "flow", "audio")), maps_of(("rgb", "flow", "audio")), 0, 0)
    assert not any("audio" in name for name in panels.maps)


def test_how_much_the_pooling_changes_a_clip():
    """SC with a flat map changes nothing; with a sharp one, what the two predictions differ by."""
    flat, sharp = (model_of("sc-3", "sc.scales=1", f"sc.temperature={t}") for t in (1e6, 0.01))
    inputs = {m: torch.cat([x, x.flip(3)]) for m, x in maps_of().items()}
    assert float(changed_by_pooling(flat, inputs).max()) < 1e-5
    average = model_of("concat")
    average.load_state_dict({k: v for k, v in sharp.state_dict().items() if "pooling" not in k})
    with torch.no_grad():
        p, q = sharp(inputs).probabilities()[0], average(inputs).probabilities()[0]
    torch.testing.assert_close(changed_by_pooling(sharp, inputs), (p - q).abs().sum(1) / 2)
    assert float((p - q).abs().max()) > 1e-3
