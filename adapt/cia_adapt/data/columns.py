"""Columns of foreign HDF5 files as text: labels, splits and clip ids, whether stored as text or as numbers."""

import math
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
from cia_extract.common.errors import DataError

MAX_BYTES: Final = 1 << 30  # of a column; 10⁷ names of 100 letters
MAX_CLIPS: Final = 10_000_000  # as text each takes up to 100 bytes, whatever its type in the file


def column(place: str, data: h5py.Dataset) -> npt.NDArray[np.str_]:
    """The values of an array [N] or [N, 1] as text [N]. Numbers are written as Python writes them; text must be UTF-8.

    Args:
        place: file and array, for messages.

    Raises:
        DataError: another shape or type, a missing value (NaN), text that is not UTF-8, or too much of it.
    """
    if data.ndim != 1 and not (data.ndim == 2 and data.shape[1] == 1):
        raise DataError(f"{place} has the shape {data.shape}; a column needs one value for each clip")
    if math.prod(data.shape) > MAX_CLIPS or math.prod(data.shape) * data.dtype.itemsize > MAX_BYTES:
        raise DataError(f"{place} has {math.prod(data.shape)} values of {data.dtype.itemsize} bytes; too many for a column")
    text = h5py.check_string_dtype(data.dtype)
    if text is not None:
        return np.array([_decoded(place, row, value) for row, value in enumerate(data[:].ravel().tolist())], dtype=str)
    if data.dtype.kind not in "iufb":
        raise DataError(f"{place} is {data.dtype}; a column needs text or numbers")
    values = data[:].ravel()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"{place} has no value in row {row} (NaN or infinity); give every clip one")
    return np.asarray(values.astype(str))


def _decoded(place: str, row: int, value: Any) -> str:
    """One value as text. HDF5 knows ASCII and UTF-8; ASCII is a part of UTF-8."""
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise DataError(f"{place}, row {row}: {value!r} is not UTF-8; write the column in UTF-8") from None
