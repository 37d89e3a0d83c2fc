"""A feature file's structure, held against schema 1 once, before anything in it is used.

A file may come from anywhere. What this module lets through can be mapped and indexed without a further look: every array has the
type and shape that its name promises and lies inside the file, by itself.
"""

import os
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any, Final

import google_crc32c
import h5py
import numpy as np
import numpy.typing as npt

import cia_extract.features.storage as storage
from cia_extract.common.errors import CiaError, DataError
from cia_extract.common.json_objects import json_object
from cia_extract.common.modalities import MODALITIES
from cia_extract.common.text_files import LONGEST_CELL
from cia_extract.features.region import NOT_CONTIGUOUS, Region, located

REQUIRED_COLUMNS: Final = ("clip", "label", "split")
MAX_FRAMES: Final = 100_000  # of a clip
MAX_TEXT: Final = LONGEST_CELL  # bytes of one value of a column
MAX_RECIPE: Final = 1 << 24  # bytes
LAST_STATUS: Final = 2  # 0 to do, 1 done, 2 failed
# Arrays that older files lack, and those without which each means nothing.
TOGETHER: Final = {
    "outcome": ["message"],
    "ledger_crc32c": ["outcome", "message"],
    "clip_crc32c": ["clips/n_frames", "clips/fps"],
}

Shape = tuple[int | str, ...]  # a letter stands for any size, the same one within a dataset


@dataclass(frozen=True)
class Content:
    """One dataset of a feature file as `read_group` leaves it."""

    provenance: dict[str, Any]
    columns: Mapping[str, npt.NDArray[Any]]  # of Python's texts
    regions: Mapping[str, Region]


@contextmanager
def opened(path: Path) -> Iterator[h5py.File]:
    """An HDF5 file for reading; whatever the library says of a damaged one is a DataError that names the file."""
    try:
        with h5py.File(path, "r", locking=False) as file:
            yield file
    except CiaError:
        raise
    except Exception as error:  # h5py raises OSError, KeyError, ValueError, RuntimeError, TypeError, … for damaged metadata
        raise DataError(f"{path}: not an HDF5 file, or a damaged one; get or make it again") from error


@contextmanager
def written(part: Path, mode: str = "w") -> Iterator[h5py.File]:
    """An HDF5 file for writing, which is emptied where writing it fails: `part` is the part file of `common.writes.whole`.

    HDF5 writes what it holds when it closes a file; where a full disk does not let it, the process ends with SIGSEGV.
    """
    with h5py.File(part, mode) as file:
        try:
            yield file
            file.flush()
        except BaseException:
            os.truncate(part, 0)  # gives the room for closing
            raise


def readable(path: Path, remedy: str) -> None:
    """Raise DataError unless `path` is a file that can be read; `remedy` says what to do where there is none."""
    try:
        path.stat()
    except FileNotFoundError:
        pass  # said below
    except OSError as error:  # the name is too long, a folder on the way is a file or closed to this user
        raise DataError(f"{path}: {error.strerror}; give the path of a file that can be read") from error
    if path.is_dir():
        raise DataError(f"{path}: is a folder; name a feature file, for example {path / 'feats.h5'}")
    if not path.exists():
        raise DataError(f"{path}: no such file; {remedy}")
    if not path.is_file():
        raise DataError(f"{path}: is no regular file; copy the features into one")
    if not os.access(path, os.R_OK):
        raise DataError(f"{path}: cannot be read; ask its owner for permission (chmod +r)")


def children(path: Path, group: h5py.Group) -> dict[str, Any]:
    """{name: group or array} of what a group holds. Raises DataError for a link or an array that leads elsewhere.

    To be asked for its shape, a virtual array opens the files that it names, pipes too: so nobody gets one.
    """
    inside = {}
    for name in group:
        place = f"{path}: {group.name.rstrip('/')}/{name}"
        if not isinstance(group.get(name, getlink=True), h5py.HardLink):
            raise DataError(f"{place} is a link to another place; schema 1 has none, copy the data in")
        item = group[name]
        if isinstance(item, h5py.Dataset) and (item.is_virtual or item.external):
            raise DataError(f"{place} {NOT_CONTIGUOUS}")
        inside[name] = item
    return inside


def read_group(path: Path, name: str, group: Any) -> Content:
    """Check one dataset of a feature file and read what is small: its provenance and the manifest's columns.

    Raises DataError naming the array, what it is and what schema 1 wants (docs/feature-file.md).
    """
    if not isinstance(group, h5py.Group):
        raise DataError(f"{path}: /{name} is an array; schema 1 has groups there, one a dataset")
    provenance = _provenance(path, name, group)
    inside = children(path, group)
    clips = inside.get("clips")
    if not isinstance(clips, h5py.Group):
        raise DataError(f"{path}: /{name}/clips is missing; schema 1 keeps the manifest there")
    size = path.stat().st_size
    listed = children(path, clips)
    text = {key for key, item in listed.items() if isinstance(item, h5py.Dataset) and item.dtype.kind == "S"}
    absent = [column for column in REQUIRED_COLUMNS if column not in text]
    if absent:
        raise DataError(f"{path}: /{name}/clips has no column {absent[0]} of text; schema 1 has {', '.join(REQUIRED_COLUMNS)}")
    count = listed["clip"].shape[0] if listed["clip"].ndim == 1 else -1
    columns = _columns(path, {key: listed[key] for key in sorted(text)}, count, size)
    _check_columns(path, name, group, columns)
    return Content(provenance, columns, _regions(path, name, provenance, inside, listed, count, size))


def columns_crc32c(columns: Mapping[str, Iterable[str]]) -> dict[str, int]:
    """{column: CRC32C of its values, joined by zero bytes}: the group's attribute `columns_crc32c`."""
    return {name: int(google_crc32c.value("\0".join(values).encode())) for name, values in columns.items()}


def _provenance(path: Path, name: str, group: h5py.Group) -> dict[str, Any]:
    provenance = _json_table(f"{path}: /{name}'s recipe", group.attrs.get("recipe"))
    modalities, frames = provenance.get("modalities"), provenance.get("frames")
    known = isinstance(modalities, list) and all(isinstance(m, str) and m in MODALITIES for m in modalities)
    if not known or not modalities or len(set(modalities)) != len(modalities):
        raise DataError(f"{path}: /{name}'s recipe has modalities {_short(modalities)}; it lists some of {', '.join(MODALITIES)}")
    if type(frames) is not int or not 0 < frames <= MAX_FRAMES:
        raise DataError(f"{path}: /{name}'s recipe has frames {_short(frames)}; it is a whole number from 1 to {MAX_FRAMES}")
    tables = {field: provenance[field] for field in ("engine", "weights", "preprocessing") if field in provenance}
    for field, value in tables.items():
        if not isinstance(value, dict):
            raise DataError(f"{path}: /{name}'s recipe has {field} {_short(value)}; it is a table")
    if not isinstance(tables.get("engine", {}).get("flow_by", ""), str):
        raise DataError(f"{path}: /{name}'s recipe has an engine.flow_by that is no text")
    return provenance


def _json_table(place: str, attribute: Any) -> dict[str, Any]:
    """An attribute that holds a JSON object."""
    if not isinstance(attribute, str) or len(attribute) > MAX_RECIPE:
        raise DataError(f"{place} is no text; was the file written by cia-extract?")
    return json_object(attribute, place, "get or make the file again")


def _regions(
    path: Path, name: str, provenance: dict[str, Any], inside: Mapping[str, Any], clips: Mapping[str, Any], count: int, size: int
) -> dict[str, Region]:
    """{name inside the group: where it lies} of every array of schema 1 that is there."""
    frames, modalities = provenance["frames"], provenance["modalities"]
    state = (count, len(modalities))
    expected: dict[str, tuple[Shape, tuple[str, ...]]] = {
        "clips/n_frames": ((count,), ("i4",)),
        "clips/fps": ((count,), ("f4",)),
        "clips/indices": ((count, frames), ("i4",)),
        "clip_crc32c": ((count,), ("u4",)),
        "status": (state, ("u1",)),
        "crc32c": (state, ("u4",)),
        "vectors_crc32c": (state, ("u4",)),
        "outcome": (state, ("u1",)),
        "message": (state, ("S",)),
        "ledger_crc32c": (state, ("u4",)),
    }
    items = {key: (clips if key.startswith("clips/") else inside).get(key.removeprefix("clips/")) for key in expected}
    for modality in modalities:
        group = inside.get(modality)
        if not isinstance(group, h5py.Group):
            raise DataError(f"{path}: /{name}/{modality} is missing, and the recipe names it")
        arrays = children(path, group)
        channels = f"C of {modality}"
        expected[f"{modality}/maps"] = ((count, frames, channels, "H", "W"), ("f2", "f4"))
        expected[f"{modality}/pooled"] = ((count, frames, channels), ("f4", "f2"))
        expected[f"{modality}/mask"] = ((count, frames), ("u1",))
        items |= {f"{modality}/{kind}": arrays.get(kind) for kind in ("maps", "pooled", "mask")}
        if arrays.get("maps") is None and arrays.get("pooled") is None:
            raise DataError(f"{path}: /{name}/{modality} holds neither maps nor pooled")
    for key in ("status", "crc32c", "clips/indices"):
        if items[key] is None:
            raise DataError(f"{path}: /{name}/{key} is missing; schema 1 always has it")
    for key, others in TOGETHER.items():
        if items[key] is not None and (absent := [other for other in others if items[other] is None]):
            raise DataError(f"{path}: /{name}/{absent[0]} is missing; schema 1 has it beside {key}")
    sizes: dict[str, int] = {}
    regions = {key: _region(path, item, *expected[key], sizes, size) for key, item in items.items() if item is not None}
    _check_status(path, name, regions["status"])
    return regions


def _check_status(path: Path, name: str, region: Region) -> None:
    status = region.map(path)
    if (status > LAST_STATUS).any():
        row, column = np.argwhere(status > LAST_STATUS)[0].tolist()
        raise DataError(
            f"{path}: /{name}/status is {status[row, column]} in row {row}, column {column}; it knows 0 to do, 1 done, 2 failed. "
            "Get the file again, or set that value to 0 (h5py) and run the cia-extract command that made it"
        )


def _region(path: Path, item: Any, shape: Shape, kinds: tuple[str, ...], sizes: dict[str, int], size: int) -> Region:
    """Where an array lies, once it is known to be what its name says. `sizes` collects what the letters of shapes stand for."""
    place = f"{path}: {item.name}"
    if not isinstance(item, h5py.Dataset):
        raise DataError(f"{place} is a group; schema 1 has an array there")
    dtype = item.dtype
    if dtype.names or dtype.subdtype or (f"{dtype.kind}{dtype.itemsize}" not in kinds and dtype.kind not in kinds):
        raise DataError(f"{place} is {_short(dtype)}; schema 1 has {' or '.join(str(np.dtype(k)) for k in kinds)} there")
    if (
        item.shape is None
        or len(item.shape) != len(shape)
        or any(
            have != (sizes.setdefault(want, have) if isinstance(want, str) else want)
            for have, want in zip(item.shape, shape, strict=True)
        )
    ):
        letters = ", ".join(str(sizes.get(want, want) if isinstance(want, str) else want) for want in shape)
        raise DataError(f"{place} has the shape {item.shape}; by its clips, frames and modalities it is ({letters})")
    region = located(place, item, size)
    storage.check_row_bytes(place, region.shape, region.row_bytes)
    return region


def check_apart(path: Path, regions: Mapping[str, Region]) -> None:
    """Raise DataError where arrays, by their names inside the file, share bytes: writing one would change the other."""
    by_place = sorted((region.offset, region.end, key) for key, region in regions.items() if region.end > region.offset)
    for (_, end, first), (begin, _, second) in pairwise(by_place):
        if begin < end:
            raise DataError(f"{path}: {first} and {second} lie over each other; the file is damaged")


def _columns(path: Path, items: Mapping[str, h5py.Dataset], count: int, size: int) -> dict[str, npt.NDArray[Any]]:
    """The manifest's columns [N] of text, as Python's own: in numpy's, each value would take the room of the longest."""
    regions = {item.name: _column(path, item, count, size) for item in items.values()}
    check_apart(path, regions)
    length, stored = sum(region.end - region.offset for region in regions.values()), path.stat().st_blocks * 512
    if length > 64 * stored + (1 << 20):  # a sparse file: its columns would fill the memory with nothing
        raise DataError(f"{path}: the columns have {length} bytes and the whole file takes {stored} on the disk; it is damaged")
    return {key: _texts(path, item) for key, item in items.items()}


def _column(path: Path, item: h5py.Dataset, count: int, size: int) -> Region:
    """Where a column lies, once it is known to be one."""
    place = f"{path}: {item.name}"
    if item.shape != (count,):
        raise DataError(f"{place} has the shape {item.shape}; a column has one value a clip, ({max(count, 0)},)")
    if item.dtype.itemsize > MAX_TEXT:
        raise DataError(f"{place} has values of {item.dtype.itemsize} bytes; {MAX_TEXT} are the most")
    return located(place, item, size)


def _texts(path: Path, item: h5py.Dataset) -> npt.NDArray[Any]:
    try:
        return np.array([value.decode() for value in item[:].tolist()], dtype=object)
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: {item.name} is not UTF-8 ({error.reason}); schema 1 has UTF-8 text") from error


def _check_columns(path: Path, name: str, group: h5py.Group, columns: Mapping[str, npt.NDArray[Any]]) -> None:
    """The columns against their checksums; files of before 2026-11 have none."""
    attribute = group.attrs.get("columns_crc32c")
    if attribute is None:
        return
    stored = _json_table(f"{path}: /{name}'s columns_crc32c", attribute)
    for column, crc in columns_crc32c(columns).items():
        if stored.get(column) != crc:
            raise DataError(
                f"{path}: /{name}/clips/{column} does not match its CRC32C; the file is damaged, get or make it again"
            )


def _short(value: Any) -> str:
    text = str(value)
    return text if len(text) <= 60 else f"{text[:57]}…"
