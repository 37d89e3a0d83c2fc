"""The manifest: a CSV with one clip a row. It lists the clips to extract, with their labels.

Columns: `clip` (unique id), `path` (relative to a root: a video or a folder of numbered pictures), `label`, `split`; optional
`start`, `stop` (seconds), `group` (clips that belong together, for example cut from one video), `domain`, `rate` (frames a second
at which the clip is read), and for stored flow `flow_path` (a folder), `flow_rate` (flows a second), `flow_bound` (px).
Unknown columns are kept and copied into the feature file.
"""

import csv
import hashlib
import json
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cia_extract.common import text_files
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.names import printable, unfit
from cia_extract.common.writes import whole

MOST_CELLS: Final = 50_000_000  # of which 10⁷ rows have five columns, or 10⁶ fifty
REQUIRED: Final = ("clip", "path", "label", "split")
# Columns that messages, tables and file names show: no control, surrogate or line-breaking characters.
_SHOWN: Final = frozenset(["clip", "path", "label", "split", "group", "domain", "flow_path"])
_UNSEEN: Final = frozenset(["Cc", "Cs", "Zl", "Zp"])
_LONGEST_ID: Final = 1000  # bytes
_ADDED: Final = 55  # bytes that file names add to the name of a dataset or domain
_LONGEST_S: Final = 1e7  # four months of video
OPTIONAL: Final = ("start", "stop", "group", "domain", "rate", "flow_path", "flow_rate", "flow_bound")
VIDEO_SUFFIXES: Final = frozenset(
    [
        ".avi",
        ".mp4",
        ".m4v",
        ".mkv",
        ".mov",
        ".webm",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".3gp",
        ".ts",
        ".mts",
        ".gif",
        ".ogv",
    ]
)


Numbered = tuple[int, Mapping[str, str]]  # a row with its line number


@dataclass(frozen=True)
class Manifest:
    """Validated rows, by column; `source` names their origin in messages (a file, or a built-in dataset)."""

    source: str
    columns: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.columns["clip"])

    def path(self, row: int, root: Path) -> Path:
        """The file or folder of a row's clip."""
        return root / self.columns["path"][row]

    def seconds(self, row: int) -> tuple[float | None, float | None]:
        """(start, stop) of a row in its video (s), None for an empty cell or missing column."""
        start, stop = (self.columns[name][row] if name in self.columns else "" for name in ("start", "stop"))
        return (float(start) if start else None, float(stop) if stop else None)

    def number(self, row: int, column: str) -> float:
        """A row's value in a numeric column, 0 for an empty cell or missing column."""
        text = self.columns[column][row] if column in self.columns else ""
        return float(text) if text else 0.0

    def sha256(self) -> str:
        """SHA-256 (hex) of the columns, by which the feature file recognises the manifest."""
        return hashlib.sha256(json.dumps({k: list(v) for k, v in self.columns.items()}).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the CSV, whole or not at all."""
        with whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(zip(*self.columns.values(), strict=True))


def read(path: Path, needs_path: bool = True) -> Manifest:
    """Read and check a manifest. Without `needs_path`, a manifest may lack paths: the clips' ids stand for them.

    The text is UTF-8, or in the encoding of its byte order mark; commas, semicolons or tabs separate the cells. A bad row is an
    error, not left out, since the user can correct the file. Raises DataError naming file, line and column.
    """
    if not path.exists():
        raise DataError(f"{path}: no such manifest; write one with: cia-extract manifest --from-folders DIR")
    kind, advice = "UTF-8 CSV", "save it as CSV with the encoding UTF-8"
    text = text_files.read_text(path, kind, advice)
    lines = text_files.table(path, text, kind, advice, _delimiter(text))
    header = [cell.strip() for cell in next(lines, (0, []))[1]]
    pathless = not needs_path and "path" not in header
    _check_header(path, [*header, "path"] if pathless else header)
    return _all_sound(str(path), _rows(path, header, lines, pathless))


def _rows(path: Path, header: Sequence[str], lines: Iterator[text_files.Row], pathless: bool) -> Iterator[Numbered]:
    """(line number, row) one after the other, as all of them would take twenty times the memory of the file."""
    cells_read = 0
    for number, cells in lines:
        if len(cells) != len(header):
            raise DataError(f"{path}, line {number}: has {len(cells)} cells, but the header has {len(header)} columns")
        cells_read += len(cells)
        if cells_read > MOST_CELLS:
            raise DataError(
                f"{path}, line {number}: more than {MOST_CELLS:,} cells (rows × columns), which take too much memory; "
                "split it into several manifests, or leave out columns"
            )
        row = dict(zip(header, (cell.strip() for cell in cells), strict=True))
        yield number, row | {"path": row["clip"]} if pathless else row


def _delimiter(text: str) -> str:
    """The character between the header's cells: a comma, or the semicolon or tab of a spreadsheet in another language."""
    header = text[: 1 << 16].lstrip().partition("\n")[0]
    marks = [mark for mark in (",", ";", "\t") if {"clip", "label"} <= {cell.strip(' "\r') for cell in header.split(mark)}]
    return marks[0] if marks else ","


def check(source: str, rows: Sequence[Mapping[str, str]]) -> Manifest:
    """A manifest of rows that have the required columns. Raises DataError for the first bad row."""
    return _all_sound(source, enumerate(rows, 1))


def select(source: str, rows: Sequence[Mapping[str, str]]) -> tuple[Manifest, list[str]]:
    """(a manifest of the sound rows, one line about each bad row). Raises DataError if there are no rows at all."""
    bad: list[str] = []
    return _sound(source, enumerate(rows, 1), bad.append), bad


def _all_sound(source: str, rows: Iterable[Numbered]) -> Manifest:
    count, first = 0, ""

    def note(why: str) -> None:
        nonlocal count, first
        count, first = count + 1, first or why

    sound = _sound(source, rows, note)
    if count:
        raise DataError(first + (f" (and {count - 1} more bad rows)" if count > 1 else ""))
    return sound


def _sound(source: str, rows: Iterable[Numbered], bad: Callable[[str], None]) -> Manifest:
    """A manifest of the sound rows; `bad` is called with one line about each of the others."""
    first: dict[str, int] = {}
    columns: dict[str, list[str]] = {}
    for number, row in rows:
        columns = columns or {column: [] for column in row}
        try:
            _check_row(f"{source}, line {number}, column", row, first)
        except DataError as error:
            bad(str(error))
            continue
        first[row["clip"]] = number
        for column, values in columns.items():
            values.append(row[column])
    if not columns:
        raise DataError(f"{source}: no clips in it")
    return Manifest(source, columns)


def _check_row(where: str, row: Mapping[str, str], first: Mapping[str, int]) -> None:
    """Raise DataError if a row is bad; `first` holds the line of each clip id so far."""
    for column, text in row.items():
        if len(text) > text_files.LONGEST_CELL // 4 and len(text.encode(errors="replace")) > text_files.LONGEST_CELL:
            raise DataError(f"{where} {column}: is longer than {text_files.LONGEST_CELL:,} bytes; shorten it")
        if text.isprintable():  # nearly always, and quick
            continue
        unseen = {character for character in text if unicodedata.category(character) in _UNSEEN}
        if unseen if column in _SHOWN else unseen - set("\t\r\n"):
            raise DataError(f"{where} {column}: {text[:60]!a} holds control characters; write it without them")
    if not row["clip"]:
        raise DataError(f"{where} clip: empty; every clip needs an id")
    if row["clip"] in first:
        raise DataError(f"{where} clip: '{row['clip']}' is in line {first[row['clip']]} already; every clip needs its own id")
    if len(row["clip"].encode()) > _LONGEST_ID:
        raise DataError(f"{where} clip: '{row['clip'][:60]}…' is longer than {_LONGEST_ID} bytes; give a shorter id")
    _check_path(where, "path", row["path"])
    if row.get("flow_path"):
        _check_path(where, "flow_path", row["flow_path"])
    if row.get("domain") and (why := unfit(row["domain"], _ADDED)):
        raise DataError(f"{where} domain: '{row['domain'][:60]}' {why}; rename it, since it becomes a folder's name")
    _check_positive(where, row)
    if not row["split"]:
        raise DataError(f"{where} split: empty; write train, val or test")
    _check_seconds(where, row)


def check_name(dataset: str) -> None:
    """Raise UsageError if a dataset's name cannot be a group of the feature file and part of a file's name."""
    if why := unfit(dataset, _ADDED):
        raise UsageError(f"--dataset '{printable(dataset[:60])}': {why}; give a plain name, since files are named after it")


def _check_header(path: Path, header: Sequence[str]) -> None:
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise DataError(f"{path}, line 1: column {', '.join(missing)} is missing; a manifest needs {', '.join(REQUIRED)}")
    for column, count in Counter(header).items():
        if count > 1 or unfit(column) or column in {"n_frames", "fps", "indices"}:
            why = "appears twice" if count > 1 else "cannot be used as a column's name; rename it"
            raise DataError(f"{path}, line 1, column {_quoted(column)}: {why}")


def _check_path(where: str, column: str, text: str) -> None:
    parts = text.split("/")
    if not text:
        raise DataError(f"{where} {column}: empty; give the clip's file relative to the root")
    if not parts[0] or ".." in parts or "\\" in text:
        raise DataError(
            f"{where} {column}: '{text[:200]}' leaves the root; write it relative to the root, with '/', without '..'"
        )
    if len(text.encode()) > 4000 or any(len(part.encode()) > 255 for part in parts):
        raise DataError(f"{where} {column}: '{text[:60]}…' is too long for a path; shorten it")


def _check_positive(where: str, row: Mapping[str, str]) -> None:
    for name, most in (("rate", 1000), ("flow_rate", 1000), ("flow_bound", 10_000)):
        text = row.get(name)
        try:
            fine = not text or 1e-3 <= float(text) <= most
        except ValueError:
            fine = False
        if not fine:
            raise DataError(f"{where} {name}: {_quoted(text or '')} is not a positive number up to {most}")
    missing = [name for name in ("flow_rate", "flow_bound") if row.get("flow_path") and not row.get(name)]
    if missing:
        raise DataError(
            f"{where} {', '.join(missing)}: empty, but the row has a flow_path; EPIC has 30 and 25 (2018), or 50 and 8 (2020)"
        )


def _check_seconds(where: str, row: Mapping[str, str]) -> None:
    values = {}
    for name in ("start", "stop"):
        if row.get(name):
            try:
                values[name] = float(row[name])
            except ValueError:
                raise DataError(f"{where} {name}: {_quoted(row[name])} is not a number of seconds, such as 1.5") from None
            if not 0 <= values[name] <= _LONGEST_S:
                raise DataError(f"{where} {name}: {row[name][:60]} is not a time in a video (seconds from its start)")
    if "stop" in values and values["stop"] <= values.get("start", 0.0):
        raise DataError(f"{where} stop: {row['stop']} is not after start {row.get('start') or 0}")


def _quoted(text: str) -> str:
    return f"'{text[:60]}'" if text.isprintable() else ascii(text[:60])
