"""Filling the feature file: make or continue a dataset, and write its rows so that a kill at any moment costs one row.

A row is written at its fixed offset, each write waiting for the disk, and only then marked done. No lock is needed: processes
that fill different rows of one file, here or over a shared file system, never touch the same bytes, and HDF5's metadata do not
change any more.
"""

import json
import os
import shutil
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cia_extract.common.differences import listed
from cia_extract.common.errors import DataError, MismatchError, UsageError
from cia_extract.common.outcomes import MESSAGE_BYTES, OK, ClipError, Outcome, encoded
from cia_extract.common.shortage import is_full_disk
from cia_extract.features.claims import Claims
from cia_extract.features.journal import recover, transaction
from cia_extract.features.reader import DatasetFeatures, open_features
from cia_extract.features.schema import (
    ADDED,
    CLIP_ARRAYS,
    DONE,
    FAILED,
    TO_DO,
    Provenance,
    arrays_of,
    differences,
    lay_out,
    ledger_crc32c,
    row_bytes,
    row_crc32c,
)


def open_to_fill(path: Path) -> dict[str, DatasetFeatures]:
    """The datasets by name of a file that is to be filled, {} where there is no file yet. Raises UsageError, DataError.

    A change that a killed process left half made is finished first.
    """
    check_out(path)
    with _advised(path):
        recover(path)
        return open_features(path) if path.exists() and path.stat().st_size else {}


def begin_or_continue(
    path: Path,
    name: str,
    columns: Mapping[str, Sequence[str]],
    provenance: Provenance,
    root: Path,
    overwrite: bool,
    datasets: Mapping[str, DatasetFeatures] | None = None,
) -> DatasetFeatures:
    """Make the dataset in the file, or continue the one that it holds when its provenance is the same.

    `datasets` is what `open_to_fill` has just returned, for a caller that has it already.
    Raises MismatchError listing the fields in which the two differ, UsageError when the disk is too small.
    """
    if datasets is None:
        datasets = open_to_fill(path)
    with _advised(path):
        if name in datasets and not overwrite:
            _refuse_other(path, name, datasets[name].provenance, provenance)
            _check_space(path, _missing_bytes(datasets[name]))
            return datasets[name]
        needed = len(columns["clip"]) * row_bytes(provenance["frames"], provenance["modalities"])
        reused = path.stat().st_blocks * 512 if set(datasets) == {name} else 0
        _check_space(path, needed - reused)
        path.parent.mkdir(parents=True, exist_ok=True)
        with _alone(path, name) if name in datasets else nullcontext(), transaction(path) as file:
            # Another process may have made it since `datasets` were read, or while this one waited for its turn.
            if name in file and not (overwrite and name in datasets):
                _refuse_other(path, name, json.loads(file[name].attrs["recipe"]), provenance)
            else:
                lay_out(file, name, columns, provenance, root)
        return open_features(path)[name]


@contextmanager
def _advised(path: Path) -> Iterator[None]:
    """What the file system refuses, as a UsageError with advice."""
    try:
        yield
    except OSError as error:
        raise UsageError(f"{path}: {error.strerror or error}; choose another --out") from error


@contextmanager
def _alone(path: Path, name: str) -> Iterator[None]:
    """Nobody else fills the dataset in here. Raises MismatchError where somebody does."""
    with Claims(path, name, exclusive=True) as claims:
        if not claims.entered:
            raise MismatchError(f"{path}: another process is filling '{name}' right now; stop it first, or choose another --out")
        yield


def _refuse_other(path: Path, name: str, old: Provenance, new: Provenance) -> None:
    differing = differences(old, new)
    fields, lines = [one.field for one in differing], listed(differing)
    if fields == ["manifest_sha256"]:
        raise MismatchError(
            f"{path}: '{name}' was extracted with another manifest (some row or column differs); use that manifest, another "
            "--out, or --overwrite to start anew. Where only labels or splits differ, give it to cia-adapt --manifest instead"
        )
    if "preprocessing.version" in fields:
        raise MismatchError(
            f"{path}: '{name}' was extracted by another version of its recipe ({lines}). The versions read some clips "
            "differently (cia-extract recipes kinetics says which), so one dataset must not hold both; finish it with the "
            "cia-extract that began it, choose another --out, or --overwrite to start anew"
        )
    if differing:
        raise MismatchError(
            f"{path}: '{name}' was extracted with another recipe ({lines}); "
            "use the same settings, another --out, or --overwrite to start anew"
        )


def _missing_bytes(dataset: DatasetFeatures) -> int:
    lacking = (dataset.array("status") != DONE).sum(axis=0)
    return int(np.dot(lacking, [row_bytes(dataset.frames, [modality]) for modality in dataset.modalities]))


def check_out(path: Path) -> None:
    """Raise UsageError unless a feature file can be made or continued at `path`; nothing is made."""
    try:
        kind = path.stat().st_mode
    except FileNotFoundError:
        kind = stat.S_IFREG
    except NotADirectoryError as error:
        file = next(parent for parent in path.parents if parent.is_file())
        raise UsageError(f"--out {path}: {file} is a file, not a folder; choose another path") from error
    except OSError as error:  # the name is too long, a link leads round, …
        raise UsageError(f"--out {path}: {error.strerror}; choose another path") from error
    if stat.S_ISDIR(kind):
        raise UsageError(f"--out {path}: is a folder; name a file in it, for example {path / 'feats.h5'}")
    if not stat.S_ISREG(kind):
        raise UsageError(f"--out {path}: is a pipe or a device; features need a regular file, choose another path")
    if path.exists() and not os.access(path, os.R_OK | os.W_OK):
        raise UsageError(f"--out {path}: may not be read and written by this user; chmod u+rw, or choose another path")
    folder = _nearest_folder(path)
    if not os.access(folder, os.W_OK | os.X_OK):
        raise UsageError(f"--out {path}: no file can be made in {folder}; choose another folder")


def free_bytes(path: Path) -> int:
    """Free space where a file would be made, whether its folder exists yet or not."""
    return shutil.disk_usage(_nearest_folder(path)).free


def _nearest_folder(path: Path) -> Path:
    """The innermost folder on the way to a file that is there already."""
    folder = path.absolute().parent
    while not folder.exists():
        folder = folder.parent
    return folder


def _check_space(path: Path, needed: int) -> None:
    if needed > (free := free_bytes(path)):
        raise UsageError(
            f"{path}: needs {needed / 1e9:.2f} GB and {free / 1e9:.2f} GB are free; make room or choose another --out"
        )


class RowWriter:
    """Writes rows of one dataset by position. A context manager; holds one file descriptor, opened by itself."""

    def __init__(self, dataset: DatasetFeatures) -> None:
        self.dataset = dataset
        # Each write is on the disk before the next begins: a row's status is its last. Besides, an NFS client otherwise widens a
        # small write to the page that it has cached, over other nodes' bytes in it.
        self.descriptor = os.open(dataset.path, os.O_RDWR | os.O_DSYNC)
        self.end = max(region.end for region in dataset.regions.values())

    def __enter__(self) -> "RowWriter":
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)

    def write_clip(self, row: int, n_frames: int, fps: float, indices: npt.NDArray[np.int32]) -> None:
        """What decoding told about the clip: its frames, frames a second, and sampled indices [T]."""
        self._put("clips/n_frames", row, np.int32(n_frames))
        self._put("clips/fps", row, np.float32(fps))
        self._put("clips/indices", row, indices)
        self._put("clip_crc32c", row, np.uint32(self.dataset.clip_crc32c(row, self.descriptor)))

    def write_row(
        self,
        row: int,
        modality: str,
        maps: npt.NDArray[np.float32],
        outcome: Outcome = OK,
        present: npt.NDArray[np.bool_] | None = None,
    ) -> None:
        """Store [T, 1024, h, w] float32 as float32 means and, but for sound, float16 maps; then mark the row done.

        Sound also has its mask `present` [T]; where it is false the vector is zero. Raises ClipError for values that are not
        finite or overflow float16 (65 504).
        """
        pooled = maps.mean(axis=(2, 3), dtype=np.float32)
        if modality == "audio":
            mask = np.ones(len(maps), np.uint8) if present is None else present.astype(np.uint8)
            arrays: dict[str, npt.NDArray[Any]] = {"pooled": pooled * mask[:, None], "mask": mask}
        else:
            with np.errstate(over="ignore"):
                arrays = {"maps": maps.astype(np.float16), "pooled": pooled}
        if not all(np.isfinite(array).all() for array in arrays.values()):
            largest = np.abs(maps).max()
            raise ClipError(f"{modality} features are not finite in float16 (largest value {largest:.3g})", "not finite")
        for name, array in arrays.items():
            self._put(f"{modality}/{name}", row, array)
        self._put("crc32c", row, np.uint32(row_crc32c(*arrays.values())), self._column(modality))
        vectors = [array for name, array in arrays.items() if name != "maps"]
        self._put("vectors_crc32c", row, np.uint32(row_crc32c(*vectors)), self._column(modality))
        self._close(row, modality, DONE, outcome.code, encoded(outcome.message))

    def fail(self, row: int, modality: str, outcome: Outcome) -> None:
        """Mark a row failed, and why."""
        self._close(row, modality, FAILED, outcome.code, encoded(outcome.message))

    def redo(self, row: int, modality: str) -> None:
        """Put a row back among those to do: its bytes are not what they were."""
        self._mark(row, modality, TO_DO)

    def state(self, row: int) -> tuple[int, ...]:
        """The row's status by modality as the disk has it now, whatever this process has cached or mapped."""
        region = self.dataset.regions["status"]
        fresh = os.open(self.dataset.path, os.O_RDONLY)  # NFS looks at the server when a file is opened
        try:
            return tuple(os.pread(fresh, region.row_bytes, region.row_offset(row)))
        finally:
            os.close(fresh)

    def copy_row(self, source: DatasetFeatures, row: int, modality: str) -> None:
        """Take a row over from a file of the same provenance, with its state."""
        column = source.modalities.index(modality)
        status = int(source.array("status")[row, column])
        if status == DONE:
            n_frames, fps, indices = (source.array(f"clips/{name}")[row] for name in CLIP_ARRAYS)
            self.write_clip(row, n_frames, fps, indices)
            arrays = {name: source.array(f"{modality}/{name}")[row] for name in arrays_of(modality, source.frames)}
            for name, array in arrays.items():
                self._put(f"{modality}/{name}", row, array)
            self._put("crc32c", row, source.array("crc32c")[row, column], self._column(modality))
            vectors = [array for name, array in arrays.items() if name != "maps"]
            self._put("vectors_crc32c", row, np.uint32(row_crc32c(*vectors)), self._column(modality))
        self._close(row, modality, status, *source.note(row, column))

    def _close(self, row: int, modality: str, status: int, outcome: int, message: bytes) -> None:
        """Note what became of a row, then mark it."""
        column = self._column(modality)
        if self.state(row)[column] != TO_DO:  # a kill between note and mark must not leave an old mark with a new note
            self._mark(row, modality, TO_DO)
        self._put("outcome", row, np.uint8(outcome), column)
        self._put("message", row, np.array(message, f"S{MESSAGE_BYTES}"), column)
        self._put("ledger_crc32c", row, np.uint32(ledger_crc32c(status, outcome, message)), column)
        self._mark(row, modality, status)

    def _mark(self, row: int, modality: str, status: int) -> None:
        self._check_place()
        self._put("status", row, np.uint8(status), self._column(modality))

    def _check_place(self) -> None:
        """Raise DataError where the file was replaced or cut, OSError where it is gone."""
        path, here = self.dataset.path, os.fstat(self.descriptor)
        if not os.path.samestat(os.stat(path), here):
            raise DataError(f"{path}: was replaced by another file while it was filled; run the same command again")
        if here.st_size < self.end:
            raise DataError(f"{path}: became shorter while it was filled, it is damaged; delete it and extract again")

    def _column(self, modality: str) -> int:
        return self.dataset.modalities.index(modality)

    def _put(self, name: str, row: int, values: npt.NDArray[np.generic] | np.generic, column: int = 0) -> None:
        if name in ADDED and name not in self.dataset.regions:
            return
        region = self.dataset.regions[name]
        array = np.ascontiguousarray(values, dtype=region.dtype)
        view = memoryview(array.tobytes())
        offset = region.row_offset(row) + column * region.dtype.itemsize
        while view:
            try:
                written = os.pwrite(self.descriptor, view, offset)
            except OSError as error:
                raise self._failure(error) from error
            view, offset = view[written:], offset + written

    def _failure(self, error: OSError) -> UsageError:
        what = "the disk is full" if is_full_disk(error) else error.strerror
        return UsageError(f"{self.dataset.path}: {what}; finished clips are safe, make room and run the same command again")
