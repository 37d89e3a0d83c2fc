"""Annotation tables: CSV, and the pickled pandas DataFrames of MM-SADA.

A pickle is a program: loading one as it is runs whatever its author wrote. These files need eight names of pandas and numpy,
so exactly those are understood, as stand-ins that keep what is stored. That needs neither library, nor an old version of it.
"""

import pickle
import struct
from collections import Counter
from pathlib import Path
from typing import Any, Final

from cia_extract import text_files
from cia_extract.errors import DataError

Row = dict[str, str]

AGAIN: Final = "download it again"


def read(path: Path, columns: list[str], bad: list[str] | None = None) -> list[Row]:
    """The rows of a .csv or .pkl table, every cell as text.

    A row of a CSV with more or fewer cells than columns is left out and described in `bad`, refused without it.
    Raises DataError if the file cannot be read or lacks one of `columns`.
    """
    rows = _read_pickle(path) if path.suffix == ".pkl" else _read_csv(path, bad)
    if not rows:
        raise DataError(f"{path}: no rows in it; download it again")
    missing = [column for column in columns if column not in rows[0]]
    if missing:
        raise DataError(f"{path}: column {', '.join(missing)} is missing; take the file as it is published")
    return rows


def _read_csv(path: Path, bad: list[str] | None) -> list[Row]:
    text = text_files.read_text(path, "UTF-8 CSV", AGAIN, utf8_only=True)
    lines = text_files.table(path, text, "UTF-8 CSV", AGAIN)
    _, header = next(lines, (1, []))
    twice = [column for column, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{path}, line 1: column {twice[0][:60]!a} stands twice; {AGAIN}")
    rows, wrong = [], []
    for number, (line, cells) in enumerate(lines, start=2):
        if len(cells) == len(header):
            rows.append(dict(zip(header, cells, strict=True)))
        else:
            wrong.append(f"{path}, line {line}, row {number}: not as many cells as there are columns; {AGAIN}")
    if wrong and (bad is None or not rows):
        raise DataError(wrong[0])
    if bad is not None:
        bad += wrong
    return rows


class _Stored:
    """Stands for any object of the pickle: its arguments and its state, as they are."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def __setstate__(self, state: Any) -> None:
        self.state = state


class _Frame(_Stored):
    """pandas.DataFrame."""


class _Array(_Stored):
    """numpy.ndarray, made by numpy's _reconstruct."""


class _Index(_Stored):
    """What pandas' _new_Index makes: arguments (class, {"data": array, …})."""


UNDERSTOOD: Final[dict[tuple[str, str], type[_Stored]]] = {
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): _Stored,
    ("pandas.core.indexes.base", "_new_Index"): _Index,
    ("pandas.core.indexes.base", "Index"): _Stored,
    ("pandas.core.indexes.range", "RangeIndex"): _Stored,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Stored,
    ("numpy", "dtype"): _Stored,
}


class _Reader(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        if (module, name) not in UNDERSTOOD:
            raise DataError(f"it names {module}.{name}, which no table of numbers and texts needs")
        return UNDERSTOOD[module, name]


def _read_pickle(path: Path) -> list[Row]:
    try:
        with path.open("rb") as file:
            frame = _Reader(file).load()
        return _rows(frame)
    except DataError as error:
        raise DataError(f"{path}: not read, since {error}; take MM-SADA's file, or a CSV of its columns") from error
    except Exception as error:  # a damaged pickle may raise anything at all
        why = f"{type(error).__name__}: {error}"
        raise DataError(f"{path}: not a pickled table as MM-SADA publishes them ({why}); download it again") from error


def _rows(frame: Any) -> list[Row]:
    """A DataFrame's blocks (arrays [columns of one type, rows]) put side by side."""
    if not isinstance(frame, _Frame):
        raise DataError("it holds no DataFrame")
    manager = frame.state["_data"].state[3]["0.14.1"]  # the layout's version; pandas has written this one for years
    names = _values(manager["axes"][0].arguments[1]["data"])[1]
    columns: dict[str, list[str]] = {}
    for block in manager["blocks"]:
        (count, length), cells = _values(block["values"])
        places = _values(block["mgr_locs"])[1]
        for row_of_block, place in zip(range(count), places, strict=True):
            columns[names[place]] = [str(cell) for cell in cells[row_of_block * length : (row_of_block + 1) * length]]
    if set(columns) != set(names):
        raise DataError("columns of it are missing")
    return [dict(zip(names, cells, strict=True)) for cells in zip(*(columns[name] for name in names), strict=True)]


def _values(array: _Array) -> tuple[tuple[int, ...], list[Any]]:
    """(shape, values in C order) of an array of objects or of 64-bit integers."""
    _, shape, dtype, fortran_order, data = array.state
    code, order = dtype.arguments[0], dtype.state[1]
    if fortran_order or (code, order) not in {("O8", "|"), ("i8", "<")}:
        raise DataError(f"an array of it is of type {order}{code}{' in Fortran order' if fortran_order else ''}")
    values = list(data) if code == "O8" else list(struct.unpack(f"<{len(data) // 8}q", data))
    size = 1
    for length in shape:
        size *= length
    if len(values) != size:
        raise DataError("an array of it is incomplete")
    return shape, values
