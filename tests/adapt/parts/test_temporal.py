from itertools import combinations

import numpy as np
import pytest
import torch
from cia_adapt import config, parts
from cia_adapt.data.sampling import centre_frames
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.temporal import ta3n, trn, tsn
from cia_adapt.training.optimisers import lr_factor
from cia_adapt.training.trainer import build_objectives
from cia_extract.common.errors import UsageError
from torch import nn

# The table of `docs/facts.md`, five frames.
TUPLES = {
    5: [(0, 1, 2, 3, 4)],
    4: [(0, 1, 2, 3), (0, 1, 3, 4), (1, 2, 3, 4)],
    3: [(0, 1, 2), (0, 2, 4), (1, 2, 4)],
    2: [(0, 1), (1, 2), (2, 3)],
}


def test_even_tuples_are_the_published_ones():
    for n, expected in TUPLES.items():
        assert trn.even_tuples(list(combinations(range(5), n)), 3) == expected


def slow_relations(module: trn.TemporalRelations, frames: np.ndarray, tuples) -> np.ndarray:
    """[S − 1, width] of one clip."""
    scales = []
    for n, picked in tuples.items():
        weight, bias = (p.detach().double().numpy() for p in module.layers[str(n)][1].parameters())
        scales.append(sum(np.maximum(weight @ np.maximum(np.concatenate([frames[i] for i in t]), 0) + bias, 0) for t in picked))
    return np.stack(scales)


def test_trn_equals_a_slow_loop_at_evaluation():
    torch.manual_seed(0)
    module = trn.TemporalRelations(6, 5, trn.Options(width=4)).eval()
    frames = torch.randn(3, 5, 6)
    video, logits = module(frames)
    for clip in range(3):
        expected = slow_relations(module, frames[clip].double().numpy(), TUPLES)
        np.testing.assert_allclose(module.relations(frames)[clip].detach().numpy(), expected, atol=1e-5)
        np.testing.assert_allclose(video[clip].detach().numpy(), expected.sum(0), atol=1e-5)
    assert logits == {}


def tuples_seen(module: trn.TemporalRelations, segments: int) -> dict[int, list[tuple[int, ...]]]:
    """What the layer of each scale is given in one forward: every frame's only feature is its number."""
    seen: dict[int, list[tuple[int, ...]]] = {}

    def note(_: nn.Module, inputs: tuple[torch.Tensor]) -> None:
        tuples = [tuple(map(int, t)) for t in inputs[0][0].tolist()]
        seen[len(tuples[0])] = tuples

    hooks = [layer.register_forward_pre_hook(note) for layer in module.layers.values()]
    module(torch.arange(segments, dtype=torch.float32)[None, :, None])
    for hook in hooks:
        hook.remove()
    return seen


def test_evaluation_looks_at_the_even_tuples():
    assert tuples_seen(trn.TemporalRelations(1, 5).eval(), 5) == TUPLES
    seven = tuples_seen(trn.TemporalRelations(1, 7).eval(), 7)
    for n, seen in seven.items():
        every = list(combinations(range(7), n))
        expected = [every[-(-i * len(every) // 3)] for i in range(3)] if n < 7 else every
        assert seen == expected


def test_training_draws_three_tuples_a_scale_at_random_unless_told_otherwise():
    torch.manual_seed(0)
    module = trn.TemporalRelations(1, 5).train()
    rounds = [tuples_seen(module, 5) for _ in range(60)]
    for n, (every, least) in {5: (1, 1), 4: (5, 5), 3: (10, 10), 2: (10, 10)}.items():
        drawn = [seen[n] for seen in rounds]
        assert all(len(set(picked)) == len(picked) == min(3, every) for picked in drawn)
        assert all(list(t) == sorted(set(t)) and len(t) == n for picked in drawn for t in picked)
        assert len({t for picked in drawn for t in picked}) >= least  # each tuple has its turn
    even = trn.TemporalRelations(1, 5, trn.Options(even=True)).train()
    assert all(tuples_seen(even, 5) == TUPLES for _ in range(5))


def test_training_and_evaluation_agree_where_all_tuples_are_looked_at():
    torch.manual_seed(0)
    module, frames = trn.TemporalRelations(6, 4, trn.Options(width=4, tuples=10)), torch.randn(3, 4, 6)
    torch.testing.assert_close(module.train()(frames)[0], module.eval()(frames)[0], atol=1e-6, rtol=1e-5)
    expected = slow_relations(module, frames[0].double().numpy(), {n: list(combinations(range(4), n)) for n in (4, 3, 2)})
    np.testing.assert_allclose(module(frames)[0][0].detach().numpy(), expected.sum(0), atol=1e-5)


def test_order_matters_for_trn_and_not_for_tsn():
    torch.manual_seed(0)
    frames, order = torch.randn(2, 5, 6), [4, 3, 2, 1, 0]
    mean, relations = tsn.SegmentMean(6), trn.TemporalRelations(6, 5).eval()
    torch.testing.assert_close(mean(frames)[0], mean(frames[:, order])[0])
    torch.testing.assert_close(mean(frames)[0], frames.mean(1))
    assert not torch.allclose(relations(frames)[0], relations(frames[:, order])[0])
    for build in (trn.build, ta3n.build):
        with pytest.raises(UsageError, match="needs --segments 2 or more"):
            build(6, 1, (trn if build is trn.build else ta3n).Options())


def test_a_scale_without_tuples_is_refused_in_one_line():
    with pytest.raises(UsageError, match=r"trn\.tuples=0"):
        trn.build(6, 5, parts.options("temporal", "trn", {"tuples": 0}))(torch.randn(2, 5, 6))


def test_ta3n_weighs_relations_by_its_discriminators():
    torch.manual_seed(0)
    module = ta3n.AttendedRelations(6, 5, ta3n.Options(width=4)).train()
    for d in module.discriminators:
        nn.init.normal_(d[2].weight)
    frames = torch.randn(2, 5, 6)
    video, logits = module(frames)
    for clip in range(2):
        relations = slow_relations(module.trn, frames[clip].double().numpy(), TUPLES)
        total = np.zeros(4)
        for n, r in enumerate(relations):
            first, _, last = module.discriminators[n]
            w1, b1, w2, b2 = (p.detach().double().numpy() for p in (first.weight, first.bias, last.weight, last.bias))
            out = w2 @ np.maximum(w1 @ r + b1, 0) + b2
            np.testing.assert_allclose(logits["relation"][clip, n].detach().numpy(), out, atol=1e-5)
            p = np.exp(out) / np.exp(out).sum()
            total += (2 + (p * np.log(p)).sum()) * r
        np.testing.assert_allclose(video[clip].detach().numpy(), total, atol=1e-4)


def test_ta3ns_attention_has_the_published_values():
    """2 − H: a discriminator that says [0, 0] weighs a relation by 1.306853, one that says [1, −1] by 1.634666."""
    torch.manual_seed(0)
    module, frames = ta3n.AttendedRelations(6, 5, ta3n.Options(width=4)).eval(), torch.randn(2, 5, 6)
    for logits, weight in (([0.0, 0.0], 1.306853), ([1.0, -1.0], 1.634666)):
        with torch.no_grad():
            for d in module.discriminators:
                d[2].weight.zero_()
                d[2].bias.copy_(torch.tensor(logits))
        torch.testing.assert_close(module(frames)[0], weight * module.trn.relations(frames).sum(1), atol=1e-5, rtol=1e-5)


def test_ta3ns_discriminators_send_reversed_gradients_to_the_relations():
    """−β times the gradient without reversal; that of the discriminators themselves is as it is."""
    torch.manual_seed(0)
    module, frames = ta3n.AttendedRelations(6, 5, ta3n.Options(width=4, strength=0.75)).train(), torch.randn(3, 5, 6)
    for d in module.discriminators:
        nn.init.normal_(d[2].weight)
    before, own = list(module.trn.parameters()), list(module.discriminators.parameters())
    domain = torch.tensor([0, 1, 1])
    relations = module.trn.relations(frames)
    straight = torch.stack([d(relations[:, n]) for n, d in enumerate(module.discriminators)], dim=1)
    mine, plain = (
        torch.autograd.grad(sum(nn.functional.cross_entropy(x[:, n], domain) for n in range(4)), before + own)
        for x in (module(frames)[1]["relation"], straight)
    )
    for a, b, of_before in zip(mine, plain, [True] * len(before) + [False] * len(own), strict=True):
        torch.testing.assert_close(a, -0.75 * b if of_before else b, atol=1e-6, rtol=1e-4)
    assert any(b.any() for b in plain[: len(before)])


def test_ta3n_draws_nothing_at_random():
    torch.manual_seed(0)
    module, frames = ta3n.AttendedRelations(6, 5).train(), torch.randn(2, 5, 6)
    assert torch.equal(module(frames)[0], module(frames)[0]) and torch.equal(module(frames)[0], module.eval()(frames)[0])
    assert module.width == 256 and module(frames)[1]["relation"].shape == (2, 4, 2)


@pytest.mark.parametrize(("width", "expected"), [(512, 1_836_032), (1024, 3_671_040)])
def test_trn_parameters(width, expected):
    assert sum(p.numel() for p in trn.TemporalRelations(width, 5).parameters()) == expected


@pytest.mark.parametrize(("channels", "expected"), [(1024, 2_959_128), (2048, 3_483_416)])
def test_ta3n_parameters_on_the_used_path(channels, expected):
    """Of the original, one feature of so many channels, 12 classes. Its code declares 401,420 more (3,360,548 and 3,884,836), in
    layers that it never uses and in batch normalisations; those are not built here.
    """
    method = config.load("uh", "ta3n", {}).for_pair("ucf", "hmdb")
    model = VideoModel(method, Sizes({"rgb": channels}, {}, (12,), 5, 0.5))
    assert sum(p.numel() for m in (model, build_objectives(method, model)) for p in m.parameters()) == expected


@pytest.mark.parametrize(("pair", "relations", "weight"), [(("ucf", "hmdb"), 0.75, 0.003), (("hmdb", "ucf"), 1.0, 0.3)])
def test_ta3n_has_its_published_settings(pair, relations, weight):
    """β of relations, video and frames, and γ, of each direction (`docs/facts.md`)."""
    method = config.load("uh", "ta3n", {}).for_pair(*pair)
    options = {kind: parts.options(where, kind, method.option(kind)) for where, kind in method.used_parts()}
    assert (options["ta3n"].strength, options["adversarial"].video, options["adversarial"].frame) == (relations, 0.75, 0.5)
    assert options["attentive_entropy"].weight == weight and options["adversarial"].weights_on == "gradient"


def test_tsns_frames():
    """Of 25 into 5, counted from 1: the middles of the segments."""
    assert (centre_frames(25, 5) + 1).tolist() == [3, 8, 13, 18, 23]
    assert centre_frames(5, 5).tolist() == [0, 1, 2, 3, 4] and centre_frames(25, 1).tolist() == [12]


@pytest.mark.parametrize(("p", "expected"), [(0.1, 0.594604), (0.5, 0.260847), (1.0, 0.165560)])
def test_the_learning_rate_falls_as_danns(p, expected):
    assert lr_factor(p) == pytest.approx(expected, abs=5e-7)
    assert lr_factor(0) == 1
