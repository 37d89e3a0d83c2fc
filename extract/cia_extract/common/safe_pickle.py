"""Pickles of numpy arrays, read without running what else may be in them."""

from pathlib import Path
from typing import Any, BinaryIO

from cia_extract.common.arrays import pickle_machine
from cia_extract.common.arrays.numpy_objects import NUMPY


def load(file: Path | BinaryIO) -> Any:
    """The content of a pickle: numpy arrays of numbers and text (not writable), numbers, text and containers of these.

    Raises DataError for a pickle that is damaged, holds or names anything else, or unpacks to far more than its size; OSError.
    """
    if isinstance(file, Path):
        with file.open("rb") as opened:
            return pickle_machine.load(opened, NUMPY)
    return pickle_machine.load(file, NUMPY)
