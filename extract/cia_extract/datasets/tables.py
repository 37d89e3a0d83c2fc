"""Annotation tables: CSV, and the pickled pandas DataFrames of MM-SADA.

A pickle is a program: Python runs whatever its author wrote in it. These files need eight names of pandas and numpy, so only
those are understood, as stand-ins that keep their arguments and state. This needs neither pandas nor an old version of it.
"""

import struct
from collections import Counter
from math import prod
from pathlib import Path
from typing import Any, Final

from cia_extract.common import text_files
from cia_extract.common.arrays import checked_shape, pickle_machine, shown
from cia_extract.common.arrays.pickle_machine import StandIns, UnknownName
from cia_extract.common.arrays.stand_ins import StandIn
from cia_extract.common.errors import DataError

Row = dict[str, str]

CELLS: Final = 2_000_000  # of a pickled table; MM-SADA's largest has 40 thousand
AGAIN: Final = "download it again"


def read(path: Path, columns: list[str], bad: list[str] | None = None) -> list[Row]:
    """The rows of a .csv or .pkl table, every cell as text.

    A row of a CSV with more or fewer cells than columns is left out and described in `bad`; without `bad` it is an error.
    Raises DataError if the file cannot be read, has no rows or lacks one of `columns`.
    """
    rows = _read_pickle(path) if path.suffix == ".pkl" else _read_csv(path, bad)
    if not rows:
        raise DataError(f"{path}: no rows in it; download it again")
    missing = [column for column in columns if column not in rows[0]]
    if missing:
        raise DataError(f"{path}: column {', '.join(missing)} is missing; take the file as published")
    return rows


def _read_csv(path: Path, bad: list[str] | None) -> list[Row]:
    text = text_files.read_text(path, "UTF-8 CSV", AGAIN, utf8_only=True)
    lines = text_files.table(path, text, "UTF-8 CSV", AGAIN)
    _, header = next(lines, (1, []))
    twice = [column for column, count in Counter(header).items() if count > 1]
    if twice:
        raise DataError(f"{path}, line 1: column {twice[0][:60]!a} appears twice; {AGAIN}")
    rows, wrong = [], []
    for number, (line, cells) in enumerate(lines, start=2):
        if len(cells) == len(header):
            rows.append(dict(zip(header, cells, strict=True)))
        else:
            wrong.append(
                f"{path}, line {line}, row {number}: has {len(cells)} cells, but the header has {len(header)} columns; {AGAIN}"
            )
    if wrong and (bad is None or not rows):
        raise DataError(wrong[0])
    if bad is not None:
        bad += wrong
    return rows


class _Stored(StandIn):
    """Stands for any object of the pickle: keeps its arguments and its state."""

    def __init__(self, *arguments: Any) -> None:
        self.arguments = arguments
        self.state: Any = None

    def restore(self, state: Any) -> None:
        self.state = state

    def finish(self) -> "_Stored":
        return self


class _Frame(_Stored):
    """Stands for a pandas.DataFrame."""


class _Array(_Stored):
    """Stands for a numpy.ndarray, which numpy's _reconstruct creates."""


class _Index(_Stored):
    """Stands for what pandas' _new_Index creates from the arguments (class, {"data": array, …})."""


UNDERSTOOD: Final[StandIns] = {
    ("pandas.core.frame", "DataFrame"): _Frame,
    ("pandas.core.internals.managers", "BlockManager"): _Stored,
    ("pandas.core.indexes.base", "_new_Index"): _Index,
    ("pandas.core.indexes.base", "Index"): _Stored,
    ("pandas.core.indexes.range", "RangeIndex"): _Stored,
    ("numpy.core.multiarray", "_reconstruct"): _Array,
    ("numpy", "ndarray"): _Stored,
    ("numpy", "dtype"): _Stored,
}


def _read_pickle(path: Path) -> list[Row]:
    try:
        if path.exists() and not path.is_file():  # a pipe would be waited for
            raise DataError("it is no file")
        with path.open("rb") as file:
            return _rows(pickle_machine.load(file, UNDERSTOOD))
    except UnknownName as error:
        why = f"it names {error.name}, which no table of numbers and text needs"
        raise DataError(f"{path}: not read, since {why}; take MM-SADA's file, or a CSV with its columns") from error
    except Exception as error:  # a table in another layout may lack anything
        why = str(error) if isinstance(error, DataError) else f"another layout, {type(error).__name__}"
        raise DataError(f"{path}: not a pickled table like those of MM-SADA ({why}); download it again") from error


def _rows(frame: Any) -> list[Row]:
    """The rows of a DataFrame, from its blocks: arrays [columns of one type, rows]. Raises DataError."""
    if not isinstance(frame, _Frame):
        raise DataError("it holds no DataFrame")
    manager = frame.state["_data"].state[3]["0.14.1"]  # the layout's version; pandas has written this one for years
    names = _values(manager["axes"][0].arguments[1]["data"])[1]
    columns: dict[str, list[str]] = {}
    size = 0
    for block in manager["blocks"]:
        (count, length), cells = _values(block["values"])
        places = _values(block["mgr_locs"])[1]
        size += count * length
        if size > CELLS:
            raise DataError(f"its table has more than {CELLS:,} cells")
        for row_of_block, place in zip(range(count), places, strict=True):
            columns[names[place]] = [str(cell) for cell in cells[row_of_block * length : (row_of_block + 1) * length]]
    if set(columns) != set(names):
        raise DataError("some of its columns are missing")
    return [dict(zip(names, cells, strict=True)) for cells in zip(*(columns[name] for name in names), strict=True)]


def _values(array: _Array) -> tuple[tuple[int, ...], list[Any]]:
    """(shape, values in C order) of an array of objects or of 64-bit integers."""
    _, shape, dtype, fortran_order, data = array.state
    code, order = dtype.arguments[0], dtype.state[1]
    if not isinstance(code, str) or not isinstance(order, str):  # neither hashed nor printed: they may be nested without end
        raise DataError("one of its arrays has no type")
    if fortran_order or order + code not in ("|O8", "<i8"):
        kind = shown(order + code, 20)
        raise DataError(f"one of its arrays has the type {kind}{' in Fortran order' if fortran_order else ''}")
    data = data.encode("latin1") if isinstance(data, str) else data  # as protocols below 3 write bytes
    values = list(data) if code == "O8" else list(struct.unpack(f"<{len(data) // 8}q", data))
    if len(values) != prod(checked_shape(shape)):
        raise DataError("one of its arrays is incomplete")
    if not all(isinstance(value, str | int | float | None) for value in values):
        raise DataError("one of its cells is neither text nor a number")
    return shape, values
