"""An array's place in a feature file: its bytes are reached without HDF5, as a map or row by row."""

import math
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt

from cia_extract.common.errors import DataError

NOT_CONTIGUOUS: Final = "is chunked, virtual or in another file; schema 1 has contiguous arrays only"


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


def located(place: str, item: h5py.Dataset, size: int) -> Region:
    """Where an array's bytes lie in a file of `size` bytes. Raises DataError where they are not in one piece inside it.

    The array is not virtual, nor in another file: `structure.children` gives no such one.
    """
    if item.id.get_create_plist().get_layout() != h5py.h5d.CONTIGUOUS:
        raise DataError(f"{place} {NOT_CONTIGUOUS}")
    region = Region(item.id.get_offset() or 0, item.shape, item.dtype)
    if region.end == region.offset:
        return Region(0, item.shape, item.dtype)
    if item.id.get_offset() is None:
        raise DataError(f"{place} has no bytes in the file; it was never written")
    if region.end > size:
        raise DataError(f"{place} ends at byte {region.end} and the file has {size}; it was cut off, get it again")
    return region
