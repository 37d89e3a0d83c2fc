"""`cia-extract compare`: two collections of features, clip by clip, and why they differ."""

import json
import math
import os
from collections import Counter
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cia_extract import features
from cia_extract.common.arrays import shown
from cia_extract.common.errors import DataError, UsageError
from cia_extract.comparison.diagnosis import Reextract, Row, cosine, diagnose
from cia_extract.features import MODALITIES, Array, ClipFeatures, Collection, from_dataset, from_folder

SAMPLED: Final = 32  # clips, spread over the collection, in which causes are sought


@dataclass(frozen=True)
class Comparison:
    """The result of `compare`.

    `rows` has one entry a clip and modality, `summary` a dict of figures a modality, `diagnosis` sentences on what differs;
    `only_a` and `only_b` are the clips that only one collection has.
    """

    rows: list[Row]
    summary: dict[str, dict[str, Any]]
    diagnosis: list[str]
    only_a: list[str]
    only_b: list[str]

    def as_dict(self) -> dict[str, Any]:
        """The comparison for JSON; numbers that are not finite become None."""
        return json.loads(json.dumps(asdict(self)), parse_constant=lambda _: None)


@np.errstate(all="ignore")  # values that are not finite, or beyond float64 once they are squared, give nan and are named
def compare(a: Path, b: Path, dataset: str | None = None, reextract: Reextract | None = None) -> Comparison:
    """Compare every clip that collections `a` and `b` share, and look for the cause of differences.

    `dataset` chooses the dataset in feature files that hold several. With `reextract`, one clip of A is extracted again under
    each of `HYPOTHESES`. Raises DataError if a collection cannot be read or they share no clip or modality, UsageError if the
    dataset or modality is not clear.
    """
    left, right = _open_both(a, b, dataset)
    names = _modality_names(left, right)
    pairs = _pairs(left, right)
    if not pairs:
        examples = f"{shown(next(iter(left.clips)))} in {a}, {shown(next(iter(right.clips)))} in {b}"
        raise DataError(f"no clip in common ({examples}); clips are matched by id, or by file name without suffix")
    rows: list[Row] = []
    diagnosis = _recipe_lines(left, right)
    for name, (in_a, in_b) in names.items():
        shared = [(x, y) for x, y in pairs if in_a in left.clips[x] and in_b in right.clips[y]]
        step = math.ceil(len(shared) / SAMPLED) or 1
        sample: dict[str, tuple[Array, Array]] = {}
        bad: list[str] = []
        begin = len(rows)
        for i, (x, y) in enumerate(shared):
            first, second = left.clips[x][in_a](), right.clips[y][in_b]()
            rows.append(_measure(x, name, first, second))
            bad += [f"{side}'s {x}" for side, clip in (("A", first), ("B", second)) if not _good(clip.pooled).all()]
            if i % step == 0:
                sample[x] = (first.pooled, second.pooled)
        diagnosis += [f"{name}: {line}" for line in diagnose(name, rows[begin:], sample, bad, reextract)]
    by_modality = {name: [row for row in rows if row.modality == name] for name in names}
    summary = {name: _summary(entries) for name, entries in by_modality.items() if entries}
    only_a, only_b = (sorted(set(side.clips) - {pair[i] for pair in pairs}) for i, side in enumerate((left, right)))
    return Comparison(rows, summary, diagnosis, only_a, only_b)


def _open_both(a: Path, b: Path, dataset: str | None) -> tuple[Collection, Collection]:
    """Collections A and B: a dataset of a feature file, or a folder of arrays. Raises DataError or UsageError."""
    for path in (a, b):
        if not os.path.exists(path):
            raise DataError(
                f"{path}: no such file or folder; give a feature file of cia-extract, or a folder of .npy, .npz or .pt"
            )
    files = {path: features.open_features(path) for path in (a, b) if not os.path.isdir(path)}
    shared = set.intersection(*map(set, files.values())) if files else set()
    collections = []
    for path in (a, b):
        if path not in files:
            collections.append(from_folder(path))
            continue
        held = files[path]
        name = dataset or (next(iter(held)) if len(held) == 1 else next(iter(shared)) if len(shared) == 1 else None)
        if name not in held:
            problem = f"no dataset {name} in it" if name else "several datasets in it"
            raise UsageError(f"{path}: {problem}; choose with --dataset from: {', '.join(held) or 'none'}")
        collections.append(from_dataset(held[name]))
    return collections[0], collections[1]


def _modality_names(left: Collection, right: Collection) -> dict[str, tuple[str, str]]:
    """The modalities to compare: {name: (its name in A, its name in B)}.

    Raises UsageError if it is not clear which of A's is which of B's, DataError if they share none.
    """
    in_a, in_b = ({modality for clip in side.clips.values() for modality in clip} for side in (left, right))
    if "" in in_a | in_b and in_a != in_b:
        if len(in_a) > 1 or len(in_b) > 1:
            unclear = left if "" in in_a else right
            raise UsageError(f"{unclear.path}: rgb, flow or audio? Name the files *_rgb.npy, or put them in a folder rgb/")
        return {max(in_a | in_b): (next(iter(in_a)), next(iter(in_b)))}
    if not in_a & in_b:
        raise DataError(f"no modality in common: {left.path} has {', '.join(in_a)}, {right.path} has {', '.join(in_b)}")
    return {name or "features": (name, name) for name in (*MODALITIES, "") if name in in_a & in_b}


def _pairs(left: Collection, right: Collection) -> list[tuple[str, str]]:
    """(clip of A, clip of B) for the clips that both have, matched by id, else by a short name that is unambiguous."""
    pairs = {clip: clip for clip in left.clips if clip in right.clips}
    by_name = []
    for side in (left, right):
        count = Counter(side.short_names.values())
        by_name.append({name: clip for clip, name in side.short_names.items() if count[name] == 1 and clip not in pairs})
    pairs |= {clip: by_name[1][name] for name, clip in by_name[0].items() if name in by_name[1]}
    return sorted(pairs.items())


def _measure(clip: str, modality: str, a: ClipFeatures, b: ClipFeatures) -> Row:
    """The figures of one clip and modality."""
    x, y, maps = a.pooled, b.pooled, None
    if a.maps is not None and b.maps is not None and a.maps.shape == b.maps.shape:
        maps = float(np.abs(a.maps.astype(np.float32) - b.maps.astype(np.float32)).max())
    figures = _figures(x, y) if x.shape[1] == y.shape[1] else (math.nan, math.nan, math.nan)
    return Row(clip, modality, len(x), len(y), *figures, maps)


def _figures(x: Array, y: Array) -> tuple[float, float, float]:
    """(cosine, relative L2, largest difference) of two [T, C]; their means over time are compared if T differs."""
    if len(x) != len(y):
        x, y = (np.ma.masked_invalid(each).mean(axis=0, keepdims=True).filled(math.nan) for each in (x, y))
    both = np.isfinite(x).all(1) & np.isfinite(y).all(1)
    if not both.any():
        return math.nan, math.nan, math.nan
    x, y = x[both], y[both]
    distance, size = float(np.linalg.norm(x - y)), float(np.linalg.norm(x))
    return cosine(x, y), distance / size if size else math.inf if distance else 0.0, float(np.abs(x - y).max())


def _good(pooled: Array) -> npt.NDArray[np.bool_]:
    """[T]: whether a frame's features are finite and not all zero."""
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
    if left.provenance is None or right.provenance is None:
        return []
    differing = features.differences(left.provenance, right.provenance)
    return [f"the recipes differ in {one}" for one in differing] or ["the recipes are the same"]


def lines(comparison: Comparison) -> list[str]:
    """A comparison as lines of text: a summary a modality, the clips that only one side has, the diagnosis."""
    text = []
    for modality, summary in comparison.summary.items():
        text.append(f"{modality}: " + ", ".join(f"{name.replace('_', ' ')} {value}" for name, value in summary.items()))
    for side, clips in (("A", comparison.only_a), ("B", comparison.only_b)):
        if clips:
            text.append(f"only in {side}: {len(clips)} clips ({clips[0]}{', …' if len(clips) > 1 else ''})")
    return [shown(line, 1000) for line in text + comparison.diagnosis]  # names of clips come from files
