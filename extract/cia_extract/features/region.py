"""An array's place in a feature file: its bytes are reached without HDF5, as a map or row by row."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cia_extract.common.errors import DataError


@dataclass(frozen=True)
class Region:
    """Where a contiguous array lies in the file."""

    offset: int  # bytes
    shape: tuple[int, ...]
    dtype: np.dtype[Any]

    @property
    def row_bytes(self) -> int:
        """Bytes of one clip."""
        return int(np.prod(self.shape[1:], dtype=np.int64)) * self.dtype.itemsize

    @property
    def end(self) -> int:
        """The offset behind the last byte."""
        return self.offset + math.prod(self.shape) * self.dtype.itemsize

    def row_offset(self, row: int) -> int:
        """Bytes from the file's start to a row. Raises IndexError."""
        if not 0 <= row < self.shape[0]:
            raise IndexError(f"row {row} of {self.shape[0]}")
        return self.offset + row * self.row_bytes

    def map(self, path: Path) -> npt.NDArray[Any]:
        """The array as a read-only memory map."""
        if not math.prod(self.shape):
            return np.empty(self.shape, self.dtype)
        try:
            return np.memmap(path, dtype=self.dtype, mode="r", offset=self.offset, shape=self.shape)
        except (OSError, ValueError) as error:  # ValueError: longer than the file
            raise DataError(f"{path}: was removed or became shorter while it was read; get it again") from error

    def read_row(self, descriptor: int, row: int) -> npt.NDArray[Any]:
        """One row, read rather than mapped: a file that became shorter is an error here and not the process's end.

        Raises DataError.
        """
        data = b""
        while len(data) < self.row_bytes:
            more = os.pread(descriptor, self.row_bytes - len(data), self.row_offset(row) + len(data))
            if not more:
                raise DataError("the file became shorter while it was read")
            data += more
        return np.frombuffer(data, self.dtype).reshape(self.shape[1:])
