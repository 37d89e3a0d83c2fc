import numpy as np
import pytest
from cia_extract import sampling


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
def test_tsn_centres(n_frames, expected):
    assert sampling.tsn_centres(n_frames, 25).tolist() == expected


def test_tsn_centres_equal_the_rule_as_published():
    for n_frames in range(1, 2000):
        tick = n_frames / 25
        assert sampling.tsn_centres(n_frames, 25).tolist() == [int(tick / 2 + tick * i) for i in range(25)]


def test_centres_lie_in_their_segments():
    for n_frames in range(25, 600):
        centres = sampling.tsn_centres(n_frames, 25)
        edges = np.arange(26) * n_frames / 25
        assert (centres >= np.floor(edges[:-1])).all() and (centres < edges[1:]).all()


def test_a_clip_without_frames_is_refused():
    with pytest.raises(ValueError, match="at least one frame"):
        sampling.tsn_centres(0, 25)


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
