import numpy as np
import pytest
from cia_extract.clips import sampling


@pytest.mark.parametrize(
    ("n_frames", "expected"),
    [
        (1, [0] * 25),
        (5, [0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 4, 4, 4, 4, 4]),
        (16, [0, 0, 1, 2, 2, 3, 4, 4, 5, 6, 6, 7, 8, 8, 9, 9, 10, 11, 11, 12, 13, 13, 14, 15, 15]),
        (22, [0, 1, 2, 3, 3, 4, 5, 6, 7, 8, 9, 10, 11, 11, 12, 13, 14, 15, 16, 17, 18, 18, 19, 20, 21]),
        (25, list(range(25))),
        (50, list(range(1, 50, 2))),
    ],
)
def test_tsn(n_frames, expected):
    assert sampling.tsn(n_frames, 25).tolist() == expected


def test_tsn_equal_the_rule_as_published():
    for n_frames in range(1, 2000):
        tick = n_frames / 25
        assert sampling.tsn(n_frames, 25).tolist() == [int(tick / 2 + tick * i) for i in range(25)]


def test_centres_lie_in_their_segments():
    for n_frames in range(25, 600):
        centres = sampling.tsn(n_frames, 25)
        edges = np.arange(26) * n_frames / 25
        assert (centres >= np.floor(edges[:-1])).all() and (centres < edges[1:]).all()


@pytest.mark.parametrize(
    ("n_flows", "expected"),
    [
        (0.5, [0] * 25),  # a clip of one RGB frame
        (2.5, [0] * 25),  # 5 frames: TBN's own rule gives −1, a flow before the clip
        (8, [0, 0, 0, 0, 0, 0, 1, 1, 1, 1, 1, 1, 2, 2, 2, 2, 2, 2, 2, 3, 3, 3, 3, 3, 3]),  # 16 frames
        (11, [0, 0, 0, 0, 1, 1, 1, 2, 2, 2, 2, 3, 3, 3, 4, 4, 4, 4, 5, 5, 5, 6, 6, 6, 6]),  # 22 frames
        (100, [int((96 / 25) / 2 + (96 / 25) * i) for i in range(25)]),
    ],
)
def test_tbn_stacks_start_inside_the_clip(n_flows, expected):
    """TBN's rule for stacks of five, tick = (N − 4)/25, as published where it does not leave the clip."""
    starts = sampling.tsn(n_flows, 25, length=5)
    assert starts.tolist() == expected
    tick = (n_flows - 4) / 25
    if tick >= 0:
        assert starts.tolist() == [int(tick / 2 + tick * i) for i in range(25)]


@pytest.mark.parametrize("n_frames", [1, 5, 16, 22, 25, 193])
def test_linspace_equals_the_third_partys_rule(n_frames):
    numbers = [int(np.floor(x + 0.5)) for x in np.linspace(1, max(n_frames - 1, 1), 25)]
    assert sampling.linspace(n_frames, 25).tolist() == [number - 1 for number in numbers]


@pytest.mark.parametrize(
    ("n_frames", "expected"),
    [(1, [0] * 5), (5, [2] * 5), (22, [11] * 5), (32, [16] * 5), (112, [29, 42, 56, 69, 82]), (232, [49, 82, 116, 149, 182])],
)
def test_inside_keeps_whole_windows_in_the_clip(n_frames, expected):
    """MM-SADA: linspace(16, N − 16, 7)[1:-1], whole numbers below."""
    centres = sampling.inside(n_frames, 5, 16, 16)
    assert centres.tolist() == expected
    if n_frames > 32:
        assert centres.tolist() == [int(x) for x in np.linspace(16, n_frames - 16, 7)[1:-1]]
        assert centres.min() - 16 >= 0 and centres.max() + 14 < n_frames


@pytest.mark.parametrize(
    ("centre", "n_frames", "step", "edge", "expected"),
    [
        (0, 22, 1, "replicate", [0] * 8 + list(range(8))),
        (0, 22, 1, "zero", [-1] * 8 + list(range(8))),
        (21, 22, 1, "zero", [*range(13, 22), *[-1] * 7]),
        (20, 60, 2, "replicate", list(range(4, 36, 2))),  # MM-SADA: c − 16 … c + 14
        (0, 1, 1, "zero", [-1] * 8 + [0] + [-1] * 7),
        (2, 5, 1, "replicate", [0] * 7 + [1, 2, 3] + [4] * 6),
        (3, 16, 1, "replicate", [0] * 6 + list(range(1, 11))),
    ],
)
def test_windows_at_the_edges(centre, n_frames, step, edge, expected):
    first = -16 if step == 2 else None
    assert sampling.window(centre, 16, n_frames, first, step, edge).tolist() == expected


def test_a_clip_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        sampling.tsn(0, 25)


@pytest.mark.parametrize(
    ("centre", "n_frames", "first", "last", "distinct"),
    [(50, 100, 42, 57, 16), (0, 100, 0, 7, 8), (99, 100, 91, 99, 9), (2, 5, 0, 4, 5), (0, 1, 0, 0, 1)],
)
def test_window_replicates_the_edges(centre, n_frames, first, last, distinct):
    indices = sampling.window(centre, 16, n_frames)
    assert len(indices) == 16
    assert (indices[0], indices[-1], len(set(indices.tolist()))) == (first, last, distinct)
    assert indices[8] == centre
    assert (np.diff(indices) >= 0).all()
