from itertools import combinations

import numpy as np
import pytest
import torch
from cia_adapt import config
from cia_adapt.data import centre_frames
from cia_adapt.model import VideoModel
from cia_adapt.parts import Sizes
from cia_adapt.temporal import ta3n, trn, tsn
from cia_adapt.train import build_objectives
from cia_extract.errors import UsageError

# The table of `method.md` §5, five frames.
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
    found = []
    for n, picked in tuples.items():
        weight, bias = (p.detach().double().numpy() for p in module.layers[str(n)][1].parameters())
        found.append(sum(np.maximum(weight @ np.maximum(np.concatenate([frames[i] for i in t]), 0) + bias, 0) for t in picked))
    return np.stack(found)


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


def test_training_draws_three_tuples_a_scale_at_random_unless_told_otherwise():
    torch.manual_seed(0)
    module = trn.TemporalRelations(6, 5).train()
    drawn = {tuple(module._picked(3)) for _ in range(30)}
    assert len(drawn) > 5 and all(len(set(picked)) == 3 for picked in drawn)
    assert len(module._picked(5)) == 1
    even = trn.TemporalRelations(6, 5, trn.Options(even=True)).train()
    assert {tuple(even._picked(3)) for _ in range(5)} == {tuple(TUPLES[3])}


def test_order_matters_for_trn_and_not_for_tsn():
    torch.manual_seed(0)
    frames, order = torch.randn(2, 5, 6), [4, 3, 2, 1, 0]
    mean, relations = tsn.SegmentMean(6), trn.TemporalRelations(6, 5).eval()
    torch.testing.assert_close(mean(frames)[0], mean(frames[:, order])[0])
    torch.testing.assert_close(mean(frames)[0], frames.mean(1))
    assert not torch.allclose(relations(frames)[0], relations(frames[:, order])[0])
    with pytest.raises(UsageError, match="needs --segments 2 or more"):
        trn.TemporalRelations(6, 1)


def test_ta3n_weighs_relations_by_its_discriminators():
    torch.manual_seed(0)
    module = ta3n.AttendedRelations(6, 5, ta3n.Options(width=4)).train()
    for d in module.discriminators:
        torch.nn.init.normal_(d[2].weight)
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


@pytest.mark.parametrize(("width", "expected"), [(512, 1_836_032), (1024, 3_671_040)])
def test_trn_parameters(width, expected):
    assert sum(p.numel() for p in trn.TemporalRelations(width, 5).parameters()) == expected


@pytest.mark.parametrize(("channels", "expected"), [(1024, 2_959_128), (2048, 3_483_416)])
def test_ta3n_parameters_on_the_used_path(channels, expected):
    """Of the original, one feature of so many channels, 12 classes."""
    method = config.load("uh", "ta3n", {}).for_pair("ucf", "hmdb")
    model = VideoModel(method, Sizes({"rgb": channels}, {}, (12,), 5, 0.5))
    assert sum(p.numel() for m in (model, build_objectives(method, model)) for p in m.parameters()) == expected


def test_tsns_frames():
    assert (centre_frames(25, 5) + 1).tolist() == [3, 8, 13, 18, 23]
