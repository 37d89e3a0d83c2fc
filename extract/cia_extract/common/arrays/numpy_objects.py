"""Stand-ins for the objects that numpy's pickles name, under numpy 1's and 2's names and in every protocol.

A dtype keeps its kind, size and byte order, nothing else: numpy's own also takes flags from the file, and with wrong flags it
uses the file's bytes as memory addresses.
"""

import re
from typing import Any, Final

import numpy as np

from cia_extract.common.arrays import checked_shape, from_bytes, shown
from cia_extract.common.arrays.pickle_machine import StandIns
from cia_extract.common.arrays.stand_ins import Make, StandIn
from cia_extract.common.errors import DataError

SIZES: Final = {"b": "1", "i": "1248", "u": "1248", "f": "248"}  # bytes of a value, by kind


class Dtype(StandIn):
    """Stands for a numpy.dtype of numbers or text."""

    __slots__ = ("code", "order")

    def __init__(self, code: Any, *_: Any) -> None:
        kind = re.fullmatch(r"([biufSU])([1-9]\d{0,6})", code) if isinstance(code, str) else None
        if kind is None or kind[2] not in SIZES.get(kind[1], kind[2]) or (len(kind[2]) > 1 and kind[1] in SIZES):
            raise DataError(f"one of its arrays has the type {shown(code, 20)}; only numbers and text are read")
        self.code, self.order = code, "="

    def restore(self, state: Any) -> None:
        """Take the byte order from the pickled state. Raises DataError for an order that numpy does not have."""
        order = state[1] if isinstance(state, tuple) and len(state) > 1 else None
        if order not in ("<", ">", "|", "="):
            raise DataError("one of its arrays has a byte order that does not exist")
        self.order = order

    def dtype(self) -> "np.dtype[Any]":
        """numpy's dtype of this kind, size and byte order."""
        return np.dtype(self.order + self.code)

    def finish(self) -> None:
        """None: a type by itself is no data."""
        return None


class Array(StandIn):
    """Stands for a numpy.ndarray: `_reconstruct` creates it empty, its state fills it."""

    __slots__ = ("data", "dtype", "order", "shape")

    def __init__(self, *_: Any) -> None:
        self.data: Any = None

    def restore(self, state: Any) -> None:
        """Take shape, type, order and bytes from the pickled state. Raises DataError unless they are numbers or text."""
        *_, shape, dtype, in_fortran_order, data = state
        self._fill(shape, dtype, "F" if in_fortran_order else "C", data)

    def _fill(self, shape: Any, dtype: Any, order: str, data: Any) -> None:
        if not isinstance(dtype, Dtype) or not isinstance(data, str | bytes | Encoded):
            raise DataError("one of its arrays holds Python objects; only numbers and text are read")
        self.shape, self.dtype, self.order, self.data = checked_shape(shape), dtype.dtype(), order, data

    def size(self) -> int:
        """Bytes of the values, and 128 for the array itself."""
        return 128 + _length(self.data)

    def finish(self) -> Any:
        """The read-only numpy array. Raises DataError if its values are missing or incomplete."""
        if self.data is None:
            raise DataError("one of its arrays has no values")
        return from_bytes(_bytes(self.data), self.dtype, self.shape, self.order)


class Number(Array):
    """Stands for numpy.core.multiarray.scalar: one number or text."""

    __slots__ = ()

    def __init__(self, dtype: Any, data: Any) -> None:
        self._fill((), dtype, "C", data)

    def finish(self) -> Any:
        """The value as a Python number or str."""
        return super().finish()[()].item()


class Buffer(Array):
    """Stands for numpy.core.numeric._frombuffer: an array as protocol 5 writes it."""

    __slots__ = ("axes",)

    def __init__(self, data: Any, dtype: Any, shape: Any, order: Any, axes: Any = None) -> None:
        self._fill(shape, dtype, "F" if order == "F" else "C", data)
        self.axes = checked_shape(axes) if order == "K" and axes is not None else None

    def finish(self) -> Any:
        """The read-only numpy array, its axes in the order they were saved in."""
        array = super().finish()
        return array if self.axes is None else array.transpose(self.axes)


class Encoded(StandIn):
    """Stands for bytes as protocols below 3 write them: _codecs.encode(text, "latin1")."""

    __slots__ = ("text",)

    def __init__(self, text: Any, encoding: Any) -> None:
        if not isinstance(text, str) or encoding not in ("latin1", "latin-1"):
            raise DataError("it encodes text other than as latin1, which arrays do not need")
        self.text = text

    def size(self) -> int:
        """Bytes of the text, and 16 for the object itself."""
        return 16 + len(self.text)

    def finish(self) -> bytes:
        """The encoded bytes."""
        return self.text.encode("latin1")


def _length(data: Any) -> int:
    return len(data.text if isinstance(data, Encoded) else data or b"")


def _bytes(data: Any) -> bytes:
    if isinstance(data, Encoded):
        return data.finish()
    return data.encode("latin1") if isinstance(data, str) else bytes(data)


def ordered_dict(items: Any = ()) -> dict[Any, Any]:
    """A dict for collections.OrderedDict. Python 2 passes its items here as a list of pairs; later they follow one by one.

    Raises DataError for items that are not pairs with a text as key.
    """
    pairs = items if isinstance(items, list | tuple) else ()
    if not all(isinstance(pair, list | tuple) and len(pair) == 2 and isinstance(pair[0], str) for pair in pairs):
        raise DataError("one of its OrderedDicts is not made of pairs")
    return dict(pairs)


def _name_only(*_: Any) -> Any:
    raise DataError("it creates a numpy.ndarray directly, which arrays do not need")


def _items(items: Any = ()) -> list[Any]:
    """A set, as a list: its items may not be hashable."""
    return list(items) if isinstance(items, list | tuple) else []


def _raw(data: Any = b"", *_: Any) -> Any:
    """bytes or bytearray."""
    return data if isinstance(data, bytes | Encoded) else Encoded(data, "latin1")


_CORE: Final[dict[str, dict[str, Make]]] = {
    "multiarray": {"_reconstruct": Array, "scalar": Number},
    "numeric": {"_frombuffer": Buffer},
}
_BUILTINS: Final[dict[str, Make]] = {"set": _items, "frozenset": _items, "bytes": _raw, "bytearray": _raw}

NUMPY: Final[StandIns] = {
    ("collections", "OrderedDict"): ordered_dict,
    ("_codecs", "encode"): Encoded,
    ("numpy", "ndarray"): _name_only,
    ("numpy", "dtype"): Dtype,
    **{(f"{c}.{m}", n): make for c in ("numpy.core", "numpy._core") for m, names in _CORE.items() for n, make in names.items()},
    **{(module, name): make for module in ("builtins", "__builtin__") for name, make in _BUILTINS.items()},
}
