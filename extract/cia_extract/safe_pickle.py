"""Pickles of numpy arrays, read without running what else may be in them."""

import pickle
from pathlib import Path
from typing import Any, BinaryIO, Final

import numpy as np

from cia_extract.errors import DataError

# Python's own containers, and what numpy 1 and 2 name in a pickle of arrays, under every protocol. None of it runs code.
ALLOWED: Final = frozenset(
    {("collections", "OrderedDict"), ("_codecs", "encode"), ("numpy", "ndarray"), ("numpy", "dtype")}
    | {(f"{core}.multiarray", name) for core in ("numpy.core", "numpy._core") for name in ("_reconstruct", "scalar")}
    | {(f"{core}.numeric", "_frombuffer") for core in ("numpy.core", "numpy._core")}
)


class NumpyOnly(pickle.Unpickler):
    """Unpickles numpy arrays, numbers, text and containers of them. Raises DataError for a pickle that asks for more."""

    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in ALLOWED:
            raise DataError(f"this pickle asks for {module}.{name}; only numpy arrays are read from pickles")
        if name == "_reconstruct":  # where this numpy has it, whatever the file's called the place
            return np.empty(0).__reduce__()[0]
        if name == "scalar":
            return np.float64(0).__reduce__()[0]
        return super().find_class(module, name)


def load(file: Path | BinaryIO) -> Any:
    """The content of a pickle. Raises DataError, OSError and what a damaged pickle makes the reader raise."""
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return NumpyOnly(opened, encoding="latin1").load()
    return NumpyOnly(file, encoding="latin1").load()
