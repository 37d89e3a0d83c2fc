"""`cia-extract compare`: two collections of features, clip by clip, and why they differ.

A collection is a feature file (`features`), or a folder of .npy, .npz or .pt files in the layouts in use: one file a clip,
or a folder of one file a frame for each clip; the modality is a folder's name (rgb/, flow/, audio/) or the end of the
file's (`_rgb`, as v-iashin/video_features writes). Arrays are [T, C], [T, C, H, W], [T, 1, 1, C] or [C].
"""

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cia_extract import features
from cia_extract.errors import DataError, UsageError

Array = npt.NDArray[Any]
# (clip of A, modality, changes of A's recipe) → pooled features [T, C]. The changes are those of `HYPOTHESES`; {} reproduces A.
Reextract = Callable[[str, str, dict[str, Any]], Array]
Pairs = Mapping[str, tuple[Array, Array]]  # {clip: (A [T, C], B [T, C])}

MODALITIES: Final = ("rgb", "flow", "audio")
SUFFIXES: Final = (".npy", ".npz", ".pt")
BESIDES: Final = ("_fps", "_timestamps_ms")  # what video_features writes next to its features
FRAME: Final = re.compile(r"(?:(?:img|frame|rgb|flow)_)?\d+")  # name of a file that holds one frame
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


@dataclass(frozen=True)
class Features:
    """One clip and modality."""

    pooled: Array  # [T, C] float64
    maps: Array | None  # [T, C, H, W]


@dataclass(frozen=True)
class Collection:
    """Features by clip and modality, read on request."""

    path: Path
    clips: Mapping[str, Mapping[str, Callable[[], Features]]]
    short_names: Mapping[str, str]  # a clip's name without folders and suffix
    recipe: features.Recipe | None


def compare(a: Path, b: Path, dataset: str | None = None, reextract: Reextract | None = None) -> Comparison:
    """Compare every clip that both collections have, and look for the cause of what differs.

    `dataset` names the group of feature files that hold several. With `reextract`, one clip of A is extracted again under
    each of `HYPOTHESES`. Raises DataError or UsageError.
    """
    left, right = _open_both(a, b, dataset)
    names = _modality_names(left, right)
    pairs = _pairs(left, right)
    if not pairs:
        examples = f"{next(iter(left.clips))} in {a}, {next(iter(right.clips))} in {b}"
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
    summary = {name: _summary([row for row in rows if row.modality == name]) for name in names}
    only_a, only_b = (sorted(set(side.clips) - {pair[i] for pair in pairs}) for i, side in enumerate((left, right)))
    return Comparison(rows, summary, diagnosis, only_a, only_b)


def _open_both(a: Path, b: Path, dataset: str | None) -> tuple[Collection, Collection]:
    files = {path: features.open_features(path) for path in (a, b) if not path.is_dir()}
    shared = set.intersection(*map(set, files.values())) if files else set()
    chosen = []
    for path in (a, b):
        if path not in files:
            chosen.append(_folder(path))
            continue
        held = files[path]
        name = dataset or (next(iter(held)) if len(held) == 1 else next(iter(shared)) if len(shared) == 1 else None)
        if name not in held:
            what = f"no dataset {name} in it" if name else "several datasets in it"
            raise UsageError(f"{path}: {what}; choose with --dataset from: {', '.join(held) or 'none'}")
        chosen.append(_dataset(held[name]))
    return chosen[0], chosen[1]


def _dataset(data: features.DatasetFeatures) -> Collection:
    """The finished rows of a dataset of a feature file."""
    done = {modality: data.done([modality]) for modality in data.modalities}
    arrays = {name: data.array(name) for name in data.regions if name.endswith(("/maps", "/pooled"))}

    def read(row: int, modality: str) -> Features:
        maps = arrays.get(f"{modality}/maps")
        return Features(arrays[f"{modality}/pooled"][row].astype(np.float64), None if maps is None else np.asarray(maps[row]))

    clips, short = {}, {}
    for row, (clip, path) in enumerate(zip(data.columns["clip"].tolist(), data.columns["path"].tolist(), strict=True)):
        if any(rows[row] for rows in done.values()):
            clips[clip] = {modality: partial(read, row, modality) for modality, rows in done.items() if rows[row]}
            short[clip] = Path(path).stem
    if not clips:
        raise DataError(f"{data.path}: dataset {data.name} has no finished clip; finish it with cia-extract")
    return Collection(data.path, clips, short, data.recipe)


def _folder(path: Path) -> Collection:
    found: dict[tuple[str, str], list[Path]] = {}
    for file in sorted(path.rglob("*"), key=lambda file: (len(file.name), file.name)):  # 2.npy before 10.npy
        if file.suffix not in SUFFIXES or file.stem.endswith(BESIDES):
            continue
        clip, modality = _clip_and_modality(file.relative_to(path))
        folder, _, name = clip.rpartition("/")
        may_be_frame = folder and FRAME.fullmatch(name)
        is_frame = may_be_frame and ((folder, modality) in found or _load(file, modality).ndim in (1, 3))
        files = found.setdefault((folder if is_frame else clip, modality), [])
        files.append(file)
        if len(files) > 1 and not is_frame:
            raise DataError(f"{path}: {files[0].name} and {file.name} are the same clip, {clip}; keep one")
    if not found:
        raise DataError(f"{path}: no features in it ({', '.join(SUFFIXES)})")
    clips: dict[str, dict[str, Callable[[], Features]]] = {}
    for (clip, modality), files in found.items():
        clips.setdefault(clip, {})[modality] = partial(_stack, files, modality)
    return Collection(path, clips, {clip: clip.rpartition("/")[2] for clip in clips}, None)


def _clip_and_modality(relative: Path) -> tuple[str, str]:
    """(clip, modality) of a file in a folder; the modality is "" where neither a folder nor the file's end says it."""
    *folders, name = relative.with_suffix("").parts
    modality = next((part for part in folders if part.lower() in MODALITIES), "")
    if modality:
        folders.remove(modality)
    elif ending := re.fullmatch(f"(.+)_({'|'.join(MODALITIES)})", name):
        name, modality = ending.groups()
    return "/".join([*folders, name]), modality.lower()


def _load(file: Path, modality: str) -> Array:
    """The one array of a file, or the one that has the modality's name. Pickles are refused."""
    try:
        if file.suffix == ".pt":
            import torch

            held = torch.load(file, map_location="cpu", weights_only=True)
            held = {name: x.float().numpy() for name, x in (held if isinstance(held, dict) else {"": held}).items()}
        else:
            loaded = np.load(file, allow_pickle=False)
            held = dict(loaded) if file.suffix == ".npz" else {"": loaded}
    except Exception as error:  # zipfile, pickle, torch and numpy each have their own for a file that is not what it seems
        reason = (str(error).splitlines() or [repr(error)])[0]
        raise DataError(f"{file}: not an array, or a pickle, which is never read ({reason})") from error
    name = modality if modality in held else next(iter(held)) if len(held) == 1 else None
    if name is None:
        raise DataError(f"{file}: holds {', '.join(map(str, held)) or 'nothing'}; save the features alone")
    array: Array = held[name]
    if array.dtype.kind not in "fiu" or not 1 <= array.ndim <= 4 or 0 in array.shape:
        raise DataError(f"{file}: {array.dtype} {list(array.shape)} is not [T, C], [T, C, H, W] or [C]")
    return array


def _stack(files: Sequence[Path], modality: str) -> Features:
    """A clip from its file, or from its frames' files."""
    arrays = [_load(file, modality) for file in files]
    if any(array.shape != arrays[0].shape for array in arrays):
        raise DataError(f"{files[0].parent}: its frames have different shapes; remove what does not belong")
    array = np.stack(arrays) if len(arrays) > 1 else arrays[0]
    array = array[None] if array.ndim in (1, 3) else array  # [C] or [C, H, W]: one frame
    if array.ndim == 4 and array.shape[1:3] == (1, 1):  # [T, 1, 1, C], channels last
        array = array[:, 0, 0]
    if array.ndim == 2:
        return Features(array.astype(np.float64), None)
    return Features(array.mean((2, 3), dtype=np.float64), array)


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
    if not rows:
        return {"clips": 0}
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
    lengths = Counter((row.frames_a, row.frames_b) for row in rows if row.frames_a != row.frames_b)
    if lengths:
        (t, u), count = lengths.most_common(1)[0]
        lines.append(f"{t} frames a clip in A, {u} in B ({count} of {len(rows)} clips); their means over time are compared")
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
    if x.std() == 0 or y.std() == 0:
        return []
    scale, offset = np.polyfit(x, y, 1)
    unexplained = float(np.var(y - scale * x - offset) / y.var())
    if unexplained > 1e-3 or unexplained > 0.25 * np.mean((y - x) ** 2) / y.var():
        return []
    return [f"B = {scale:.5g} · A {offset:+.3g} explains {100 * (1 - unexplained):.2f} % of B"]


def _by_reextraction(modality: str, pairs: Pairs, reextract: Reextract) -> list[str]:
    """Which change of A's recipe makes B, tried on the clip of median likeness."""
    clip = sorted(pairs, key=lambda clip: cosine(*pairs[clip]))[len(pairs) // 2]
    a, b = pairs[clip]
    tries = [(name, changes) for name, modalities, changes in HYPOTHESES if modality in modalities]
    again = reextract(clip, modality, {}) if tries else a
    if again.shape != a.shape or not cosine(a, again) > 0.999:
        return [f"{clip} extracted again is not A, so no change of recipe could be tried; are these A's clips and weights?"]
    likeness = {name: cosine(b, reextract(clip, modality, changes)) for name, changes in tries}
    # Below 1e-8 an error is rounding. What explains B leaves a quarter of the error or less, and half of what the next leaves.
    errors = {name: max(1 - value, 1e-8) for name, value in likeness.items() if not math.isnan(value)}
    order = sorted(errors, key=lambda name: errors[name])
    before = cosine(b, again)
    if not order or errors[order[0]] > 0.25 * max(1 - before, 1e-8):
        return [f"none of the {len(tries)} changes of recipe that were tried on {clip} explains B"] if tries else []
    best = [name for name in order if errors[name] <= 2 * errors[order[0]]]
    verb = "matches" if errors[best[0]] < 1e-4 else "comes nearer to"
    return [f"B {verb} A re-extracted with {' or '.join(best)} (cosine {likeness[best[0]]:.6f} against {before:.6f}, {clip})"]
