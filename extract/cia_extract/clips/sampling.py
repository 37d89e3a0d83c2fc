"""Which frames of a clip are described, and which frames each description sees. Pure index arithmetic, 0-based.

The rules are those of public code: `tsn` of https://github.com/ekazakos/temporal-binding-network (dataset.py) and
https://github.com/cmhungsteve/TA3N (dataset.py), `inside` of https://github.com/jonmun/MM-SADA-code (src/data_gen). Windows of 16
frames, t − 8 … t + 7, as in TranSVAE's I3D features (https://github.com/ldkong1205/TranSVAE, dataset_preparation), which puts
zeros beyond the clip's ends; replicated ends are this project's choice.
"""

import numpy as np
import numpy.typing as npt

Indices = npt.NDArray[np.int32]

BEYOND = -1  # in a window with zeros beyond the clip


def tsn(n_frames: float, count: int, length: int = 1) -> Indices:
    """Temporal Segment Networks' test rule (Wang et al. 2016): tick = (N − length + 1)/count, index i = int(tick/2 + tick·i).

    With `length` 1 these are the centres of `count` equal segments; with the length of a stack, TBN's first frames of stacks
    that lie inside the clip. `n_frames` may be fractional (TBN counts flow as half of the RGB frames). A clip shorter than
    `count` repeats indices. TBN's rule gives frames before the clip where it is shorter than a stack; here they start with it.

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
    """A rule of third parties: floor(linspace(1, N − 1, count) + ½) in 1-based frame numbers; never the last frame.

    >>> linspace(101, 5).tolist()
    [0, 25, 50, 74, 99]
    """
    _check(n_frames)
    numbers = np.floor(np.linspace(1, max(int(n_frames) - 1, 1), count) + 0.5)
    return (numbers - 1).astype(np.int32)


def inside(n_frames: float, count: int, before: int, after: int) -> Indices:
    """MM-SADA's test rule: `count` centres evenly inside the part of the clip where whole windows fit, its ends left out.

    linspace(before, N − after, count + 2)[1:−1], truncated; a clip shorter than a window uses its middle.

    >>> inside(112, 3, 16, 16).tolist(), inside(20, 3, 16, 16).tolist()
    ([36, 56, 76], [10, 10, 10])
    """
    _check(n_frames)
    if n_frames <= before + after:
        return np.full(count, int(n_frames) // 2, dtype=np.int32)
    return np.linspace(before, n_frames - after, count + 2)[1:-1].astype(np.int32)


def centres(rule: str, n_frames: float, count: int, first: int, length: int, step: int) -> Indices:
    """Centres by the name of a recipe's `sampling.rule`; the window (first, length, step) matters to `inside` only."""
    if rule == "tsn":
        return tsn(n_frames, count)
    if rule == "linspace":
        return linspace(n_frames, count)
    if rule == "inside":
        return inside(n_frames, count, -first, length * step + first)
    raise ValueError(f"unknown sampling rule {rule!r}")


def window(centre: int, length: int, n_frames: int, first: int | None = None, step: int = 1, edge: str = "replicate") -> Indices:
    """Frames centre + first, + first + step, … of a window, [length]; default first: −length/2.

    Beyond the clip `edge` "replicate" repeats its first or last frame, "zero" gives BEYOND.

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
