"""`cia-extract compare`: two collections of features, clip by clip, and why they differ."""

import json
import math
import os
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cia_extract import features
from cia_extract.arrays import shown
from cia_extract.collected import MODALITIES, Array, Collection, Features, from_dataset, from_folder
from cia_extract.errors import DataError, UsageError

# (clip of A, modality, changes of A's recipe) → pooled features [T, C]. The changes are those of `HYPOTHESES`; {} reproduces A.
Reextract = Callable[[str, str, dict[str, Any]], Array]
Pairs = Mapping[str, tuple[Array, Array]]  # {clip: (A [T, C], B [T, C])}

LOOKED_AT: Final = 32  # clips, spread over the collection, in which relations are looked for
LARGEST_LAG: Final = 3  # sampled frames

# Name, modalities it can concern, what is done otherwise than in A.
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
    """One clip and modality. The figures are over [T, C], or over means over time where the numbers of frames differ; not
    a number where the channels differ. Frames with values that are not finite are left out."""

    clip: str
    modality: str
    frames_a: int
    frames_b: int
    cosine: float
    relative_l2: float  # ‖a − b‖ / ‖a‖
    max_abs: float
    maps_max_abs: float | None  # over [T, C, H, W], where both have them


@dataclass(frozen=True)
class Comparison:
    """What `compare` found; `summary` is per modality."""

    rows: list[Row]
    summary: dict[str, dict[str, Any]]
    diagnosis: list[str]
    only_a: list[str]
    only_b: list[str]

    def as_dict(self) -> dict[str, Any]:
        """For JSON: what is not a finite number is None."""
        return json.loads(json.dumps(asdict(self)), parse_constant=lambda _: None)


@np.errstate(all="ignore")  # values that are not finite, or beyond float64 once they are squared, give nan and are named
def compare(a: Path, b: Path, dataset: str | None = None, reextract: Reextract | None = None) -> Comparison:
    """Compare every clip that both collections have, and look for the cause of what differs.

    `dataset` names the group of feature files that hold several. With `reextract`, one clip of A is extracted again under
    each of `HYPOTHESES`. Raises DataError or UsageError.
    """
    left, right = _open_both(a, b, dataset)
    names = _modality_names(left, right)
    pairs = _pairs(left, right)
    if not pairs:
        examples = f"{shown(next(iter(left.clips)))} in {a}, {shown(next(iter(right.clips)))} in {b}"
        raise DataError(f"no clip in common ({examples}); clips are matched by id or by file name without suffix")
    rows: list[Row] = []
    diagnosis = _recipe_lines(left, right)
    for name, (in_a, in_b) in names.items():
        both = [(x, y) for x, y in pairs if in_a in left.clips[x] and in_b in right.clips[y]]
        step = math.ceil(len(both) / LOOKED_AT) or 1
        looked_at: dict[str, tuple[Array, Array]] = {}
        bad: list[str] = []
        begin = len(rows)
        for i, (x, y) in enumerate(both):
            first, second = left.clips[x][in_a](), right.clips[y][in_b]()
            rows.append(_measure(x, name, first, second))
            bad += [f"{side}'s {x}" for side, it in (("A", first), ("B", second)) if not _good(it.pooled).all()]
            if i % step == 0:
                looked_at[x] = (first.pooled, second.pooled)
        diagnosis += [f"{name}: {line}" for line in _diagnose(name, rows[begin:], looked_at, bad, reextract)]
    summary = {name: _summary(of) for name in names if (of := [row for row in rows if row.modality == name])}
    only_a, only_b = (sorted(set(side.clips) - {pair[i] for pair in pairs}) for i, side in enumerate((left, right)))
    return Comparison(rows, summary, diagnosis, only_a, only_b)


def _open_both(a: Path, b: Path, dataset: str | None) -> tuple[Collection, Collection]:
    for path in (a, b):
        if not os.path.exists(path):
            raise DataError(
                f"{path}: no such file or folder; give a feature file of cia-extract, or a folder of .npy, .npz or .pt"
            )
    files = {path: features.open_features(path) for path in (a, b) if not os.path.isdir(path)}
    shared = set.intersection(*map(set, files.values())) if files else set()
    chosen = []
    for path in (a, b):
        if path not in files:
            chosen.append(from_folder(path))
            continue
        held = files[path]
        name = dataset or (next(iter(held)) if len(held) == 1 else next(iter(shared)) if len(shared) == 1 else None)
        if name not in held:
            what = f"no dataset {name} in it" if name else "several datasets in it"
            raise UsageError(f"{path}: {what}; choose with --dataset from: {', '.join(held) or 'none'}")
        chosen.append(from_dataset(held[name]))
    return chosen[0], chosen[1]


def _modality_names(left: Collection, right: Collection) -> dict[str, tuple[str, str]]:
    """Modalities to compare: {name: (its name in A, its name in B)}. Raises UsageError where that is not clear."""
    in_a, in_b = ({modality for clip in side.clips.values() for modality in clip} for side in (left, right))
    if "" in in_a | in_b and in_a != in_b:
        if len(in_a) > 1 or len(in_b) > 1:
            unclear = left if "" in in_a else right
            raise UsageError(f"{unclear.path}: rgb, flow or audio? Name the files *_rgb.npy or put them in a folder rgb/")
        return {max(in_a | in_b): (next(iter(in_a)), next(iter(in_b)))}
    if not in_a & in_b:
        raise DataError(f"no modality in common: {left.path} has {', '.join(in_a)}, {right.path} has {', '.join(in_b)}")
    return {name or "features": (name, name) for name in (*MODALITIES, "") if name in in_a & in_b}


def _pairs(left: Collection, right: Collection) -> list[tuple[str, str]]:
    """Clips of A and B that are the same: by id, else by short name where that is unambiguous."""
    pairs = {clip: clip for clip in left.clips if clip in right.clips}
    by_name = []
    for side in (left, right):
        count = Counter(side.short_names.values())
        by_name.append({name: clip for clip, name in side.short_names.items() if count[name] == 1 and clip not in pairs})
    pairs |= {clip: by_name[1][name] for name, clip in by_name[0].items() if name in by_name[1]}
    return sorted(pairs.items())


def _measure(clip: str, modality: str, a: Features, b: Features) -> Row:
    x, y, maps = a.pooled, b.pooled, None
    if a.maps is not None and b.maps is not None and a.maps.shape == b.maps.shape:
        maps = float(np.abs(a.maps.astype(np.float32) - b.maps.astype(np.float32)).max())
    figures = _figures(x, y) if x.shape[1] == y.shape[1] else (math.nan, math.nan, math.nan)
    return Row(clip, modality, len(x), len(y), *figures, maps)


def _figures(x: Array, y: Array) -> tuple[float, float, float]:
    """(cosine, relative L2, greatest difference) of two [T, C]."""
    if len(x) != len(y):
        x, y = (np.ma.masked_invalid(each).mean(axis=0, keepdims=True).filled(math.nan) for each in (x, y))
    both = np.isfinite(x).all(1) & np.isfinite(y).all(1)
    if not both.any():
        return math.nan, math.nan, math.nan
    x, y = x[both], y[both]
    distance, size = float(np.linalg.norm(x - y)), float(np.linalg.norm(x))
    return cosine(x, y), distance / size if size else math.inf if distance else 0.0, float(np.abs(x - y).max())


def cosine(x: Array, y: Array) -> float:
    """Cosine of two arrays as vectors: 1 if both are zero, not a number if one is."""
    x, y = x.astype(np.float64), y.astype(np.float64)  # small errors, as of eps 1e-5, change it by 1e-7
    norms = float(np.linalg.norm(x) * np.linalg.norm(y))
    if norms:
        return float(np.vdot(x, y)) / norms
    return math.nan if x.any() or y.any() else 1.0


def _good(pooled: Array) -> npt.NDArray[np.bool_]:
    """[T]: frames that are finite and not all zero."""
    return np.asarray(np.isfinite(pooled).all(axis=1) & pooled.any(axis=1))


def _summary(rows: Sequence[Row]) -> dict[str, Any]:
    worst = min(rows, key=lambda row: -2.0 if math.isnan(row.cosine) else row.cosine)
    return {
        "clips": len(rows),
        "median_cosine": float(np.median([row.cosine for row in rows])),
        "median_relative_l2": float(np.median([row.relative_l2 for row in rows])),
        "max_abs": max(row.max_abs for row in rows),
        "worst_clip": worst.clip,
        "worst_cosine": worst.cosine,
    }


def _recipe_lines(left: Collection, right: Collection) -> list[str]:
    if left.recipe is None or right.recipe is None:
        return []
    lines = features.differences(left.recipe, right.recipe)
    return [f"the recipes differ in {line}" for line in lines] or ["the recipes are the same"]


def _diagnose(modality: str, rows: Sequence[Row], pairs: Pairs, bad: list[str], reextract: Reextract | None) -> list[str]:
    """Sentences on one modality, from the figures of all clips and the features of some."""
    lines = [f"{len(bad)} clips have frames that are all zero or not finite: {bad[0]}{', …' * (len(bad) > 1)}"] if bad else []
    channels = {(x.shape[1], y.shape[1]) for x, y in pairs.values() if x.shape[1] != y.shape[1]}
    if channels:
        return [*lines, "; ".join(f"{c} channels in A, {d} in B" for c, d in sorted(channels)) + ": other features altogether"]
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
        return [*lines, "the same up to numerical noise, as of other libraries or devices"]
    causes = [*_in_time(pairs), *_in_channels(pairs), *_in_scale(pairs)]
    if reextract:
        causes += _by_reextraction(modality, pairs, reextract)
    return lines + (causes or ["different, and neither a shift in time, a permutation nor a scale explains it"])


def _in_time(pairs: Pairs) -> list[str]:
    """Frames of B that are those of A at another place. Clips are centred over time, since all their frames are alike."""
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
    """The frames of A and B that meet when frame t of B is frame t + lag of A."""
    return (x[lag:], y[: len(y) - lag]) if lag >= 0 else (x[:lag], y[-lag:])


def _in_channels(pairs: Pairs) -> list[str]:
    """Every frame has A's values in another order."""
    permuted = all(cosine(x, y) < 0.99 and cosine(np.sort(x), np.sort(y)) > 1 - 1e-5 for x, y in pairs.values())
    return ["B has A's values with its channels permuted"] if permuted else []


def _in_scale(pairs: Pairs) -> list[str]:
    """b ≈ s·a + o by least squares over all values."""
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
    """Which change of A's recipe makes B, tried on the clip of median likeness."""
    clip = sorted(pairs, key=lambda clip: cosine(*pairs[clip]))[len(pairs) // 2]
    a, b = pairs[clip]
    tries = {name: changes for name, modalities, changes in HYPOTHESES if modality in modalities}
    if not tries:
        return []
    again = reextract(clip, modality, {})
    if again.shape != a.shape or not cosine(a, again) > 0.999:
        return [f"{clip} extracted again is not A, so no change of recipe could be tried; are these A's clips and weights?"]
    likeness = {name: cosine(b, reextract(clip, modality, changes)) for name, changes in tries.items()}
    # Below 1e-8 an error is rounding. What explains B leaves a quarter of the error or less; equals are all named.
    errors = {name: max(1 - value, 1e-8) for name, value in likeness.items() if not math.isnan(value)}
    least, before = min(errors.values(), default=math.inf), max(1 - cosine(b, again), 1e-8)
    if least > 0.25 * before:
        return [f"none of the {len(tries)} changes of recipe that were tried on {clip} explains B"]
    best = [name for name in errors if errors[name] <= 2 * least]
    verb = "matches" if least < 1e-4 else "comes nearer to"
    digits = max(4, 2 - math.floor(math.log10(before)))  # as many as show the gain
    gain = f"cosine {likeness[best[0]]:.{digits}f} against {1 - before:.{digits}f}"
    return [f"B {verb} A re-extracted with {' or '.join(best)} ({gain}, {clip})"]


def lines(found: Comparison) -> list[str]:
    """A comparison for people: a summary a modality, the clips that only one side has, the diagnosis."""
    said = []
    for modality, summary in found.summary.items():
        said.append(f"{modality}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in summary.items()))
    for side, clips in (("A", found.only_a), ("B", found.only_b)):
        if clips:
            said.append(f"only in {side}: {len(clips)} clips ({clips[0]}{', …' if len(clips) > 1 else ''})")
    return [shown(line, 1000) for line in said + found.diagnosis]  # clips' names are those of files
