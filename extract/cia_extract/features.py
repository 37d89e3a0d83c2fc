"""The feature file, schema 1: what passes between the two stages. Reading it and laying it out; writing rows is `writer`.

    /                       attrs: schema = 1, created_by
    /<dataset>/             attrs: recipe (JSON), recipe_sha256, root (where the clips were; a hint, not part of the recipe)
    /<dataset>/clips/…      one 1-D dataset per manifest column (utf-8), n_frames int32, fps float32, indices [N, T] int32
    /<dataset>/rgb/maps     [N, T, 1024, 7, 7] float16      /<dataset>/rgb/pooled   [N, T, 1024] float32     (flow alike)
    /<dataset>/status       [N, M] uint8: 0 to do, 1 done, 2 failed      /<dataset>/crc32c  [N, M] uint32, over maps + pooled

Arrays are contiguous, so that a reader can map them. This module imports neither torch nor av.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import google_crc32c
import h5py
import numpy as np
import numpy.typing as npt

from cia_extract import __version__
from cia_extract.errors import DataError
from cia_extract.journal import journal_path

SCHEMA: Final = 1
CHANNELS, HEIGHT, WIDTH = 1024, 7, 7
TO_DO, DONE, FAILED = 0, 1, 2
# In the recipe for the record; a file may be continued by another version of the code that computes the same.
NOT_COMPARED: Final = ("code_version",)

Recipe = dict[str, Any]


def recipe_sha256(recipe: Recipe) -> str:
    """Digest of everything in the recipe that decides the numbers."""
    compared = {key: value for key, value in recipe.items() if key not in NOT_COMPARED}
    return hashlib.sha256(json.dumps(compared, sort_keys=True).encode()).hexdigest()


def differences(old: Recipe, new: Recipe, prefix: str = "") -> list[str]:
    """The compared fields in which two recipes (or configurations) differ, as lines "field: old → new"."""
    lines = []
    for key in sorted({*old, *new} - set(NOT_COMPARED)):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            lines += differences(before, after, f"{prefix}{key}.")
        elif before != after:
            lines.append(f"{prefix}{key}: {_brief(before)} → {_brief(after)}")
    return lines


def _brief(value: Any) -> Any:
    """A whole section that one side lacks, by its name."""
    return value.get("name", value.get("algorithm", "…")) if isinstance(value, dict) else value


def row_bytes(frames: int) -> int:
    """Bytes of one clip and modality: maps in float16, pooled in float32."""
    return frames * CHANNELS * (HEIGHT * WIDTH * 2 + 4)


@dataclass(frozen=True)
class Region:
    """Where a contiguous array lies in the file."""

    offset: int  # bytes
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    def row_offset(self, row: int) -> int:
        if not 0 <= row < self.shape[0]:
            raise IndexError(f"row {row} of {self.shape[0]}")
        return self.offset + row * self.row_bytes

    def map(self, path: Path) -> npt.NDArray[Any]:
        """The array as a read-only memory map."""
        return np.memmap(path, dtype=self.dtype, mode="r", offset=self.offset, shape=self.shape)


@dataclass(frozen=True)
class DatasetFeatures:
    """One dataset of a feature file. Holds no open file: arrays are mapped on request and see later writes."""

    path: Path
    name: str
    recipe: Recipe
    root: str
    columns: Mapping[str, npt.NDArray[Any]]  # manifest columns [N] str
    regions: Mapping[str, Region]  # by the name inside the group, for example "rgb/maps"
    modalities: tuple[str, ...]

    def __len__(self) -> int:
        return self.regions["status"].shape[0]

    @property
    def frames(self) -> int:
        """Sampled frames T of a clip."""
        return self.regions["clips/indices"].shape[1]

    def array(self, name: str) -> npt.NDArray[Any]:
        """A mapped array by its name inside the group: "rgb/maps", "flow/pooled", "status", "clips/indices", …"""
        return self.regions[name].map(self.path)

    def done(self, modalities: Sequence[str] | None = None) -> npt.NDArray[np.bool_]:
        """[N]: rows in which all the modalities (default: all of the file) are done."""
        columns = [self.modalities.index(m) for m in (modalities or self.modalities)]
        return np.asarray((self.array("status")[:, columns] == DONE).all(axis=1))

    def digest(self) -> str:
        """SHA-256 of the recipe, the manifest columns, the states and the rows' CRCs: changes when any number does."""
        digest = hashlib.sha256(recipe_sha256(self.recipe).encode())
        for name in sorted(self.columns):
            digest.update("\0".join([name, *self.columns[name]]).encode())
        digest.update(np.asarray(self.array("status")).tobytes())
        digest.update((np.asarray(self.array("crc32c")) * (np.asarray(self.array("status")) == DONE)).tobytes())
        return digest.hexdigest()

    def damaged_rows(self, modality: str) -> list[str]:
        """Check every done row of a modality against its CRC32C; returns "clip: what is wrong" lines."""
        maps, pooled = self.array(f"{modality}/maps"), self.array(f"{modality}/pooled")
        column = self.modalities.index(modality)
        status, crcs = self.array("status")[:, column], self.array("crc32c")[:, column]
        lines = []
        for row in np.flatnonzero(status == DONE):
            if row_crc32c(maps[row], pooled[row]) != crcs[row]:
                lines.append(f"{self.columns['clip'][row]}: {modality} does not match its CRC32C")
            elif not np.isfinite(maps[row]).all():
                lines.append(f"{self.columns['clip'][row]}: {modality} has values that are not finite")
        return lines


def row_crc32c(maps: npt.NDArray[np.float16], pooled: npt.NDArray[np.float32]) -> int:
    """CRC32C of one row: its maps' bytes, then its pooled vectors'."""
    return int(google_crc32c.extend(google_crc32c.value(maps.tobytes()), pooled.tobytes()))


def open_features(path: Path) -> dict[str, DatasetFeatures]:
    """All datasets of a feature file by name. Raises DataError for anything that is not a readable schema 1 file."""
    if not path.is_file():
        raise DataError(f"{path}: no such file; make it with cia-extract --out {path}")
    if journal_path(path).exists() or path.stat().st_size == 0:
        raise DataError(f"{path}: its creation was interrupted; run the same cia-extract command again to finish it")
    try:
        with h5py.File(path, "r", locking=False) as file:
            if file.attrs.get("schema") != SCHEMA:
                found = file.attrs.get("schema", "none")
                raise DataError(f"{path}: schema {found}, this version {__version__} reads schema {SCHEMA}")
            return {name: _read_group(path, name, group) for name, group in file.items()}
    except (OSError, KeyError, ValueError) as error:
        raise DataError(f"{path}: not a feature file of cia-extract ({error})") from error


def _read_group(path: Path, name: str, group: h5py.Group) -> DatasetFeatures:
    columns = {column: data.asstr()[:].astype(str) for column, data in group["clips"].items() if data.dtype.kind == "S"}
    regions: dict[str, Region] = {}

    def note(key: str, item: object) -> None:
        if isinstance(item, h5py.Dataset) and item.dtype.kind != "S":
            offset = item.id.get_offset()
            if offset is None:
                raise DataError(f"{path}: {item.name} is chunked; schema 1 has contiguous arrays only")
            regions[key] = Region(offset, item.shape, item.dtype)

    group.visititems(note)
    recipe = json.loads(group.attrs["recipe"])
    return DatasetFeatures(path, name, recipe, str(group.attrs.get("root", "")), columns, regions, tuple(recipe["modalities"]))


def lay_out(file: h5py.File, name: str, columns: Mapping[str, Sequence[str]], recipe: Recipe, root: Path) -> None:
    """Make the group of a dataset with all its arrays allocated and its manifest columns written.

    For use inside `journal.transaction`. A group of that name is replaced.
    """
    file.attrs["schema"] = SCHEMA
    file.attrs.setdefault("created_by", f"cia-extract {__version__}")
    if name in file:
        del file[name]
    group = file.create_group(name)
    group.attrs["recipe"] = json.dumps(recipe, sort_keys=True)
    group.attrs["recipe_sha256"] = recipe_sha256(recipe)
    group.attrs["root"] = str(root.resolve())
    clips = group.create_group("clips")
    for column, values in columns.items():
        encoded = [value.encode() for value in values]
        kind = h5py.string_dtype("utf-8", max(map(len, encoded), default=1) or 1)
        clips.create_dataset(column, data=np.array(encoded, dtype=kind))
    n, frames, modalities = len(columns["clip"]), recipe["frames"], recipe["modalities"]
    _allocate(clips, "n_frames", (n,), np.int32)
    _allocate(clips, "fps", (n,), np.float32)
    _allocate(clips, "indices", (n, frames), np.int32)
    _allocate(group, "status", (n, len(modalities)), np.uint8)
    _allocate(group, "crc32c", (n, len(modalities)), np.uint32)
    for array in (clips["n_frames"], clips["fps"], clips["indices"], group["status"], group["crc32c"]):
        array[...] = 0  # small, and must not show what lay in the file before
    for modality in modalities:
        _allocate(group, f"{modality}/maps", (n, frames, CHANNELS, HEIGHT, WIDTH), np.float16)
        _allocate(group, f"{modality}/pooled", (n, frames, CHANNELS), np.float32)


def _allocate(group: h5py.Group, name: str, shape: tuple[int, ...], dtype: npt.DTypeLike) -> None:
    """A contiguous dataset whose space exists from now on and is never filled by HDF5."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_layout(h5py.h5d.CONTIGUOUS)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    links = h5py.h5p.create(h5py.h5p.LINK_CREATE)
    links.set_create_intermediate_group(True)
    kind = h5py.h5t.py_create(np.dtype(dtype), logical=True)
    h5py.h5d.create(group.id, name.encode(), kind, h5py.h5s.create_simple(shape), layout, links)
