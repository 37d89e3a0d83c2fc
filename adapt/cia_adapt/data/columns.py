"""Columns of foreign HDF5 files as text: labels, splits and clip ids, whether stored as text or as numbers."""

import math
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import h5py
import numpy as np
import numpy.typing as npt
from cia_extract.common.arrays import GROWTH, SPARE
from cia_extract.common.errors import DataError

MAX_BYTES: Final = 1 << 30  # of a column; 10⁷ names of 100 letters
MAX_CLIPS: Final = 10_000_000  # as text each takes about 100 bytes, whatever its type in the file
POINTER: Final = 8  # bytes of a text's place in an array
NUMBER: Final = 128  # bytes of a number as numpy's text, at most
SLICE: Final = 1 << 14  # texts of any length that are read at a time: a few bytes of a damaged file may name a long one each


@dataclass
class Room:
    """Memory that the columns of one file may still take, all together."""

    left: int
    """Bytes."""

    @classmethod
    def of(cls, path: Path) -> "Room":
        """As much as sound files of this size take."""
        return cls(SPARE + GROWTH * path.stat().st_size)

    def take(self, place: str, nbytes: int) -> None:
        """Raise DataError if a column, at `place` for the message, needs more than is left."""
        self.left -= nbytes
        if self.left < 0:
            raise DataError(
                f"{place}: the columns up to this one take more memory than those of any sound file of this size; name fewer "
                "with --map, or shorten their texts"
            )


def column(place: str, data: h5py.Dataset, room: Room) -> npt.NDArray[Any]:
    """The values of an array [N] or [N, 1] as text [N]. Numbers are written as Python writes them; text must be UTF-8.

    Texts are Python's own: in an array of numpy's, each would take the room of the longest.

    Args:
        place: file and array, for messages.
        room: what the file's columns may take; this one is taken from it.

    Raises:
        DataError: another shape or type, a missing value (NaN), text that is not UTF-8, or too much of it.
    """
    if data.ndim != 1 and not (data.ndim == 2 and data.shape[1] == 1):
        raise DataError(f"{place} has the shape {data.shape}; a column needs one value for each clip")
    if math.prod(data.shape) > MAX_CLIPS or math.prod(data.shape) * data.dtype.itemsize > MAX_BYTES:
        raise DataError(f"{place} has {math.prod(data.shape)} values of {data.dtype.itemsize} bytes; too many for a column")
    if (text := h5py.check_string_dtype(data.dtype)) is not None:
        return _texts(place, data, text.length is None, room)
    if data.dtype.kind not in "iufb":
        raise DataError(f"{place} is {data.dtype}; a column needs text or numbers")
    room.take(place, math.prod(data.shape) * NUMBER)
    values = data[:].ravel()
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        row = int(np.flatnonzero(~np.isfinite(values))[0])
        raise DataError(f"{place} has no value in row {row} (NaN or infinity); give every clip one")
    return np.asarray(values.astype(str))


def _texts(place: str, data: h5py.Dataset, of_any_length: bool, room: Room) -> npt.NDArray[Any]:
    """The values of a column of text. Those of any length are read a few at a time, the others take no more than they declare."""
    count = data.shape[0]
    room.take(place, count * (POINTER if of_any_length else data.dtype.itemsize))
    texts: list[str] = []
    step = SLICE if of_any_length else max(count, 1)
    for begin in range(0, count, step):
        values = data[begin : begin + step].ravel().tolist()
        texts += [_decoded(place, begin + i, value) for i, value in enumerate(values)]
        room.take(place, sum(map(sys.getsizeof, texts[begin:])))
    return np.array(texts, dtype=object)


def _decoded(place: str, row: int, value: Any) -> str:
    """One value as text. HDF5 knows ASCII and UTF-8; ASCII is a part of UTF-8."""
    try:
        return value.decode("utf-8") if isinstance(value, bytes) else str(value)
    except UnicodeDecodeError:
        raise DataError(f"{place}, row {row}: {value!r} is not UTF-8; write the column in UTF-8") from None
