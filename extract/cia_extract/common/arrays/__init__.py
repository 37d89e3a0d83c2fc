"""Arrays in other people's files: shapes, types and sizes are checked before values are read, and no code in the file runs.

pickle_machine  pickles as data: no class is looked up, memory is bounded by the file's size
stand_ins       what represents the objects that a pickle names
numpy_objects   the few objects that a pickle of numpy arrays names
torch_files     torch.save's files, of both formats
npy_files       .npy and .npz
"""

from collections.abc import Callable
from dataclasses import dataclass
from math import prod
from pathlib import PurePath
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cia_extract.common.errors import DataError

SPARE: Final = 64 << 20  # bytes that any file may grow to, however small it is
GROWTH: Final = 32  # times its size that a file may grow: features after a ReLU are compressed tenfold


@dataclass(frozen=True)
class Stored:
    """An array in a file, before its values are read; `read` reads them."""

    shape: tuple[int, ...]
    kind: str
    """numpy's letter of the kind: f, i, u, b, c, S or U."""
    itemsize: int
    """Bytes of one value once it is read."""
    read: Callable[[], npt.NDArray[Any]]

    @property
    def type(self) -> str:
        """numpy's name of the type, `float32`."""
        return np.dtype(f"{self.kind}{self.itemsize}").name if self.kind in "fiuc" else {"b": "bool"}.get(self.kind, "text")

    @property
    def nbytes(self) -> int:
        """Bytes of the values once they are read."""
        return prod(self.shape) * self.itemsize


def held(array: npt.NDArray[Any]) -> Stored:
    """An array in memory, as a `Stored`."""
    return Stored(array.shape, array.dtype.kind, array.dtype.itemsize, lambda: array)


def check_growth(nbytes: int, file_size: int) -> None:
    """Raise DataError if arrays of `nbytes` bytes are out of all proportion to their file of `file_size` bytes."""
    if nbytes > SPARE + GROWTH * file_size:
        raise DataError(f"would unpack from {file_size:,} to {nbytes:,} bytes, more than any sound file does")


def shown(text: object, longest: int = 80) -> str:
    """A name from a file, made fit for a message: one line, printable, at most `longest` characters.

    >>> shown("a\\nb")
    'a\\\\nb'
    """
    # What a file nests without end must not be printed, not even to be cut.
    plain = str(text) if isinstance(text, str | int | PurePath) else f"a {type(text).__name__}"
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain[: longest + 1])
    return printable if len(printable) <= longest else printable[:longest] + " …"


def checked_shape(shape: Any) -> tuple[int, ...]:
    """An array's shape as a file states it. Raises DataError unless it is a tuple or list of at most 16 axis lengths."""
    if not isinstance(shape, tuple | list) or len(shape) > 16 or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise DataError("one of its arrays has an impossible shape")
    return tuple(shape)


def from_bytes(data: bytes, dtype: "np.dtype[Any]", shape: tuple[int, ...], order: str = "C") -> npt.NDArray[Any]:
    """A read-only array [*shape] over `data`, in C or Fortran order.

    Raises DataError if the number of bytes does not fit the shape and type, or text in it is not valid Unicode.
    """
    if len(data) != prod(shape) * dtype.itemsize:
        raise DataError(f"one of its arrays is incomplete: {len(data):,} bytes for {dtype} {list(shape)}")
    array = np.frombuffer(data, dtype) if data else np.empty(0, dtype)
    if dtype.kind == "U" and array.size:
        code_points = array.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if code_points.max() > 0x10FFFF or ((code_points >= 0xD800) & (code_points < 0xE000)).any():
            raise DataError("one of its arrays holds text that is not valid Unicode")
    return array.reshape(shape, order="F" if order == "F" else "C")
