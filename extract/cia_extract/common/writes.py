"""Writing files whole or not at all, with one kind of message for every write error."""

import glob
import os
import re
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from cia_extract.common.errors import CiaError, UsageError

OLD_S = 600  # a part file that was not written to for so long belongs to a process that was killed
NUMBER = re.compile(r"(?:errno = |os error |Os { code: )(\d+)")  # the system's, in the texts of HDF5 and safetensors, old and new


@contextmanager
def translated(where: str, advice: str = "make room or choose another folder") -> Iterator[None]:
    """Turn a write error into a one-line UsageError: "where: why; advice".

    Raises:
        UsageError: for an OSError (full disk, read-only folder, a limit on file sizes) and for what libraries raise in its place:
            safetensors' own error, h5py's RuntimeError.
    """
    try:
        yield
    except CiaError:
        raise
    except Exception as error:
        if not is_write_error(error):
            raise
        raise UsageError(f"{where}: {_reason(error)}; {advice}") from error


def _reason(error: Exception) -> str:
    """The system's own words for what went wrong; the library's where it gives no number for them.

    >>> _reason(OSError("Unable to synchronously create file (unable to open file: name = 'x', errno = 2, flags = 15)"))
    'No such file or directory'
    >>> _reason(RuntimeError('Error while serializing: IoError(Os { code: 28, kind: StorageFull, message: "No space left" })'))
    'No space left on device'
    """
    number = NUMBER.search(str(error))
    if number is not None:
        return os.strerror(int(number[1]))
    return getattr(error, "strerror", None) or str(error)


def is_write_error(error: BaseException) -> bool:
    """Whether an error, a library's own included, means that the disk refused a write."""
    if isinstance(error, OSError):
        return True
    if type(error).__module__.partition(".")[0] == "safetensors" or type(error).__name__ == "SafetensorError":
        return NUMBER.search(str(error)) is not None or "I/O error" in str(error)
    return isinstance(error, RuntimeError) and "errno = " in str(error)  # HDF5's text


@contextmanager
def whole(path: Path) -> Iterator[Path]:
    """Yields a path beside `path` to write to; it replaces `path` at the end, and is deleted if anything is raised.

    It has the permissions of any new file: safetensors alone would leave it to its owner.
    """
    part = path.with_name(f".{path.name}.{secrets.token_hex(4)}.part")  # two containers have the same process IDs
    try:
        part.touch(exist_ok=False)
        mode = part.stat().st_mode & 0o777
        yield part
        part.chmod(mode)
        with part.open("rb") as file:
            os.fsync(file.fileno())
        part.replace(path)
    except BaseException:
        with suppress(OSError):
            part.unlink(missing_ok=True)
        raise


def remove_left(path: Path) -> None:
    """Remove what killed processes left of writing `path`; for whoever knows that nobody writes it now."""
    for part in path.parent.glob(f".{glob.escape(path.name)}.*.part"):
        if re.fullmatch(r"[0-9a-f]+", part.name.removeprefix(f".{path.name}.").removesuffix(".part")):
            part.unlink(missing_ok=True)


def remove_old(folder: Path, parts: str) -> None:
    """Remove part files, by a pattern, that killed processes left: others may be writing there, but nobody for `OLD_S`."""
    with suppress(OSError):  # the folder cannot be listed
        for part in folder.glob(parts):
            with suppress(OSError):  # another process removes it too
                if time.time() - part.stat().st_mtime > OLD_S:
                    part.unlink()


def text(path: Path, content: str) -> None:
    r"""Write text in UTF-8, whole or not at all. Half a surrogate pair is written as its escape `\udc80`, which JSON reads."""
    with whole(path) as part:
        part.write_text(content, encoding="utf-8", errors="backslashreplace", newline="\n")
