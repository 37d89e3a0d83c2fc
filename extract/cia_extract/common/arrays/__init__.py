"""Arrays in other people's files: what lies in them is checked before anything of it is read, and nothing of it is run.

pickle_machine  pickles as data: no class is looked up, memory is bounded by the file's size
stand_ins       what stands for the objects that a pickle names
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
    """An array that lies in a file, before anything of it is read."""

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
        return prod(self.shape) * self.itemsize


def held(array: npt.NDArray[Any]) -> Stored:
    """An array that is in memory already."""
    return Stored(array.shape, array.dtype.kind, array.dtype.itemsize, lambda: array)


def check_growth(nbytes: int, file_size: int) -> None:
    """Refuse to read arrays that are out of all proportion to their file (bytes). Raises DataError."""
    if nbytes > SPARE + GROWTH * file_size:
        raise DataError(f"grows from {file_size:,} to {nbytes:,} bytes when it is read, which no honest file does")


def shown(text: object, longest: int = 80) -> str:
    """A name from a file, fit for a message: one line, printable, not too long.

    >>> shown("a\\nb")
    'a\\\\nb'
    """
    # What a file nests without end must not be printed, not even to be cut.
    plain = str(text) if isinstance(text, str | int | PurePath) else f"a {type(text).__name__}"
    printable = "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in plain[: longest + 1])
    return printable if len(printable) <= longest else printable[:longest] + " …"


def checked_shape(shape: Any) -> tuple[int, ...]:
    """The lengths of an array's axes as a file states them. Raises DataError for what cannot be lengths."""
    if not isinstance(shape, tuple | list) or len(shape) > 16 or not all(type(n) is int and 0 <= n < 1 << 48 for n in shape):
        raise DataError("an array of it has a shape that no array has")
    return tuple(shape)


def from_bytes(data: bytes, dtype: "np.dtype[Any]", shape: tuple[int, ...], order: str = "C") -> npt.NDArray[Any]:
    """An array over bytes, not writable. Raises DataError where their number is not that of its values."""
    if len(data) != prod(shape) * dtype.itemsize:
        raise DataError(f"an array of it is incomplete: {len(data):,} bytes for {dtype} {list(shape)}")
    array = np.frombuffer(data, dtype) if data else np.empty(0, dtype)
    if dtype.kind == "U" and array.size:
        letters = array.view(np.dtype(np.uint32).newbyteorder(dtype.byteorder))
        if letters.max() > 0x10FFFF or ((letters >= 0xD800) & (letters < 0xE000)).any():
            raise DataError("an array of it holds text with letters that Unicode does not have")
    return array.reshape(shape, order="F" if order == "F" else "C")
