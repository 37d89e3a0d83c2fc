"""Schema 1 of the feature file: its arrays, and how they are laid out."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import google_crc32c
import h5py
import numpy as np
import numpy.typing as npt

from cia_extract.common.differences import Difference, between
from cia_extract.common.errors import DataError
from cia_extract.common.outcomes import MESSAGE_BYTES
from cia_extract.common.version import __version__
from cia_extract.features.structure import MAX_TEXT, columns_crc32c

SCHEMA: Final = 1

CHANNELS, HEIGHT, WIDTH = 1024, 7, 7

TO_DO, DONE, FAILED = 0, 1, 2

BLOCK: Final = 1 << 16  # rows that are zeroed at a time

MAX_COLUMNS: Final = 1 << 32  # bytes of all columns of a dataset

CLIP_ARRAYS: Final = ("n_frames", "fps", "indices")

# Arrays that schema 1 did not have at first: files made before lack some, and are continued without them.
ADDED: Final = frozenset(["outcome", "message", "vectors_crc32c", "clip_crc32c", "ledger_crc32c"])

# For information only: a file may be continued by another version of the code, or another engine, that computes the same up to
# rounding.
NOT_COMPARED: Final = ("code_version", "engine")

# How a dataset's features were made, the JSON attribute `recipe` of its group: backbone, weights, preprocessing, manifest, …
Provenance = dict[str, Any]


def provenance_sha256(provenance: Provenance) -> str:
    """Digest of everything in the provenance that decides the numbers."""
    return hashlib.sha256(json.dumps(_compared(provenance), sort_keys=True).encode()).hexdigest()


def differences(old: Provenance, new: Provenance) -> list[Difference]:
    """The fields in which two provenances differ, of those that decide the numbers.

    What is there twice is named once, as flags name it: `frames`, and not `preprocessing.sampling.frames` beside it.
    """
    differing = between(_compared(old), _compared(new))
    named = tuple(f".{one}" for one in differing if "." not in one.field)
    return [one for one in differing if not str(one).endswith(named)]


def _compared(provenance: Provenance) -> Provenance:
    return {key: value for key, value in provenance.items() if key not in NOT_COMPARED}


def arrays_of(modality: str, frames: int) -> dict[str, tuple[tuple[int, ...], npt.DTypeLike]]:
    """The arrays of one clip and modality, {name: (shape, dtype)}: maps and vectors, for sound vectors and a mask."""
    pooled: dict[str, tuple[tuple[int, ...], npt.DTypeLike]] = {"pooled": ((frames, CHANNELS), np.float32)}
    if modality == "audio":
        return pooled | {"mask": ((frames,), np.uint8)}
    return {"maps": ((frames, CHANNELS, HEIGHT, WIDTH), np.float16)} | pooled


def row_bytes(frames: int, modalities: Sequence[str]) -> int:
    """Bytes of one clip in these modalities."""
    arrays = [array for modality in modalities for array in arrays_of(modality, frames).values()]
    return sum(int(np.prod(shape)) * np.dtype(dtype).itemsize for shape, dtype in arrays)


def row_crc32c(*arrays: npt.NDArray[Any]) -> int:
    """CRC32C of one row: the bytes of its arrays in the order of `arrays_of`."""
    crc = 0
    for array in arrays:
        crc = google_crc32c.extend(crc, array.tobytes())
    return int(crc)


def ledger_crc32c(status: int, outcome: int, message: bytes) -> int:
    """CRC32C of what the ledger says of one row's modality."""
    return int(google_crc32c.value(bytes([status, outcome]) + message))


def lay_out(file: h5py.File, name: str, columns: Mapping[str, Sequence[str]], provenance: Provenance, root: Path) -> None:
    """Make the group of a dataset with all its arrays allocated and its manifest columns written.

    For use inside `journal.transaction`. A group of that name is replaced.
    """
    file.attrs["schema"] = SCHEMA
    file.attrs.setdefault("created_by", f"cia-extract {__version__}")
    if name in file:
        del file[name]
    group = file.create_group(name)
    group.attrs["recipe"] = json.dumps(provenance, sort_keys=True)
    group.attrs["recipe_sha256"] = provenance_sha256(provenance)
    group.attrs["root"] = str(root.resolve())
    clips = write_columns(group, columns)
    n, frames, modalities = len(columns["clip"]), provenance["frames"], provenance["modalities"]
    _allocate(clips, "n_frames", (n,), np.int32)
    _allocate(clips, "fps", (n,), np.float32)
    _allocate(clips, "indices", (n, frames), np.int32)
    _allocate(group, "status", (n, len(modalities)), np.uint8)
    _allocate(group, "clip_crc32c", (n,), np.uint32)
    _allocate(group, "crc32c", (n, len(modalities)), np.uint32)
    _allocate(group, "vectors_crc32c", (n, len(modalities)), np.uint32)
    _allocate(group, "outcome", (n, len(modalities)), np.uint8)
    _allocate(group, "message", (n, len(modalities)), f"S{MESSAGE_BYTES}")
    _allocate(group, "ledger_crc32c", (n, len(modalities)), np.uint32)
    states = ("status", "crc32c", "vectors_crc32c", "clip_crc32c", "outcome", "message", "ledger_crc32c")
    for array in (*(clips[array_name] for array_name in CLIP_ARRAYS), *(group[array_name] for array_name in states)):
        for begin in range(0, n, BLOCK):  # must not show what lay in the file before; h5py writes a scalar row by row
            array[begin : begin + BLOCK] = np.zeros((min(BLOCK, n - begin), *array.shape[1:]), array.dtype)
    for modality in modalities:
        for array_name, (shape, dtype) in arrays_of(modality, frames).items():
            _allocate(group, f"{modality}/{array_name}", (n, *shape), dtype)


def write_columns(group: h5py.Group, columns: Mapping[str, Sequence[str]]) -> h5py.Group:
    """The manifest's columns as fixed-length UTF-8; returns their group, `clips`.

    Raises DataError for a value, or columns, so long that readers refuse them.
    """
    clips = group.create_group("clips")
    widths: dict[str, int] = {}  # bytes of the longest value
    for column, values in columns.items():
        encoded = [value.encode() for value in values]
        widths[column] = max(map(len, encoded), default=1) or 1
        if widths[column] > MAX_TEXT:
            raise DataError(f"column {column} has a value of {widths[column]} bytes; {MAX_TEXT} are the most, shorten it")
        if len(values) * sum(widths.values()) > MAX_COLUMNS:
            longest = max(widths, key=widths.__getitem__)
            raise DataError(
                f"the columns would take more than {MAX_COLUMNS:,} bytes, since each value takes as much as the longest of its "
                f"column; {longest} has one of {widths[longest]} bytes: shorten it, or leave the column out"
            )
        clips.create_dataset(column, data=np.array(encoded, dtype=h5py.string_dtype("utf-8", widths[column])))
    group.attrs["columns_crc32c"] = json.dumps(columns_crc32c(columns))
    return clips


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
