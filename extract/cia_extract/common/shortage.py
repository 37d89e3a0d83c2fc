"""Running out of memory or of disk is a user's mistake with one line, whoever notices it. Importing this imports no torch."""

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from cia_extract.common.errors import UsageError


def is_shortage(error: BaseException) -> bool:
    """Whether an error says "out of memory": Python's and numpy's, or torch's, which is a RuntimeError on a GPU and on a CPU."""
    text = str(error)
    return isinstance(error, MemoryError) or any(words in text for words in ("out of memory", "allocate memory"))


@contextmanager
def shortage_said(what: str, advice: str) -> Iterator[None]:
    """Turn "out of memory" inside, on the CPU or a GPU, into a UsageError: `what` has not enough memory; do as `advice` says."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        raise UsageError(f"{what}: not enough memory; {advice}") from error


def is_full_disk(error: OSError) -> bool:
    """Whether the disk, or this user's part of it, is full."""
    return error.errno in {errno.ENOSPC, errno.EDQUOT}


def full_disk(error: Exception) -> str:
    """One line about an error that a full disk caused, "" for any other: what could not be written, and what to do."""
    if isinstance(error, FileNotFoundError) and "usable temporary directory" in str(error):  # Python's, before it writes a file
        return "no temporary folder can be written: the disk is full, or this user may not; make room, or set TMPDIR to a folder"
    if isinstance(error, OSError) and is_full_disk(error):
        return f"{error.filename or 'a file'}: {error.strerror}; make room, then run the same command again"
    return ""
