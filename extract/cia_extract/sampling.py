"""Which frames of a clip are described, and which frames each description sees. Pure index arithmetic."""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int32]


def tsn_centres(n_frames: int, count: int) -> Indices:
    """The centres of `count` equal segments of a clip of `n_frames` frames, 0-based, [count].

    Temporal Segment Networks' test rule (Wang et al. 2016; `extraction.md` §4): tick = N/count,
    index i = int(tick/2 + tick·i). A clip with fewer frames than `count` repeats indices.

    >>> tsn_centres(50, 5).tolist()
    [5, 15, 25, 35, 45]
    >>> tsn_centres(2, 4).tolist()
    [0, 0, 1, 1]
    """
    if n_frames < 1:
        raise ValueError(f"a clip needs at least one frame, got {n_frames}")
    # Kept in floating point on purpose: exact integers would move an index by one in about 4 % of clip lengths
    # (N = 30, 58, 60, …), away from every published list made with this rule.
    tick = n_frames / count
    return np.array([int(tick / 2 + tick * i) for i in range(count)], dtype=np.int32)


def window(centre: int, length: int, n_frames: int) -> Indices:
    """Frames t−length/2 … t+length/2−1 around `centre`, edges replicated, [length].

    >>> window(1, 8, 50).tolist()
    [0, 0, 0, 0, 1, 2, 3, 4]
    """
    start = centre - length // 2
    return np.clip(np.arange(start, start + length), 0, n_frames - 1).astype(np.int32)
