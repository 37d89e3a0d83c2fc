"""`cia-adapt import`: features that other tools left behind, into a feature file of schema 1 that holds vectors or maps.

Layouts:
    FILE.pkl             EPIC-100's released UDA features: {'features': {'RGB', 'Flow', 'Audio': [N, 25, 1024]},
    'narration_ids': [N]}
    DIR/<clip>.npy       one file a clip, [T, C], [C], or maps [T, C, H, W]; also .npz (one array), .pt, .pth, .pkl
    DIR/<clip>/*.t7      one file a frame, [C] or [C, H, W], in the order of their names' numbers (TA3N: img_00001.t7); also
    .npy, .pt, .pth

Files of torch are read with weights_only, pickles by an unpickler that knows arrays and nothing else.
"""

import json
import pickle
import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
from cia_extract import features, manifest
from cia_extract.console import Progress, Say
from cia_extract.errors import DataError, MismatchError, UsageError

from cia_adapt import __version__
from cia_adapt.data import centre_frames

FILES: Final = (".npy", ".npz", ".pt", ".pth", ".t7", ".pkl", ".pickle")
MODALITIES: Final = ("rgb", "flow", "audio")
EPIC_NAMES: Final = {"RGB": "rgb", "Flow": "flow", "Audio": "audio"}
Clip = npt.NDArray[np.floating[Any]]


def take_over(
    paths: Sequence[Path], listed: Path, dataset: str, modalities: Sequence[str], frames: int, out: Path, say: Say
) -> dict[str, Any]:
    """Add a dataset of the manifest's clips that have features in `paths`; returns counts.

    Pickles of one domain (train, val, test) are taken together; of folders, each has its entry in `modalities`.
    Raises UsageError, DataError, MismatchError; the file is then as it was.
    """
    rows = manifest.read(listed)
    found = _found(paths, modalities, rows.columns["clip"], say)
    kept = [i for i, clip in enumerate(rows.columns["clip"]) if all(clip in clips for clips in found.values())]
    if not kept:
        sample = next(iter(next(iter(found.values()))), "nothing")
        raise DataError(
            f"{paths[0]}: has none of the clips of {listed}, which look like {rows.columns['clip'][0]}; here: {sample}"
        )
    columns = {name: [values[i] for i in kept] for name, values in rows.columns.items()}
    shapes = _written(out, dataset, columns, found, frames, paths[0])
    return {
        "imported": len(kept),
        "of the manifest, without features": len(rows) - len(kept),
        "with features, not in the manifest": len(set().union(*found.values()) - set(rows.columns["clip"])),
        "arrays": shapes,
        "file": str(out),
    }


def _found(paths: Sequence[Path], modalities: Sequence[str], clips: Any, say: Say) -> dict[str, Mapping[str, Clip]]:
    """{modality: {clip: array}} over all paths."""
    folders = [path for path in paths if not path.is_file()]
    if len(modalities) < len(folders):
        raise UsageError(f"{folders[len(modalities)]}: say which modality the folder holds, --modality {', '.join(MODALITIES)}")
    found: dict[str, Mapping[str, Clip]] = {}
    for path in paths:
        here = _folder(path, modalities[folders.index(path)], say) if path in folders else dict(_epic(path))
        for modality, by_clip in here.items():
            found[modality] = {**found[modality], **by_clip} if modality in found else by_clip
    return found


def _written(
    out: Path, dataset: str, columns: Mapping[str, list[str]], found: Mapping[str, Mapping[str, Clip]], frames: int, origin: Path
) -> dict[str, str]:
    """Into a copy of the file, which then takes its place. Raises MismatchError for a file of extracted features."""
    part = out.with_name(f".{out.name}.part")
    try:
        if out.exists():
            if not h5py.is_hdf5(out):
                raise MismatchError(f"{out}: is there and is no HDF5 file; choose another --out")
            if any("imported_from" not in one.recipe for one in features.open_features(out).values()):
                raise MismatchError(f"{out}: holds extracted features; import into a file of their own, --out imported.h5")
            shutil.copyfile(out, part)
        shapes = _write(part, dataset, columns, found, frames, origin)
        part.replace(out)
        return shapes
    except OSError as error:
        raise UsageError(f"--out {out}: {error.strerror or error}") from error
    finally:
        part.unlink(missing_ok=True)


class _ArraysOnly(pickle.Unpickler):
    """Numpy arrays, numbers, strings and containers; a pickle that wants anything else is refused."""

    ALLOWED = frozenset(
        {
            ("numpy", "ndarray"), ("numpy", "dtype"), ("_codecs", "encode"), ("collections", "OrderedDict"),
            ("numpy.core.multiarray", "_reconstruct"), ("numpy._core.multiarray", "_reconstruct"),
            ("numpy.core.multiarray", "scalar"), ("numpy._core.multiarray", "scalar"),
            ("numpy.core.numeric", "_frombuffer"), ("numpy._core.numeric", "_frombuffer"),
        }
    )  # fmt: skip

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in self.ALLOWED:
            raise pickle.UnpicklingError(f"it wants to run {module}.{name}")
        return super().find_class(module, name)


def _unpickle(path: Path) -> Any:
    try:
        with path.open("rb") as file:
            return _ArraysOnly(file, encoding="latin1").load()
    except Exception as error:
        raise DataError(f"{path}: not a pickle of arrays ({error})") from error


def _epic(path: Path) -> Iterator[tuple[str, dict[str, Clip]]]:
    loaded = _unpickle(path)
    if not isinstance(loaded, Mapping) or not {"features", "narration_ids"} <= set(loaded):
        raise DataError(f"{path}: expected a dictionary with features and narration_ids, as EPIC-100's UDA features have")
    ids = [str(i) for i in np.asarray(loaded["narration_ids"]).tolist()]
    for name, values in loaded["features"].items():
        array = np.asarray(values)
        if name not in EPIC_NAMES or array.ndim != 3 or len(array) != len(ids):
            raise DataError(
                f"{path}: features {name} {array.shape} do not fit {len(ids)} narration_ids; RGB, Flow, Audio [N, 25, C]"
            )
        yield EPIC_NAMES[name], dict(zip(ids, array, strict=True))


class _Lazy(Mapping[str, Clip]):
    """Clips of a folder by name, each read when it is asked for."""

    def __init__(self, places: Mapping[str, Path]) -> None:
        self.places = places

    def __getitem__(self, clip: str) -> Clip:
        place = self.places[clip]
        return read_array(place) if place.is_file() else np.stack([_vector(read_array(f), f) for f in frame_files(place)])

    def __iter__(self) -> Iterator[str]:
        return iter(self.places)

    def __len__(self) -> int:
        return len(self.places)


def _folder(path: Path, modality: str, say: Say) -> dict[str, Mapping[str, Clip]]:
    if not path.is_dir():
        raise UsageError(f"{path}: no such file or folder")
    if modality not in MODALITIES:
        raise UsageError(f"--modality {modality}: choose from {', '.join(MODALITIES)}")
    places = {p.stem: p for p in sorted(path.iterdir()) if p.is_file() and p.suffix in FILES}
    places |= {p.name: p for p in sorted(path.iterdir()) if p.is_dir() and frame_files(p)}
    if not places:
        raise DataError(f"{path}: holds neither feature files ({', '.join(FILES)}) nor folders of them")
    say(f"{path}: features of {len(places)} clips")
    return {modality: _Lazy(places)}


def frame_files(folder: Path) -> list[Path]:
    """One file a frame, by the last number in their names."""
    found = [p for p in folder.iterdir() if p.suffix in FILES]
    return sorted(found, key=lambda p: (int((re.findall(r"\d+", p.stem) or ["0"])[-1]), p.name))


def read_array(path: Path) -> Clip:
    """One array of floats. Raises DataError."""
    try:
        if path.suffix == ".npy":
            loaded: Any = np.load(path, allow_pickle=False)
        elif path.suffix == ".npz":
            with np.load(path, allow_pickle=False) as archive:
                (loaded,) = archive.values()
        elif path.suffix in (".pkl", ".pickle"):
            loaded = _unpickle(path)
        else:
            import torch

            loaded = torch.load(path, map_location="cpu", weights_only=True)
            loaded = loaded.numpy() if isinstance(loaded, torch.Tensor) else loaded
        array = np.asarray(loaded)
    except DataError:
        raise
    except Exception as error:
        raise DataError(f"{path}: cannot be read as an array ({(str(error).splitlines() or ['?'])[0]})") from error
    if array.dtype.kind != "f":
        raise DataError(f"{path}: holds {array.dtype}, not numbers with a fraction")
    return array


def _vector(array: Clip, path: Path) -> Clip:
    """A frame's [C] or [C, H, W]; leading and trailing ones are dropped."""
    squeezed = array.reshape(array.shape[0], *array.shape[1:]) if array.ndim in (1, 3) else np.squeeze(array)
    if squeezed.ndim not in (1, 3):
        raise DataError(f"{path}: is {array.shape}; a frame is [C] or [C, H, W]")
    return squeezed


def _frames(clip: Clip, frames: int, name: str) -> Clip:
    """[frames, C] or [frames, C, H, W] of a clip: by TSN's rule where it has more, or fewer (which repeats)."""
    if clip.ndim == 1:
        clip = clip[None]
    if clip.ndim not in (2, 4) or not len(clip):
        raise DataError(f"{name}: is {clip.shape}; a clip is [T, C] or [T, C, H, W]")
    return clip if len(clip) == frames else clip[centre_frames(len(clip), frames)]


def _write(
    out: Path, dataset: str, columns: Mapping[str, list[str]], found: Mapping[str, Mapping[str, Clip]], frames: int, origin: Path
) -> dict[str, str]:
    """A new group of the file."""
    clips = columns["clip"]
    recipe = {
        "dataset": dataset,
        "modalities": list(found),
        "frames": frames,
        "imported_from": str(origin),
        "code_version": __version__,
    }
    shapes = {}
    with h5py.File(out, "a") as file:
        if file.attrs.get("schema", features.SCHEMA) != features.SCHEMA:
            raise MismatchError(f"{out}: is not a feature file of schema {features.SCHEMA}; choose another --out")
        if dataset in file:
            raise MismatchError(f"{out}: already has a dataset '{dataset}'; choose another --dataset or --out")
        part = file.create_group(f".{dataset}.part") if f".{dataset}.part" not in file else file[f".{dataset}.part"]
        part.clear()
        try:
            _columns(part, columns, frames)
            crcs = np.zeros((len(clips), len(found)), np.uint32)
            for m, (modality, by_clip) in enumerate(found.items()):
                first = _frames(by_clip[clips[0]], frames, clips[0])
                arrays = {"pooled": part.create_dataset(f"{modality}/pooled", (len(clips), *first.shape[:2]), np.float32)}
                if first.ndim == 4:
                    arrays["maps"] = part.create_dataset(f"{modality}/maps", (len(clips), *first.shape), np.float16)
                with Progress(len(clips), f"importing {modality}") as progress:
                    for row, clip in enumerate(clips):
                        values = _frames(by_clip[clip], frames, clip)
                        if values.shape != first.shape:
                            raise DataError(f"{clip}: {modality} is {values.shape[1:]}, that of {clips[0]} is {first.shape[1:]}")
                        crcs[row, m] = _row(arrays, row, values.astype(np.float32), clip)
                        progress.step()
                shapes[f"{modality}"] = f"{len(clips)} × {first.shape}"
            part["crc32c"] = crcs
            part["status"] = np.full(crcs.shape, features.DONE, np.uint8)
            part.attrs["recipe"] = json.dumps(recipe, sort_keys=True)
            part.attrs["recipe_sha256"] = features.recipe_sha256(recipe)
            part.attrs["root"] = ""
            file.attrs["schema"] = features.SCHEMA
            file.attrs.setdefault("created_by", f"cia-adapt {__version__}")
            file.move(f".{dataset}.part", dataset)
        except BaseException:
            del file[f".{dataset}.part"]
            raise
    return shapes


def _columns(group: h5py.Group, columns: Mapping[str, list[str]], frames: int) -> None:
    clips = group.create_group("clips")
    for column, values in columns.items():
        encoded = [value.encode() for value in values]
        kind = h5py.string_dtype("utf-8", max(map(len, encoded), default=1) or 1)
        clips.create_dataset(column, data=np.array(encoded, dtype=kind))
    clips["indices"] = np.tile(np.arange(frames, dtype=np.int32), (len(columns["clip"]), 1))


def _row(arrays: Mapping[str, h5py.Dataset], row: int, values: npt.NDArray[np.float32], clip: str) -> int:
    """Write a clip; its CRC32C over maps, then vectors."""
    written: list[npt.NDArray[Any]] = []
    if "maps" in arrays:
        with np.errstate(over="ignore"):
            maps = values.astype(np.float16)
        arrays["maps"][row] = maps
        written.append(maps)
        values = values.mean(axis=(2, 3), dtype=np.float32)
    arrays["pooled"][row] = values
    if not all(np.isfinite(array).all() for array in (*written, values)):
        raise DataError(f"{clip}: has values that are not finite in float16 or at all")
    return features.row_crc32c(*written, values)
