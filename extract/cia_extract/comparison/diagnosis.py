"""Why two collections of features differ: shifts in time, permutations, scales, changes of recipe."""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

import numpy as np

from cia_extract.features import Array

# (clip of A, modality, changes to A's recipe as in `HYPOTHESES`) → pooled features [T, C]; without changes, those of A.
Reextract = Callable[[str, str, dict[str, Any]], Array]

Pairs = Mapping[str, tuple[Array, Array]]  # {clip: (A [T, C], B [T, C])}

LARGEST_LAG: Final = 3  # sampled frames

# (name, modalities that it can concern, changes to A's recipe)
HYPOTHESES: Final[tuple[tuple[str, tuple[str, ...], dict[str, Any]], ...]] = (
    ("batch normalisation's eps 1e-5", ("rgb", "flow"), {"bn_eps": 1e-5}),
    ("channels in BGR order", ("rgb",), {"channel_order": "bgr"}),
    ("flow components swapped (y, x)", ("flow",), {"flow_order": "yx"}),
    ("inputs in [0, 1]", ("rgb", "flow"), {"pixel_range": (0.0, 1.0)}),
    ("inputs in 0 … 255", ("rgb", "flow"), {"pixel_range": (0.0, 255.0)}),
    ("windows one frame earlier", ("rgb", "flow"), {"window_shift": -1}),
    ("windows one frame later", ("rgb", "flow"), {"window_shift": 1}),
    ("zeros beyond the clip's ends", ("rgb", "flow"), {"edge": "zero"}),
)


@dataclass(frozen=True)
class Row:
    """The figures of one clip and modality, over all values [T, C], or over means over time if the numbers of frames differ.

    They are NaN if the channels differ. Frames with values that are not finite are left out.
    """

    clip: str
    modality: str
    frames_a: int
    frames_b: int
    cosine: float
    relative_l2: float  # ‖a − b‖ / ‖a‖
    max_abs: float
    maps_max_abs: float | None  # over [T, C, H, W], where both have them


def cosine(x: Array, y: Array) -> float:
    """Cosine of two arrays as vectors: 1 if both are zero, NaN if one is."""
    x, y = x.astype(np.float64), y.astype(np.float64)  # a small change, as of eps to 1e-5, moves it by only 1e-7
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    if norms:
        return float(np.vdot(x, y)) / norms
    return math.nan if x.any() or y.any() else 1.0


def diagnose(modality: str, rows: Sequence[Row], pairs: Pairs, bad: list[str], reextract: Reextract | None) -> list[str]:
    """Sentences on how one modality differs and why, from the figures of all clips and the features of some.

    `bad` names the clips with unusable frames.
    """
    lines = [f"{len(bad)} clips have frames that are all zero or not finite: {bad[0]}{', …' * (len(bad) > 1)}"] if bad else []
    channels = {(x.shape[1], y.shape[1]) for x, y in pairs.values() if x.shape[1] != y.shape[1]}
    if channels:
        counts = "; ".join(f"{c} channels in A, {d} in B" for c, d in sorted(channels))
        return [*lines, f"{counts}: these are different kinds of features"]
    if other := [row for row in rows if row.frames_a != row.frames_b]:
        count = f"{other[0].frames_a} frames a clip in A, {other[0].frames_b} in B ({len(other)} of {len(rows)} clips)"
        lines.append(f"{count}; their means over time are compared")
    pairs = {clip: (x, y) for clip, (x, y) in pairs.items() if x.shape == y.shape and np.isfinite([x, y]).all()}
    if not pairs:
        return lines
    if all(row.max_abs == 0 and not row.maps_max_abs for row in rows):
        return [*lines, "identical"]
    if all((np.abs(x - y) <= 2**-11 * np.maximum(np.abs(x), np.abs(y)) + 2**-25).all() for x, y in pairs.values()):
        return [*lines, "the same up to rounding to float16"]
    if all(row.relative_l2 < 1e-4 for row in rows):
        return [*lines, "the same up to numerical noise, as between libraries or devices"]
    causes = [*_in_time(pairs), *_in_channels(pairs), *_in_scale(pairs)]
    if reextract:
        causes += _by_reextraction(modality, pairs, reextract)
    return lines + (causes or ["different, and neither a shift in time, a permutation nor a scale explains it"])


def _in_time(pairs: Pairs) -> list[str]:
    """Whether B has A's frames shifted or reversed in time. Clips are centred over time, since all their frames are alike."""
    pairs = {clip: (x, y) for clip, (x, y) in pairs.items() if len(x) >= 2 * LARGEST_LAG}
    if not pairs:
        return []

    def error(moved: Callable[[Array, Array], tuple[Array, Array]]) -> float:
        centred = ([part - part.mean(0) for part in moved(x, y)] for x, y in pairs.values())
        return float(np.median([1 - np.nan_to_num(cosine(x, y)) for x, y in centred]))

    errors = {lag: error(partial(_lagged, lag)) for lag in range(-LARGEST_LAG, LARGEST_LAG + 1)}
    best = min(errors, key=lambda lag: errors[lag])
    backwards = error(lambda x, y: (x[::-1], y))
    if backwards < 0.2 and backwards < 0.25 * min(errors.values()):
        return ["B is A with its frames in reversed order"]
    if errors[best] < 0.2 and errors[best] < 0.25 * errors[0]:
        gain = f"correlation {1 - errors[best]:.3f} against {1 - errors[0]:.3f} unshifted"
        return [f"B is A shifted in time: frame t of B is frame t{best:+d} of A ({gain})"]
    return []


def _lagged(lag: int, x: Array, y: Array) -> tuple[Array, Array]:
    """The frames of A and B that correspond if frame t of B is frame t + lag of A."""
    return (x[lag:], y[: len(y) - lag]) if lag >= 0 else (x[:lag], y[-lag:])


def _in_channels(pairs: Pairs) -> list[str]:
    """Whether every frame of B has A's values in another order."""
    permuted = all(cosine(x, y) < 0.99 and cosine(np.sort(x), np.sort(y)) > 1 - 1e-5 for x, y in pairs.values())
    return ["B has A's values with its channels permuted"] if permuted else []


def _in_scale(pairs: Pairs) -> list[str]:
    """Whether b ≈ scale·a + offset, by least squares over all values."""
    x, y = (np.concatenate([pair[i].ravel() for pair in pairs.values()]) for i in (0, 1))
    if not 0 < x.std() < math.inf or not 0 < y.std() < math.inf:
        return []
    scale, offset = np.polyfit(x, y, 1)
    unexplained = float(np.var(y - scale * x - offset) / y.var())
    same = abs(scale - 1) < 0.01 and abs(offset) < 0.01 * x.std()
    if same or unexplained > 1e-3 or unexplained > 0.25 * np.mean((y - x) ** 2) / y.var():
        return []
    return [f"B = {scale:.5g} · A {offset:+.3g} explains {100 * (1 - unexplained):.2f} % of B"]


def _by_reextraction(modality: str, pairs: Pairs, reextract: Reextract) -> list[str]:
    """Which of `HYPOTHESES` turns A into B, tried on the clip of median similarity."""
    clip = sorted(pairs, key=lambda clip: cosine(*pairs[clip]))[len(pairs) // 2]
    a, b = pairs[clip]
    candidates = {name: changes for name, modalities, changes in HYPOTHESES if modality in modalities}
    if not candidates:
        return []
    again = reextract(clip, modality, {})
    if again.shape != a.shape or not cosine(a, again) > 0.999:
        return [f"{clip} extracted again differs from A, so no change of recipe was tried; are these A's clips and weights?"]
    likeness = {name: cosine(b, reextract(clip, modality, changes)) for name, changes in candidates.items()}
    # Errors below 1e-8 are rounding. A cause leaves at most a quarter of the error; equally good ones are all named.
    errors = {name: max(1 - value, 1e-8) for name, value in likeness.items() if not math.isnan(value)}
    least, before = min(errors.values(), default=math.inf), max(1 - cosine(b, again), 1e-8)
    if least > 0.25 * before:
        return [f"none of the {len(candidates)} changes of recipe that were tried on {clip} explains B"]
    best = [name for name in errors if errors[name] <= 2 * least]
    verb = "matches" if least < 1e-4 else "comes nearer to"
    digits = max(4, 2 - math.floor(math.log10(before)))  # enough to show the gain
    gain = f"cosine {likeness[best[0]]:.{digits}f} against {1 - before:.{digits}f}"
    return [f"B {verb} A re-extracted with {' or '.join(best)} ({gain}, {clip})"]
