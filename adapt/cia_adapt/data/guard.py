"""Checks of a mapped file: each row against its checksum when first read, the file's length before every reading.

Without them a damaged row would train in silence, and reading a map behind the end of a file that became shorter would kill the
process (SIGBUS). One gap remains: a file that is cut in the microseconds between the check of its length and the reading.
"""

import os

import google_crc32c
import numpy as np
import numpy.typing as npt
from cia_extract.common.errors import DataError
from cia_extract.features import DatasetFeatures

from cia_adapt.footage import FrameDataset


class Guard:
    """Watches one array of a dataset; each row is checked once.

    Args:
        dataset: the dataset; its file stays open as long as the guard lives.
        name: the array that is read, "rgb/maps" or "rgb/pooled".
    """

    def __init__(self, dataset: DatasetFeatures, name: str) -> None:
        self.dataset, self.name, (self.modality, kind) = dataset, name, name.split("/")
        # A row's own checksum is over maps and vectors together; where only vectors are read, theirs must do.
        self.vectors_only = kind == "pooled" and f"{self.modality}/maps" in dataset.regions
        self.end = dataset.regions[name].end
        self.file = open(dataset.path, "rb")  # noqa: SIM115  (open as long as the map is)
        self.checked = np.zeros(len(dataset), bool)

    @property
    def works(self) -> bool:
        """Whether rows can be checked: not where vectors are read from a file without checksums of vectors."""
        return not self.vectors_only or "vectors_crc32c" in self.dataset.regions

    def check(self, rows: npt.NDArray[np.int64]) -> None:
        """Raise DataError when the file became shorter, or when one of the rows does not match its checksum."""
        path = self.dataset.path
        if os.fstat(self.file.fileno()).st_size < self.end:
            raise DataError(f"{path}: became shorter while it was read; get it again, then run the same command with --resume")
        for row in rows[~self.checked[rows]].tolist():
            arrays = self.dataset.row(row, self.modality, self.file.fileno(), self.vectors_only)
            fault = self.dataset.mismatch(row, self.modality, arrays, self.file.fileno())
            if fault:
                clip = self.dataset.columns["clip"][row]
                raise DataError(f"{path}: {clip}: {fault}; reset it with cia-extract verify --redo, then extract it again")
            self.checked[row] = True

    def row(self, row: int) -> npt.NDArray[np.generic]:
        """A row [T, …] after its check, read from the file rather than mapped. Raises DataError if the file became shorter."""
        return self.dataset.read_row(self.name, row, self.file.fileno())


class FrameGuard:
    """Watches the cached frames of one modality, as `Guard` an array of a feature file. `name`: "rgb/frames"."""

    works = True

    def __init__(self, dataset: FrameDataset, name: str) -> None:
        store = dataset.store(name)
        self.path, self.clips, self.array = store.frames, dataset.columns["clip"], dataset.array(name)
        self.frames, self.expected = store.map(), store.checksums()
        self.file = open(store.frames, "rb")  # noqa: SIM115  (as long as the map)
        self.end = os.fstat(self.file.fileno()).st_size
        self.checked = np.zeros(len(dataset), bool)

    def check(self, rows: npt.NDArray[np.int64]) -> None:
        """As `Guard.check`."""
        if os.fstat(self.file.fileno()).st_size < self.end:
            raise DataError(f"{self.path}: became shorter while it was read; run the same command with --resume")
        for row in rows[~self.checked[rows]].tolist():
            if google_crc32c.value(self.frames[row].tobytes()) != self.expected[row]:
                again = f"delete {self.path.parent}, and its clips are decoded again"
                raise DataError(f"{self.path}: {self.clips[row]}: does not match its CRC32C; {again}")
            self.checked[row] = True

    def row(self, row: int) -> npt.NDArray[np.uint8]:
        """A row [T, C, H, W] after its check."""
        return self.array[row]
