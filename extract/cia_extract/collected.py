"""Features to compare, from a feature file or from a folder in the layouts in use, read on request.

A folder holds .npy, .npz, .pt (.pth, .t7) or .pkl files: one file a clip, or a folder of one file a frame for each clip; the
modality is a folder's name (rgb/, flow/, audio/) or the end of the file's (`_rgb`, as v-iashin/video_features writes). Arrays are
[T, C], [T, C, H, W], [T, 1, 1, C] or [C].
"""

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cia_extract import features, safe_pickle
from cia_extract.errors import DataError

Array = npt.NDArray[Any]

MODALITIES: Final = ("rgb", "flow", "audio")
TORCH: Final = (".pt", ".pth", ".t7")
SUFFIXES: Final = (".npy", ".npz", *TORCH, ".pkl", ".pickle")
BESIDES: Final = ("_fps", "_timestamps_ms")  # what video_features writes next to its features
FRAME: Final = re.compile(r"(?:(?:img|frame|rgb|flow)_)?\d+")  # name of a file that holds one frame


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


def from_dataset(data: features.DatasetFeatures) -> Collection:
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


def from_folder(path: Path) -> Collection:
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
    """The one array of a file, or the one that has the modality's name. Of pickles, those of arrays alone are read."""
    try:
        if file.suffix in (".pkl", ".pickle"):
            loaded = safe_pickle.load(file)
            held = loaded if isinstance(loaded, dict) else {"": np.asarray(loaded)}
        elif file.suffix in TORCH:
            import torch

            held = torch.load(file, map_location="cpu", weights_only=True)
            held = {name: x.float().numpy() for name, x in (held if isinstance(held, dict) else {"": held}).items()}
        else:
            loaded = np.load(file, allow_pickle=False)
            held = dict(loaded) if file.suffix == ".npz" else {"": loaded}
    except Exception as error:  # zipfile, pickle, torch and numpy each have their own for a file that is not what it seems
        if file.suffix in TORCH:
            raise DataError(
                f"{file}: not plain tensors of torch.save, and nothing else is read of such files; save the features (Lua's own "
                ".t7, too) as .npy"
            ) from error
        reason = repr(error).partition("\\n")[0]
        raise DataError(f"{file}: not an array, or a pickle of more than arrays, which is never read ({reason})") from error
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
