"""torch.save's files, in the zip format and the older one (before 2020), read without torch.

A tensor's values are read only on demand, so that all shapes are known before memory is needed. A file may name only what
dictionaries of tensors need; a pickle that names anything else is refused.
"""

import struct
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from cia_extract.common.arrays import Stored, check_growth, checked_shape, pickle_machine, shown
from cia_extract.common.arrays.numpy_objects import NUMPY, ordered_dict
from cia_extract.common.arrays.pickle_machine import StandIns
from cia_extract.common.arrays.stand_ins import Make, Name, StandIn
from cia_extract.common.errors import DataError

MAGIC: Final = 0x1950A86A20F9469CFC6C  # how files of the old format begin
LARGEST_PICKLE: Final = 64 << 20  # bytes of a zip's data.pkl: names and shapes, no values

# torch's storages: numpy's type of a value. numpy has no bfloat16; its bits are read as uint16.
TYPES: Final = {
    "FloatStorage": "<f4",
    "DoubleStorage": "<f8",
    "HalfStorage": "<f2",
    "BFloat16Storage": "<u2",
    "LongStorage": "<i8",
    "IntStorage": "<i4",
    "ShortStorage": "<i2",
    "CharStorage": "<i1",
    "ByteStorage": "<u1",
    "BoolStorage": "|b1",
    "ComplexFloatStorage": "<c8",
    "ComplexDoubleStorage": "<c16",
}
DTYPES: Final = ("float32", "float64", "float16", "bfloat16", "int64", "int32", "int16", "int8", "uint8", "bool")
DTYPES_ODD: Final = ("complex64", "complex128", "uint16", "uint32", "uint64", "float8_e4m3fn", "float8_e5m2")


class Unusable(StandIn):
    """Stands for a tensor that is not a plain array of numbers; `kind` says what it is ("sparse")."""

    __slots__ = ("kind",)

    def __init__(self, kind: str) -> None:
        self.kind = kind

    def restore(self, state: Any) -> None:
        """Ignore the state: the values are not read."""

    def finish(self) -> "Unusable":
        """Itself, for the reader to refuse or pass over."""
        return self


@dataclass(frozen=True)
class Storage:
    """A storage in a file: `count` values of `kind` (a key of `TYPES`), from value `offset` of the entry `key` on."""

    kind: str
    key: str
    count: int
    offset: int = 0


class Tensor(StandIn):
    """Stands for a tensor: a view of a storage, with offset and strides in values."""

    __slots__ = ("offset", "read", "shape", "storage", "strides")

    def __init__(self, storage: Storage, offset: Any, shape: Any, strides: Any, read: Callable[[Storage], bytes]) -> None:
        self.storage, self.offset, self.read = storage, offset, read
        self.shape, self.strides = checked_shape(shape), checked_shape(strides)
        reach = offset + 1 + sum((n - 1) * step for n, step in zip(self.shape, self.strides, strict=True))
        if type(offset) is not int or offset < 0 or (0 not in self.shape and reach > storage.count):
            raise DataError("one of its tensors reaches beyond its storage")

    def restore(self, state: Any) -> None:
        """Ignore the state: a tensor's attributes are not needed."""

    def finish(self) -> Stored:
        """The tensor as an array that is read on demand; bfloat16 becomes float32."""
        dtype = np.dtype(TYPES[self.storage.kind])
        if self.storage.kind == "BFloat16Storage":
            return Stored(self.shape, "f", 4, lambda: _from_bfloat16(self._values(dtype)))
        return Stored(self.shape, dtype.kind, dtype.itemsize, lambda: self._values(dtype))

    def _values(self, dtype: "np.dtype[Any]") -> npt.NDArray[Any]:
        if 0 in self.shape:
            return np.empty(self.shape, dtype)
        values = np.frombuffer(self.read(self.storage), dtype)[self.storage.offset + self.offset :]
        steps = [step * dtype.itemsize for step in self.strides]
        return np.ascontiguousarray(np.lib.stride_tricks.as_strided(values, self.shape, steps, writeable=False))


def load(path: Path) -> Any:
    """The content of a file of torch.save, its tensors as `Stored` or `Unusable`. Raises DataError or OSError."""
    with path.open("rb") as file:
        is_zip = file.read(4) == b"PK\3\4"
    return _Zip(path).load() if is_zip else _Old(path).load()


def _from_bfloat16(bits: npt.NDArray[Any]) -> npt.NDArray[np.float32]:
    return (bits.astype(np.uint32) << 16).view(np.float32)


def _known(read: Callable[[Storage], bytes]) -> StandIns:
    """The names that a pickle of tensors may use, and their stand-ins; `read` gives the bytes of a storage."""

    def tensor(storage: Any, offset: Any, shape: Any, strides: Any, *_: Any) -> Any:
        if isinstance(storage, Storage):
            return Tensor(storage, offset, shape, strides, read)
        if isinstance(storage, Unusable):
            return storage
        raise DataError("one of its tensors has no storage")

    def typed(function: Any, kind: Any, arguments: Any, _: Any) -> Any:
        if not isinstance(function, Name) or not isinstance(kind, Name) or kind.name not in ("Tensor", "Parameter", "Buffer"):
            raise DataError("it holds a tensor of a custom class; save plain tensors")
        return function.make(*arguments)

    def unusable(kind: str) -> Make:
        return lambda *_: Unusable(kind)

    utils: dict[str, Make] = {
        "_rebuild_tensor": tensor,
        "_rebuild_tensor_v2": tensor,
        "_rebuild_tensor_v3": unusable("float8 or otherwise unusual"),
        "_rebuild_parameter": lambda data, *_: data,
        "_rebuild_parameter_with_state": lambda data, *_: data,
        "_rebuild_sparse_tensor": unusable("sparse"),
        "_rebuild_sparse_csr_tensor": unusable("sparse"),
        "_rebuild_meta_tensor_no_storage": unusable("meta"),
        "_rebuild_qtensor": unusable("quantised"),
        "_rebuild_nested_tensor": unusable("nested"),
        "_rebuild_device_tensor_from_numpy": unusable("foreign device's"),
    }
    nothing: Make = lambda *_: None  # noqa: E731  (a device, a size, a type: not needed)
    names = [*TYPES, *(f"Q{n}Storage" for n in ("Int8", "UInt8", "Int32")), "QUInt4x2Storage", "QUInt2x4Storage"]
    torch = [*names, *DTYPES, *DTYPES_ODD, "device", "Size", "Tensor", "strided", "sparse_coo", "sparse_csr", "contiguous_format"]
    torch += ["per_tensor_affine", "per_channel_affine", "preserve_format"]
    return {
        **NUMPY,
        ("collections", "Counter"): lambda counts=None: counts,
        ("collections", "defaultdict"): lambda *_: ordered_dict(),
        **{("torch._utils", name): make for name, make in utils.items()},
        ("torch._tensor", "_rebuild_from_type_v2"): typed,
        **{("torch", name): nothing for name in torch},
        **{("torch.cuda", name): nothing for name in names},
        ("torch.storage", "UntypedStorage"): nothing,
        ("torch.serialization", "_get_layout"): nothing,
        **{("torch.nn.parameter", name): nothing for name in ("Parameter", "Buffer", "UninitializedParameter")},
    }


def _storage(identity: Any) -> Any:
    """The storage of a persistent id: ("storage", type, key, device, values[, view])."""
    if not isinstance(identity, tuple) or len(identity) < 5 or identity[0] != "storage" or not isinstance(identity[1], Name):
        raise DataError("one of its storages has an unknown description")
    _, kind, key, _, count, *view = identity
    if kind.name not in TYPES:
        return Unusable("quantised or otherwise unusual")
    if not isinstance(key, str | int) or type(count) is not int or not 0 <= count < 1 << 48:
        raise DataError("one of its storages has an unknown description")
    if view and view[0] is not None:  # torch before 0.4: (key, offset, values)
        _, offset, count = view[0]
        if not all(type(n) is int and 0 <= n < 1 << 48 for n in (offset, count)):
            raise DataError("one of its storages has an unknown description")
        return Storage(kind.name, str(key), count, offset)
    return Storage(kind.name, str(key), count)


class _Once:
    """Reads each storage once, however many tensors are views of it."""

    def __init__(self, read: Callable[[Storage], bytes], file_size: int) -> None:
        self.read, self.file_size, self.spent = read, file_size, 0
        self.data: dict[Storage, bytes] = {}

    def __call__(self, storage: Storage) -> bytes:
        if storage not in self.data:
            self.spent += _size(storage)
            check_growth(self.spent, self.file_size)
            self.data[storage] = self.read(storage)
            if len(self.data[storage]) < _size(storage):
                raise DataError(f"its storage {shown(storage.key)} is incomplete")
        return self.data[storage]


def _size(storage: Storage) -> int:
    """Bytes from the beginning of a storage's entry to the end of its last value."""
    return (storage.offset + storage.count) * np.dtype(TYPES[storage.kind]).itemsize


class _Zip:
    """The format since 2020: a zip of data.pkl and one entry a storage."""

    def __init__(self, path: Path) -> None:
        self.zip, self.file_size = zipfile.ZipFile(path), path.stat().st_size
        pickles = [info for info in self.zip.infolist() if info.filename.split("/")[1:] == ["data.pkl"]]
        if not pickles:
            raise DataError("a zip, but not one that torch.save writes (no data.pkl in it)")
        self.pickle, self.root = pickles[0], pickles[0].filename.split("/")[0]
        if self.pickle.file_size > LARGEST_PICKLE:
            raise DataError(f"its list of tensors has {self.pickle.file_size:,} bytes, more than any checkpoint's")
        if f"{self.root}/byteorder" in self.zip.namelist() and self._entry("byteorder", 16) != b"little":
            raise DataError("written on a big-endian machine; save it again on a little-endian one")

    def load(self) -> Any:
        import io

        content = io.BytesIO(self._entry("data.pkl", LARGEST_PICKLE))
        return pickle_machine.load(content, _known(_Once(self._read, self.file_size)), _storage)

    def _read(self, storage: Storage) -> bytes:
        return self._entry(f"data/{storage.key}", _size(storage))

    def _entry(self, name: str, most: int) -> bytes:
        info = self.zip.getinfo(f"{self.root}/{name}")
        if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
            raise DataError("its compression is not one that torch.save uses")
        with self.zip.open(info) as entry:
            return entry.read(most)


class _Old:
    """The older format: pickles of a magic number, a version, the machine, the tree and the storages' keys; then their values."""

    def __init__(self, path: Path) -> None:
        self.path, self.unusual = path, False
        self.storages: dict[str, Storage] = {}
        self.places: dict[str, tuple[int, int]] = {}  # {key: (where its values begin, how many they are)}

    def load(self) -> Any:
        with self.path.open("rb") as file:
            try:
                has_magic = pickle_machine.load(file, {}) == MAGIC
            except DataError:
                has_magic = False
            if not has_magic:
                raise DataError("damaged, or not written by torch.save")
            pickle_machine.load(file, {})
            pickle_machine.load(file, {})
            tree = pickle_machine.load(file, _known(_Once(self._read, self.path.stat().st_size)), self._storage)
            keys = pickle_machine.load(file, {})
            # Where an unusual storage ends is not known, so none is read; the caller sees which tensor is unusual.
            for key in keys if isinstance(keys, list) and not self.unusual else []:
                self._place(file, str(key))
            return tree

    def _storage(self, identity: Any) -> Any:
        storage = _storage(identity)
        if isinstance(storage, Storage):
            self.storages[storage.key] = storage
        else:
            self.unusual = True
        return storage

    def _place(self, file: BinaryIO, key: str) -> None:
        count = struct.unpack("<q", file.read(8))[0] if key in self.storages else -1
        if not 0 <= count < 1 << 48:
            raise DataError(f"its storage {shown(key)} is damaged, or not described")
        begin = file.tell()
        self.places[key] = begin, count
        file.seek(begin + count * np.dtype(TYPES[self.storages[key].kind]).itemsize)

    def _read(self, storage: Storage) -> bytes:
        if storage.key not in self.places:
            raise DataError(f"its storage {shown(storage.key)} is missing")
        begin, count = self.places[storage.key]
        if storage.offset + storage.count > count or begin + _size(storage) > self.path.stat().st_size:
            raise DataError(f"its storage {shown(storage.key)} is incomplete")
        with self.path.open("rb") as file:
            file.seek(begin)
            return file.read(_size(storage))
