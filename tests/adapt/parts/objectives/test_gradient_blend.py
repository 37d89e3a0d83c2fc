"""G-Blend: its weights, its loss, its held-out part; and settings that no objective can divide by."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cia_adapt import parts
from cia_adapt.parts.interface import Sizes, Step
from cia_adapt.parts.objectives import gradient_blend
from cia_extract.common.errors import UsageError
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.adapt.objective_parts import (
    CLIPS,
    SOURCE,
    TARGET,
    arrays,
    output,
    slow_cross_entropy,
    step,
    widths,
)

TOY = {"a": (2.0, 2.1), "b": (2.2, 2.3), "c": (1.8, 2.0)}, {"a": (0.5, 1.0), "b": (1.0, 1.3), "c": (0.2, 0.8)}


def test_blend_weights_of_a_worked_example():
    before, after = TOY
    gains = gradient_blend.generalisation_and_overfitting(before, after)
    assert [g for g, _ in gains.values()] == pytest.approx([1.1, 1.0, 1.2])
    assert [o for _, o in gains.values()] == pytest.approx([0.4, 0.2, 0.4])
    weights = gradient_blend.blend_weights(before, after)
    assert {k: round(w, 4) for k, w in weights.items()} == {"a": 0.1746, "b": 0.6349, "c": 0.1905}


def test_blend_weights_of_streams_that_do_not_generalise_or_do_not_overfit():
    before, after = TOY
    worse = gradient_blend.blend_weights(before, after | {"b": (1.0, 2.5)})
    assert worse["b"] == 0 and worse["a"] == pytest.approx((1.1 / 0.16) / (1.1 / 0.16 + 1.2 / 0.16))
    assert set(gradient_blend.blend_weights(before, dict.fromkeys(before, (3.0, 3.0))).values()) == {1 / 3}
    # Of b the gap shrinks: its overfitting counts as the least, 0.05.
    scores = {"a": 1.1 / 0.4**2, "b": 1.3 / 0.05**2, "c": 1.2 / 0.4**2}
    capped = gradient_blend.blend_weights(before, after | {"b": (1.0, 1.0)})
    assert capped == pytest.approx({k: score / sum(scores.values()) for k, score in scores.items()})


@settings(max_examples=50, deadline=None)
@given(st.lists(st.tuples(*[st.floats(0, 5)] * 4), min_size=1, max_size=4))
def test_blend_weights_are_shares(losses):
    before, after = ({str(i): (x[2 * n], x[2 * n + 1]) for i, x in enumerate(losses)} for n in (0, 1))
    weights = gradient_blend.blend_weights(before, after)
    assert sum(weights.values()) == pytest.approx(1) and min(weights.values()) >= 0


def test_blend_is_the_weighted_sum_of_the_streams_losses():
    """Of the source's clips, mean over two labels; it stands for the class loss."""
    of = output(("rgb", "flow", "all"), head="blend", heads=(3, 4))
    at = Step(
        torch.tensor([[0, 3], [1, 2], [2, 1], [1, 0]]), torch.arange(CLIPS) >= SOURCE, torch.arange(TARGET), torch.tensor(0.5)
    )
    module = gradient_blend.GradientBlend(("rgb", "flow", "all"), gradient_blend.Options())
    losses = {}
    for stream, logits in of.logits.items():
        rows = zip(arrays(logits)[:SOURCE], at.labels.tolist(), strict=True)
        losses[stream] = np.mean([[slow_cross_entropy(x[:3], verb), slow_cross_entropy(x[3:], noun)] for x, (verb, noun) in rows])
    assert float(module(of, at).loss.detach()) == pytest.approx(np.mean(list(losses.values())), rel=1e-5)
    module.set_weights({"all": 0.3, "flow": 0.5, "rgb": 0.2})
    expected = 0.2 * losses["rgb"] + 0.5 * losses["flow"] + 0.3 * losses["all"]
    assert float(module(of, at).loss.detach()) == pytest.approx(expected, rel=1e-5)
    assert module.replaces_class_loss and not list(module.parameters()) and not gradient_blend.needs_target(module.options)
    for streams in (("rgb", "flow"), ("all",), ("rgb", "all")):
        with pytest.raises(UsageError, match="needs --head blend and two modalities"):
            gradient_blend.GradientBlend(streams, gradient_blend.Options())


def test_label_smoothing_reaches_the_streams_losses():
    """By hand: (1 − ε) · CE with the label + ε · the mean of CE with each class. Without smoothing it is the plain one."""
    of, at = output(("rgb", "flow", "all"), head="blend"), step()
    module = gradient_blend.GradientBlend(("rgb", "flow", "all"), gradient_blend.Options())
    module.set_weights({"all": 0.3, "flow": 0.5, "rgb": 0.2})
    for epsilon in (0.0, 0.2):
        losses = {}
        for stream, logits in of.logits.items():
            right = [slow_cross_entropy(arrays(logits)[i], int(at.labels[i, 0])) for i in range(SOURCE)]
            each = [slow_cross_entropy(arrays(logits)[i], k) for i in range(SOURCE) for k in range(3)]
            losses[stream] = (1 - epsilon) * np.mean(right) + epsilon * np.mean(each)
        expected = 0.2 * losses["rgb"] + 0.5 * losses["flow"] + 0.3 * losses["all"]
        assert float(module(of, replace(at, smoothing=epsilon)).loss.detach()) == pytest.approx(expected, rel=1e-5)


def test_hold_out_is_stratified_and_keeps_one_of_each_class():
    labels = np.array([0] * 10 + [1] * 5 + [2])
    trained, held = gradient_blend.hold_out(labels, 0.2, np.random.default_rng(0))
    assert sorted([*trained, *held]) == list(range(16))
    assert np.bincount(labels[held], minlength=3).tolist() == [2, 1, 0]
    others = {tuple(gradient_blend.hold_out(labels, 0.2, np.random.default_rng(seed))[1]) for seed in range(20)}
    assert len(others) > 5  # drawn at random


@settings(max_examples=50, deadline=None)
@given(labels=st.lists(st.integers(0, 4), min_size=1, max_size=40), share=st.floats(0, 1), seed=st.integers(0, 99))
def test_hold_out_of_any_labels(labels, share, seed):
    labels = np.array(labels)
    trained, held = gradient_blend.hold_out(labels, share, np.random.default_rng(seed))
    assert sorted([*trained, *held]) == list(range(len(labels))) and set(labels[trained]) == set(labels)
    for k in set(labels):
        count = int((labels == k).sum())
        assert abs((labels[held] == k).sum() - min(share * count, count - 1)) <= 0.5


@pytest.mark.parametrize(
    ("name", "setting"), [("cross_modal", "bank"), ("cross_modal", "temperature"), ("spatio_temporal", "temperature")]
)
def test_a_setting_of_zero_that_nothing_can_be_divided_by_is_refused_in_one_line(name, setting):
    of = output()
    sizes = Sizes({}, {}, (3,), 5, 0.0, widths(of)["frame"], widths(of)["video"], TARGET)
    with pytest.raises(UsageError, match=rf"{name}\.{setting}=0"):
        parts.find("objectives", name).build(sizes, parts.options("objectives", name, {setting: 0}))(of, step(output(seed=1)))
