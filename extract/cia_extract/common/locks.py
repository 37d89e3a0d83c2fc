"""The files that processes lock. The kernel drops a dead process' locks, so nothing is ever left locked."""

import errno
import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Final

from cia_extract.common.errors import InWorkError

NONE_HERE: Final = frozenset([errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])  # what a file system without locks answers


def opened(path: Path) -> IO[bytes]:
    """The open lock file at `path`, made where there is none. Raises OSError.

    What lies there keeps its content, and a link is refused: a folder of runs or frames may be somebody else's, and its "lock"
    may lead to any file of ours.
    """
    return open(path, "rb", buffering=0, opener=lambda name, _: os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o666))


def wait_for(descriptor: int, kind: int) -> None:
    """`flock`, waited for. A file system without locks (Lustre mounted without flock) lets every process through.

    Whoever fills a feature file there is warned by its claims. Raises OSError for all else that goes wrong.
    """
    try:
        fcntl.flock(descriptor, kind)
    except OSError as error:
        if error.errno not in NONE_HERE:
            raise


@contextmanager
def alone(path: Path, what: str) -> Iterator[None]:
    """No other process is in here with the same lock file, which is made, and removed at the end.

    Raises InWorkError, "`what`; run the same command again when it has ended", where another is. OSError where there can be no
    such file. A file system without locks lets every process through.
    """
    while True:
        with opened(path) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InWorkError(f"{what}; run the same command again when it has ended") from None
            except OSError as error:
                if error.errno not in NONE_HERE:
                    raise
            if not lies_at(path, file):  # another process has ended meanwhile, and removed it
                continue
            try:
                yield
            finally:
                path.unlink(missing_ok=True)
            return


def lies_at(path: Path, file: IO[bytes]) -> bool:
    """Whether the open file still lies at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(file.fileno()))
    except FileNotFoundError:
        return False
