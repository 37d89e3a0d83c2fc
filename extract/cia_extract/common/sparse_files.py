"""Files that are almost all hole: a few kilobytes on the disk whose zeros would fill the memory."""

import os
from pathlib import Path
from typing import Final

from cia_extract.common.errors import DataError

SPARE: Final = 64 << 20  # bytes that any file may have in holes
GROWTH: Final = 32  # times its bytes on the disk that a file may have: some programs leave out pages of zeros


def check(path: Path) -> None:
    """Raise DataError where a regular file has far more bytes than lie on the disk. Raises OSError."""
    size = path.stat().st_size
    if size > SPARE and (stored := _stored(path)) * GROWTH + SPARE < size:
        raise DataError(f"has {size:,} bytes and takes {stored:,} on the disk; it is damaged")


def _stored(path: Path) -> int:
    """Bytes of a file outside its holes.

    Not its st_blocks, which some file systems count only seconds after a write. One that knows no holes says that the whole file
    is data.
    """
    stored = place = 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while place < size:
            try:
                data = os.lseek(file.fileno(), place, os.SEEK_DATA)
            except OSError:  # only a hole follows
                break
            place = os.lseek(file.fileno(), data, os.SEEK_HOLE)
            stored += place - data
    return stored
