"""Text files of users and of official downloads: decoded as they declare, read as tables, refused in one line."""

import codecs
import csv
import re
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from cia_extract.common.errors import DataError

MOST_BYTES: Final = 1 << 30
MOST_COLUMNS: Final = 1000
LONGEST_LINE: Final = 1 << 24
LONGEST_CELL: Final = 1 << 16  # bytes, of a cell that goes into a feature file
# The longest first: UTF-32's mark begins with UTF-16's.
_MARKS: Final = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)

Row = tuple[int, list[str]]


def read_text(path: Path, kind: str, advice: str, utf8_only: bool = False) -> str:
    """The text of a file: UTF-8, or the Unicode encoding that its byte order mark declares.

    Args:
        path: the file.
        kind: what the file should be, for the message ("UTF-8 CSV").
        advice: what to do if it is not.
        utf8_only: refuse other encodings, for files that are published in UTF-8.

    Returns:
        The text, without the mark. Line ends stay as they are.

    Raises:
        DataError: the file cannot be opened, is a folder, pipe or device, larger than 1 GiB, compressed, binary, or in another
            encoding.
    """
    try:
        if path.is_dir():
            raise DataError(f"{path}: is a folder, not a file; {advice}")
        state = path.stat()
        if not stat.S_ISREG(state.st_mode):  # what never ends would be waited for
            raise DataError(f"{path}: is a pipe or a device, not a file; write its text to a file, and name that file")
        size = state.st_size
        with path.open("rb") as file:
            data = b"" if size > MOST_BYTES else file.read(MOST_BYTES + 1)
        if max(size, len(data)) > MOST_BYTES:  # a file below /proc says that it has 0 bytes
            raise DataError(f"{path}: is larger than 1 GiB, so it is no {kind}; {advice}")
    except (OSError, ValueError) as error:
        why = getattr(error, "strerror", None) or error
        raise DataError(f"{_shown(path)}: cannot be read ({why}); {advice}") from error
    if data.startswith((b"\x1f\x8b", b"PK\x03\x04")):
        raise DataError(f"{path}: cannot be read as a {kind} (it is compressed or a spreadsheet); {advice}")
    encoding = next((name for mark, name in _MARKS if data.startswith(mark)), "utf-8")
    if utf8_only and encoding not in {"utf-8", "utf-8-sig"}:
        raise DataError(f"{path}: cannot be read as a {kind} (it is in {encoding.upper()}); {advice}")
    try:
        text = data.decode(encoding)
    except UnicodeDecodeError as error:
        line = data[: error.start].count(b"\n") + 1
        raise DataError(f"{path}: cannot be read as a {kind} (line {line}: {_reason(error)}); {advice}") from error
    if "\0" in text:
        line = text[: text.index("\0")].count("\n") + 1
        raise DataError(f"{path}, line {line}: cannot be read as a {kind} (it contains NUL characters); {advice}")
    return text


def table(path: Path, text: str, kind: str, advice: str, delimiter: str = ",") -> Iterator[Row]:
    """(line number, cells) of every row of a CSV that is not empty. Raises DataError naming the line."""
    reader = csv.reader(_lines(path, text, kind, advice), strict=True, delimiter=delimiter)
    while True:
        try:
            cells = next(reader)
        except StopIteration:
            return
        except csv.Error as error:
            line = max(reader.line_num, 1)
            raise DataError(
                f"{path}, line {line}: cannot be read as a {kind} ({error}; are all quotes closed?); {advice}"
            ) from error
        if len(cells) > MOST_COLUMNS:
            raise DataError(
                f"{path}, line {reader.line_num}: {len(cells)} columns, but at most {MOST_COLUMNS} are read; {advice}"
            )
        if any(cells):
            yield reader.line_num, cells


def _lines(path: Path, text: str, kind: str, advice: str) -> Iterator[str]:
    """The lines of a text with their ends; io.StringIO would take four bytes a character."""
    for number, line in enumerate(re.finditer(r"[^\r\n]*(?:\r\n?|\n)|[^\r\n]+", text), 1):
        if line.end() - line.start() > LONGEST_LINE:  # its cells would be in memory before they are counted
            raise DataError(f"{path}, line {number}: is longer than {LONGEST_LINE:,} characters, so it is no {kind}; {advice}")
        yield line[0]


def _reason(error: UnicodeDecodeError) -> str:
    byte = f"byte {error.object[error.start]:#04x}" if error.start < len(error.object) else "it ends"
    return f"{byte} is not {error.encoding.upper()}, and it declares no other encoding"


def _shown(path: Path) -> str:
    return str(path) if str(path).isprintable() else ascii(str(path))
