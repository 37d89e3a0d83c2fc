"""Checks of a mapped file: each row against its checksum when first read, the file's length before every reading.

Without them a damaged row would train in silence, and reading a map behind the end of a file that became shorter would kill the
process (SIGBUS). One gap remains: a file that is cut in the microseconds between the check of its length and the reading.
"""

import os
from abc import ABC, abstractmethod
from pathlib import Path
from typing import Any

import google_crc32c
import numpy as np
import numpy.typing as npt
from cia_extract.common.errors import DataError
from cia_extract.features import DatasetFeatures

from cia_adapt.footage import FrameDataset


class Guard(ABC):
    """Watches one array of a file; each row is checked once.

    Args:
        path: the file, which stays open as long as the guard lives.
        end: bytes that it must have.
        clips: the clips' ids [N].
    """

    again: str
    """What to do about a file that became shorter."""
    mend: str
    """What to do about a damaged row."""
    works = True
    """Whether rows can be checked at all."""

    def __init__(self, path: Path, end: int, clips: npt.NDArray[Any]) -> None:
        self.path, self.end, self.clips = path, end, clips
        self.file = open(path, "rb")  # noqa: SIM115  (open as long as the map is)
        self.checked = np.zeros(len(clips), bool)

    def check(self, rows: npt.NDArray[np.int64]) -> None:
        """Raise DataError when the file became shorter, or when one of the rows does not match its checksum."""
        if os.fstat(self.file.fileno()).st_size < self.end:
            raise DataError(f"{self.path}: became shorter while it was read; {self.again}")
        for row in rows[~self.checked[rows]].tolist():
            if fault := self.fault(row):
                raise DataError(f"{self.path}: {self.clips[row]}: {fault}; {self.mend}")
            self.checked[row] = True

    @abstractmethod
    def fault(self, row: int) -> str:
        """In what way a row does not match its checksum, "" where it does. Raises DataError if the file became shorter."""

    @abstractmethod
    def row(self, row: int) -> npt.NDArray[np.generic]:
        """A row after its check, [T, …]. Raises DataError if the file became shorter."""


class FeatureGuard(Guard):
    """Of an array of a feature file, "rgb/maps" or "rgb/pooled"."""

    again = "get it again, then run the same command with --resume"
    mend = "reset it with cia-extract verify --redo, then extract it again"

    def __init__(self, dataset: DatasetFeatures, name: str) -> None:
        super().__init__(dataset.path, dataset.regions[name].end, dataset.columns["clip"])
        self.dataset, self.name, (self.modality, kind) = dataset, name, name.split("/")
        # A row's own checksum is over maps and vectors together; where only vectors are read, theirs must do.
        self.vectors_only = kind == "pooled" and f"{self.modality}/maps" in dataset.regions
        # Vectors of a file without checksums of vectors cannot be checked.
        self.works = not self.vectors_only or "vectors_crc32c" in dataset.regions

    def fault(self, row: int) -> str:
        arrays = self.dataset.row(row, self.modality, self.file.fileno(), self.vectors_only)
        return self.dataset.mismatch(row, self.modality, arrays, self.file.fileno())

    def row(self, row: int) -> npt.NDArray[np.generic]:
        return self.dataset.read_row(self.name, row, self.file.fileno())


class FrameGuard(Guard):
    """Of the cached frames of one modality, "rgb/frames"."""

    again = "run the same command with --resume"

    def __init__(self, dataset: FrameDataset, name: str) -> None:
        store = dataset.store(name)
        super().__init__(store.frames, store.frames.stat().st_size, dataset.columns["clip"])
        self.mend = f"delete {store.frames.parent}, and its clips are decoded again"
        self.array, self.frames, self.expected = dataset.array(name), store.map(), store.checksums()

    def fault(self, row: int) -> str:
        matches = google_crc32c.value(self.frames[row].tobytes()) == self.expected[row]
        return "" if matches else "does not match its CRC32C"

    def row(self, row: int) -> npt.NDArray[np.generic]:
        return self.array[row]
