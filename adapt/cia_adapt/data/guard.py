"""Checks of a mapped feature file: each row against its checksum when first read, the file's length before every reading.

Without them a damaged row would train in silence, and reading a map behind the end of a file that became shorter would kill the
process (SIGBUS). One gap remains: a file that is cut in the microseconds between the check of its length and the reading.
"""

import os

import numpy as np
import numpy.typing as npt
from cia_extract.common.errors import DataError
from cia_extract.features import DatasetFeatures


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
