"""Features to compare, from a feature file or from a folder in the layouts in use, read on request.

A folder holds .npy, .npz, .pt (.pth, .t7) or .pkl files: one file a clip, or a folder of one file a frame for each clip; the
modality is a folder's name (rgb/, flow/, audio/) or the end of the file's (`_rgb`, as v-iashin/video_features writes). Arrays are
[T, C], [T, C, H, W], [T, 1, 1, C] or [C].
"""

import re
from collections.abc import Callable, Container, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cia_extract.common import safe_pickle, sparse_files
from cia_extract.common.arrays import Stored, check_growth, held, npy_files, shown, torch_files
from cia_extract.common.errors import DataError
from cia_extract.common.modalities import MODALITIES
from cia_extract.features.reader import DatasetFeatures
from cia_extract.features.schema import Provenance

Array = npt.NDArray[Any]

TORCH: Final = (".pt", ".pth", ".t7")
SUFFIXES: Final = (".npy", ".npz", *TORCH, ".pkl", ".pickle")
EPIC_NAMES: Final = {"RGB": "rgb", "Flow": "flow", "Audio": "audio"}
BESIDES: Final = ("_fps", "_timestamps_ms")  # what video_features writes next to its features
FRAME: Final = re.compile(r"(?:(?:img|frame|rgb|flow)_)?\d+")  # name of a file that holds one frame


@dataclass(frozen=True)
class ClipFeatures:
    """One clip and modality."""

    pooled: Array  # [T, C] float64
    maps: Array | None  # [T, C, H, W]


@dataclass(frozen=True)
class Collection:
    """Features by clip and modality, read on request."""

    path: Path
    clips: Mapping[str, Mapping[str, Callable[[], ClipFeatures]]]
    short_names: Mapping[str, str]  # a clip's name without folders and suffix
    provenance: Provenance | None


def from_dataset(data: DatasetFeatures) -> Collection:
    """The finished rows of a dataset of a feature file."""
    done = {modality: data.done([modality]) for modality in data.modalities}
    arrays = {name: data.array(name) for name in data.regions if name.endswith(("/maps", "/pooled"))}

    def read(row: int, modality: str) -> ClipFeatures:
        maps = arrays.get(f"{modality}/maps")
        return ClipFeatures(arrays[f"{modality}/pooled"][row].astype(np.float64), None if maps is None else np.asarray(maps[row]))

    clips, short = {}, {}
    for row, (clip, path) in enumerate(zip(data.columns["clip"].tolist(), data.columns["path"].tolist(), strict=True)):
        if any(rows[row] for rows in done.values()):
            clips[clip] = {modality: partial(read, row, modality) for modality, rows in done.items() if rows[row]}
            short[clip] = Path(path).stem
    if not clips:
        raise DataError(f"{data.path}: dataset {data.name} has no finished clip; finish it with cia-extract")
    return Collection(data.path, clips, short, data.provenance)


def from_folder(path: Path, known: Container[str] = ()) -> Collection:
    """The features below a folder. Raises DataError for a file that is none, and where two files may be one clip.

    Numbered files of one vector or map each are frames of the clip that their folder is, but for those that are `known` clips
    by their names (with as many of their folders as the names have).
    """
    files_of: dict[tuple[str, str], list[Path]] = {}
    for file in sorted(path.rglob("*"), key=lambda file: (len(file.name), str(file))):  # 2.npy before 10.npy
        if file.suffix not in SUFFIXES or file.stem.endswith(BESIDES) or not file.is_file():
            continue
        clip, modality = _clip_and_modality(file.relative_to(path))
        folder, _, name = clip.rpartition("/")
        may_be_frame = folder and FRAME.fullmatch(name) and (_is_known(path, folder, known) or not _is_known(path, clip, known))
        is_frame = may_be_frame and ((folder, modality) in files_of or len(_stored(file, modality).shape) in (1, 3))
        whole = folder if is_frame else clip
        files = files_of.setdefault((whole, modality), [])
        same_frame = is_frame and files and (files[-1].parent != file.parent or files[-1].stem == file.stem)
        files.append(file)
        if len(files) > 1 and (same_frame or not is_frame):
            first, second = (shown(file.relative_to(path), 200) for file in files[-2:])
            raise DataError(f"{path}: {first} and {second} are the same clip, {shown(whole, 200)}; keep one")
    if not files_of:
        raise DataError(f"{path}: no features in it ({', '.join(SUFFIXES)})")
    clips: dict[str, dict[str, Callable[[], ClipFeatures]]] = {}
    for (clip, modality), files in files_of.items():
        clips.setdefault(clip, {})[modality] = partial(_stack, files, modality)
    return Collection(path, clips, {clip: clip.rpartition("/")[2] for clip in clips}, None)


def _is_known(path: Path, clip: str, known: Container[str]) -> bool:
    parts = [path.resolve().name, *clip.split("/")]
    return any("/".join(parts[begin:]) in known for begin in range(len(parts)))


def rows_of(path: Path) -> tuple[list[str], dict[str, Array]]:
    """(clip ids, {modality: [N, T, C] or [N, C]}) of a file of many clips: EPIC-100's released pickle, or an .npz.

    The pickle is {"features": {"RGB", "Flow", "Audio"}, "narration_ids"}; the .npz holds `clip`, and rgb, flow or audio. Raises
    DataError.
    """
    try:
        sparse_files.check(path)
        ids, arrays = _rows_of_npz(path) if path.suffix == ".npz" else _rows_of_pickle(path)
    except DataError as error:
        raise DataError(f"{path}: {error}") from error
    except Exception as error:  # zipfile and numpy each have their own, OSError among them
        raise DataError(f"{path}: cannot be read, damaged or another kind of file ({type(error).__name__})") from error
    for name, array in arrays.items():
        if name not in MODALITIES or array.dtype.kind not in "fiu" or array.ndim not in (2, 3) or 0 in array.shape[1:]:
            what = f"{shown(name)} is {array.dtype.name} {list(array.shape)}"
            raise DataError(f"{path}: {what}; expected rgb, flow or audio [clips, frames, channels] or [clips, channels]")
        if len(array) != len(ids):
            raise DataError(f"{path}: {name} has {len(array)} rows, and it names {len(ids)} clips; one row a clip")
    return ids, arrays


def _rows_of_pickle(path: Path) -> tuple[list[str], dict[str, Array]]:
    content = safe_pickle.load(path)
    if (
        not isinstance(content, Mapping)
        or not {"features", "narration_ids"} <= set(content)
        or not isinstance(content["features"], Mapping)
    ):
        raise DataError(
            "expected a dictionary with features and narration_ids, as EPIC-100's UDA features have; others are read from "
            "an .npz with clip and rgb, flow or audio, or from a folder of one file a clip"
        )
    arrays = {}
    for name, value in content["features"].items():
        stored = _numbers(value)
        if name not in EPIC_NAMES or stored is None:
            raise DataError(f"features {shown(name)} are not RGB, Flow or Audio, or no array of numbers")
        arrays[EPIC_NAMES[name]] = stored.read()
    return texts("narration_ids", content["narration_ids"]), arrays


def _rows_of_npz(path: Path) -> tuple[list[str], dict[str, Array]]:
    stored = npy_files.npz(path)
    if "clip" not in stored or len(stored) < 2:
        raise DataError("expected the arrays clip (the ids) and rgb, flow or audio (a row a clip); see np.savez")
    check_growth(sum(array.nbytes for array in stored.values()), path.stat().st_size)
    return texts("clip", stored["clip"].read()), {name: array.read() for name, array in stored.items() if name != "clip"}


def texts(name: str, values: Any) -> list[str]:
    """Names as text: text as it is, bytes as UTF-8, whole numbers in digits. Raises DataError for anything else."""
    if isinstance(values, np.ndarray):
        if values.ndim != 1 or values.dtype.kind not in "iuSU":
            raise DataError(f"{name} is {values.dtype.name} {list(values.shape)}; expected a list of names")
        values = values.tolist()
    if not isinstance(values, list | tuple):
        raise DataError(f"{name} is no list of names")
    ids = []
    for value in values:
        try:
            ids.append(value.decode() if isinstance(value, bytes) else value if isinstance(value, str) else str(value))
        except UnicodeDecodeError:
            raise DataError(f"{name}: {value[:40]!a} is not UTF-8; save the names as text (str), not as bytes") from None
        if not isinstance(value, str | bytes | int):
            raise DataError(f"{name} holds a {type(value).__name__}; expected names")
    return ids


def _clip_and_modality(relative: Path) -> tuple[str, str]:
    """(clip, modality) of a file in a folder; the modality is "" where neither a folder nor the file's end says it."""
    *folders, name = relative.with_suffix("").parts
    modality = next((part for part in folders if part.lower() in MODALITIES), "")
    if modality:
        folders.remove(modality)
    elif ending := re.fullmatch(f"(.+)_({'|'.join(MODALITIES)})", name):
        name, modality = ending.groups()
    return "/".join([*folders, name]), modality.lower()


def _stored(file: Path, modality: str) -> Stored:
    """The one array of a file, or the one that has the modality's name, before its values are read. Raises DataError."""
    where = shown(file, 1000)
    try:
        sparse_files.check(file)
        arrays = _arrays(file)
    except Exception as error:  # zipfile and numpy each have their own for a file that is not what it seems
        reason = shown(str(error) or type(error).__name__, 200)
        if file.suffix in TORCH:
            raise DataError(
                f"{where}: not plain tensors of torch.save, and nothing else is read of such files ({reason}); save the features "
                "(Lua's own .t7, too) as .npy"
            ) from error
        raise DataError(f"{where}: not an array, or a pickle of more than arrays, which is never read ({reason})") from error
    name = modality if modality in arrays else next(iter(arrays)) if len(arrays) == 1 else None
    if name is None:
        some = ", ".join(shown(name) for name in list(arrays)[:5]) + (", …" if len(arrays) > 5 else "")
        raise DataError(f"{where}: holds {some or 'nothing'}; save the features alone")
    array = arrays[name]
    if not isinstance(array, Stored):
        raise DataError(f"{where}: holds no array of numbers; save the features as float32 in an .npy")
    if array.kind not in "fiu" or not 1 <= len(array.shape) <= 4 or 0 in array.shape:
        raise DataError(f"{where}: {array.type} {list(array.shape)} is not [T, C], [T, C, H, W] or [C]")
    try:
        check_growth(array.nbytes, file.stat().st_size)
    except DataError as error:
        raise DataError(f"{where}: {error}") from error
    return array


def _arrays(file: Path) -> Mapping[str, Any]:
    """What a file holds by name, "" where it has no names; arrays of numbers as `Stored`."""
    if file.suffix == ".npz":
        return npy_files.npz(file)
    if file.suffix == ".npy":
        return {"": npy_files.npy(file)}
    content = torch_files.load(file) if file.suffix in TORCH else safe_pickle.load(file)
    named = content if isinstance(content, Mapping) else {"": content}
    return {str(name): value if isinstance(value, Stored) else _numbers(value) for name, value in named.items()}


def _numbers(value: Any) -> Stored | None:
    """An array, or lists of numbers as one; None for anything else."""
    if isinstance(value, np.ndarray):
        return held(value)
    return held(np.asarray(value)) if isinstance(value, list | tuple) and _all_numbers(value) else None


def _all_numbers(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_all_numbers(item) for item in value)
    return isinstance(value, int | float) or (isinstance(value, np.ndarray) and value.dtype.kind in "biuf")


def _load(file: Path, modality: str) -> Array:
    """The values of `_stored`. Raises DataError."""
    array = _stored(file, modality)
    try:
        return array.read()
    except Exception as error:  # as above: a damaged zip shows only now
        raise DataError(f"{shown(file, 1000)}: damaged ({shown(str(error) or type(error).__name__, 200)})") from error


def _stack(files: Sequence[Path], modality: str) -> ClipFeatures:
    """A clip from its file, or from its frames' files."""
    arrays = [_load(file, modality) for file in files]
    if any(array.shape != arrays[0].shape for array in arrays):
        raise DataError(f"{shown(files[0].parent, 1000)}: its frames have different shapes; remove what does not belong")
    array = np.stack(arrays) if len(arrays) > 1 else arrays[0]
    array = array[None] if array.ndim in (1, 3) else array  # [C] or [C, H, W]: one frame
    if array.ndim == 4 and array.shape[1:3] == (1, 1):  # [T, 1, 1, C], channels last
        array = array[:, 0, 0]
    if array.ndim == 2:
        return ClipFeatures(array.astype(np.float64), None)
    return ClipFeatures(array.mean((2, 3), dtype=np.float64), array)
