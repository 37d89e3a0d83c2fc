"""A lock, so that only one process trains a run."""

import fcntl
import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from cia_extract.common import writes
from cia_extract.common.errors import MismatchError

from cia_adapt.runs.folder import ROOM, unfinished_folder


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Inside this context no other process trains the run. Raises MismatchError where another one is training it.

    Creates the folder of the unfinished run, and removes it at the end unless a state is in it.
    """
    working = unfinished_folder(folder)
    with _lock(folder, working / "lock"):
        try:
            yield
        finally:
            if not (working / "state.safetensors").exists():
                shutil.rmtree(working, ignore_errors=True)


def _lock(folder: Path, path: Path) -> TextIO:
    """The open, locked file at `path`. Tries again where another process has removed the file meanwhile, with its run."""
    while True:
        with writes.translated(str(folder), ROOM):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise MismatchError(
                    f"{folder}: another process is training it; wait for it, or give another --runs folder"
                ) from None
        if _same_file(path, lock):
            return lock
        lock.close()


def _same_file(path: Path, opened: TextIO) -> bool:
    """Whether the open file still lies at `path`."""
    try:
        return os.path.samestat(path.stat(), os.fstat(opened.fileno()))
    except FileNotFoundError:
        return False
