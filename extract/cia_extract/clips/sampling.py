"""Which frames of a clip are described, and which frames belong to each window. Pure index arithmetic, 0-based.

The rules are those of public code: `tsn` of https://github.com/ekazakos/temporal-binding-network (dataset.py) and
https://github.com/cmhungsteve/TA3N (dataset.py), `inside` of https://github.com/jonmun/MM-SADA-code (src/data_gen). Windows of 16
frames, t − 8 … t + 7, are those of TranSVAE's I3D features (https://github.com/ldkong1205/TranSVAE, dataset_preparation), which
puts zeros beyond the clip's ends; replicating the end frames is this project's choice.
"""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int32]

BEYOND = -1  # stands in a window for a frame of zeros beyond the clip


def tsn(n_frames: float, count: int, length: int = 1) -> Indices:
    """Temporal Segment Networks' test rule (Wang et al. 2016): tick = (N − length + 1)/count, index i = int(tick/2 + tick·i).

    With `length` 1 these are the centres of `count` equal segments; with the length of a stack, the first frames of TBN's stacks,
    which lie inside the clip. `n_frames` may be fractional (TBN counts flow as half of the RGB frames). A clip shorter than
    `count` repeats indices. For a clip shorter than a stack, TBN's rule gives indices before the clip; here they are 0.

    >>> tsn(50, 5).tolist(), tsn(2, 4).tolist(), tsn(2.5, 3, length=5).tolist()
    ([5, 15, 25, 35, 45], [0, 0, 1, 1], [0, 0, 0])
    """
    _check(n_frames)
    # Kept in floating point on purpose: exact integers would move an index by one in about 4 % of clip lengths
    # (N = 30, 58, 60, …), away from every published list made with this rule.
    tick = (n_frames - length + 1) / count
    last = max(int(np.ceil(n_frames)) - 1, 0)
    return np.array([min(max(int(tick / 2 + tick * i), 0), last) for i in range(count)], dtype=np.int32)


def linspace(n_frames: float, count: int) -> Indices:
    """A rule of third-party code: floor(linspace(1, N − 1, count) + ½) in 1-based frame numbers; never the last frame.

    >>> linspace(101, 5).tolist()
    [0, 25, 50, 74, 99]
    """
    _check(n_frames)
    numbers = np.floor(np.linspace(1, max(int(n_frames) - 1, 1), count) + 0.5)
    return (numbers - 1).astype(np.int32)


def inside(n_frames: float, count: int, before: int, after: int) -> Indices:
    """MM-SADA's test rule: `count` centres spaced evenly inside the part of the clip where whole windows fit, without its ends.

    linspace(before, N − after, count + 2)[1:−1], truncated; a clip shorter than a window uses its middle.

    >>> inside(112, 3, 16, 16).tolist(), inside(20, 3, 16, 16).tolist()
    ([36, 56, 76], [10, 10, 10])
    """
    _check(n_frames)
    if n_frames <= before + after:
        return np.full(count, int(n_frames) // 2, dtype=np.int32)
    return np.linspace(before, n_frames - after, count + 2)[1:-1].astype(np.int32)


def centres(rule: str, n_frames: float, count: int, first: int, length: int, step: int) -> Indices:
    """The `count` centres by the name of a recipe's `sampling.rule`; only `inside` uses the window (first, length, step)."""
    if rule == "tsn":
        return tsn(n_frames, count)
    if rule == "linspace":
        return linspace(n_frames, count)
    if rule == "inside":
        return inside(n_frames, count, -first, length * step + first)
    raise ValueError(f"unknown sampling rule {rule!r}")


def window(centre: int, length: int, n_frames: int, first: int | None = None, step: int = 1, edge: str = "replicate") -> Indices:
    """The frames of a window, [length]: centre + first, centre + first + step, …; `first` is −length/2 by default.

    Beyond the clip, `edge` "replicate" repeats its first or last frame and "zero" gives BEYOND.

    >>> window(1, 8, 50).tolist(), window(1, 8, 50, edge="zero").tolist(), window(20, 4, 50, first=-4, step=2).tolist()
    ([0, 0, 0, 0, 1, 2, 3, 4], [-1, -1, -1, 0, 1, 2, 3, 4], [16, 18, 20, 22])
    """
    start = centre + (-(length // 2) if first is None else first)
    frames = start + step * np.arange(length)
    if edge == "zero":
        return np.where((frames >= 0) & (frames < n_frames), frames, BEYOND).astype(np.int32)
    return np.clip(frames, 0, n_frames - 1).astype(np.int32)


def _check(n_frames: float) -> None:
    if n_frames <= 0:
        raise ValueError(f"a clip needs at least one frame, got {n_frames}")
