""".npy and .npz files: the header is read and checked against the file's size; values are read only on demand."""

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
            raise DataError("its compression is not one that numpy uses")
        if name in arrays:
            raise DataError("two of its arrays have the same name")
        arrays[name] = _stored(partial(archive.open, info), info.file_size)
    return arrays


def _stored(open_: Callable[[], IO[bytes]], size: int) -> Stored:
    with open_() as file:
        preamble = file.read(12)
        if preamble[:6] != b"\x93NUMPY" or preamble[6:8] not in (b"\1\0", b"\2\0", b"\3\0"):
            raise DataError("not an array in numpy's .npy format")
        width = 2 if preamble[6] == 1 else 4
        length = int.from_bytes(preamble[8 : 8 + width], "little")
        if length > LONGEST_HEADER:
            raise DataError(f"the header of one of its arrays is longer than {LONGEST_HEADER:,} bytes, numpy's limit")
        header = preamble[8:] + file.read(max(0, length + width - 4))
    read_header = np.lib.format.read_array_header_1_0 if width == 2 else np.lib.format.read_array_header_2_0
    try:
        shape, in_fortran_order, dtype = read_header(io.BytesIO(header))
    except Exception as error:  # the header is Python's text of a dictionary: it may be anything
        raise DataError("the header of one of its arrays is damaged") from error
    if dtype.hasobject or dtype.kind not in "biufcSU" or not dtype.itemsize:
        raise DataError("one of its arrays holds Python objects or records; only numbers and text are read")
    shape = checked_shape(shape)
    skip, nbytes = 8 + width + length, prod(shape) * dtype.itemsize
    if (
        skip + nbytes != size
    ):  # also where there are more: the header may be damaged, and a zip's checksum is known at its end only
        what = "is incomplete" if skip + nbytes > size else "is damaged, or followed by other data"
        raise DataError(f"one of its arrays {what}: {size - skip:,} bytes for {dtype} {list(shape)}")

    def read() -> np.ndarray:
        with open_() as file:
            file.read(skip)  # after a seek, zipfile (Python 3.13) no longer compares the checksum
            return from_bytes(file.read(nbytes), dtype, shape, "F" if in_fortran_order else "C")

    return Stored(shape, dtype.kind, dtype.itemsize, read)
