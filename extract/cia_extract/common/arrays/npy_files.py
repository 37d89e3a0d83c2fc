""".npy and .npz: the header is read and checked against the number of bytes that follow, then, when asked for, the values."""

import io
import zipfile
from collections.abc import Callable
from functools import partial
from math import prod
from pathlib import Path
from typing import IO, Final

import numpy as np

from cia_extract.common.arrays import Stored, checked_shape, from_bytes
from cia_extract.common.errors import DataError

LONGEST_HEADER: Final = 10_000  # bytes; numpy's own limit


def npy(path: Path) -> Stored:
    """The array of an .npy file. Raises DataError or OSError."""
    return _stored(lambda: path.open("rb"), path.stat().st_size)


def npz(path: Path) -> dict[str, Stored]:
    """The arrays of an .npz file by name. Raises DataError, OSError, zipfile.BadZipFile."""
    archive = zipfile.ZipFile(path)
    arrays: dict[str, Stored] = {}
    for info in archive.infolist():
        if not info.filename.endswith(".npy"):
            continue
        name = info.filename.removesuffix(".npy")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError("compressed in a way that numpy does not use")
        if name in arrays:
            raise DataError("two arrays of it have one name")
        arrays[name] = _stored(partial(archive.open, info), info.file_size)
    return arrays


def _stored(open_: Callable[[], IO[bytes]], size: int) -> Stored:
    with open_() as file:
        begin = file.read(12)
        if begin[:6] != b"\x93NUMPY" or begin[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
            raise DataError("not an array as numpy writes it")
        width = 2 if begin[6] == 1 else 4
        length = int.from_bytes(begin[8 : 8 + width], "little")
        if length > LONGEST_HEADER:
            raise DataError("the header of an array is longer than any that numpy writes")
        header = begin[8:] + file.read(max(0, length + width - 4))
    read_header = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    try:
        shape, in_fortran_order, dtype = read_header(io.BytesIO(header))
    except Exception as error:  # the header is Python's text of a dictionary: it may be anything
        raise DataError("the header of an array is damaged") from error
    if dtype.hasobject or dtype.kind not in "biufcSU" or not dtype.itemsize:
        raise DataError("an array of it holds Python objects or records; only numbers and text are read")
    shape = checked_shape(shape)
    skip, nbytes = 8 + width + length, prod(shape) * dtype.itemsize
    if skip + nbytes > size:
        raise DataError(f"an array of it is incomplete: {size - skip:,} bytes for {dtype} {list(shape)}")

    def read() -> np.ndarray:
        with open_() as file:
            file.seek(skip)
            return from_bytes(file.read(nbytes), dtype, shape, "F" if in_fortran_order else "C")

    return Stored(shape, dtype.kind, dtype.itemsize, read)
