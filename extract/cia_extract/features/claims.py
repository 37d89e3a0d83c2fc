"""Which process works on which rows, where several fill one file (shards, Ray, or the same command started twice).

A row is claimed by locking its byte of `.<out>.<dataset>.rows` (POSIX record locks: local disks, NFS from version 4, Lustre). The
kernel drops a dead process' locks, so nothing is ever left claimed. A file of its own, because these locks go when the process
closes *any* descriptor of the locked file, and the feature file is opened again and again.
"""

import errno
import fcntl
from collections.abc import Callable
from pathlib import Path
from typing import Final

from cia_extract.common import locks, names
from cia_extract.common.errors import UsageError

RUNNING: Final = 1 << 40  # a byte that every process at work on the dataset holds together


class Claims:
    """Claims rows of one dataset of a file for this process. A context manager; leaving it gives all claims back.

    With `exclusive` it asks to be the only process: `entered` tells whether it is.
    """

    def __init__(self, out: Path, dataset: str, exclusive: bool = False, warn: Callable[[str], None] = lambda _: None) -> None:
        self.path = self.path_of(out, dataset)
        self.warn, self.works = warn, True
        try:
            self.file = locks.opened(self.path)
        except OSError as error:
            raise UsageError(f"{self.path}: {error.strerror}; choose another --out") from error
        self.entered = self._lock(fcntl.LOCK_EX if exclusive else fcntl.LOCK_SH, RUNNING)

    def __enter__(self) -> "Claims":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def take(self, row: int) -> bool:
        """Claim a row; False when another process has it. File systems without locks let every claim through, with a warning."""
        return self._lock(fcntl.LOCK_EX, row)

    def give_back(self, row: int) -> None:
        """Let other processes have the row."""
        if self.works:
            fcntl.lockf(self.file, fcntl.LOCK_UN, 1, row)

    def _lock(self, kind: int, byte: int) -> bool:
        try:
            fcntl.lockf(self.file, kind | fcntl.LOCK_NB, 1, byte)
        except OSError as error:
            if error.errno in {errno.EACCES, errno.EAGAIN}:
                return False
            if self.works:
                self.works = False
                self.warn(
                    f"{self.path.parent}: no file locks here ({error.strerror}); start one process at a time, or use --shard"
                )
        return True

    @staticmethod
    def path_of(out: Path, dataset: str) -> Path:
        """The lock file; whoever finds all rows done may delete it, since nobody will claim one any more."""
        names.check(dataset, f"{out}: dataset", added=len(f".{out.name}..rows".encode()))
        return out.with_name(f".{out.name}.{dataset}.rows")
