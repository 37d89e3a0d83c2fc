"""A lock, so that only one process trains a run."""

import fcntl
import shutil
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from cia_extract.common import locks, writes
from cia_extract.common.errors import CiaError, DataError, InWorkError, UsageError

from cia_adapt.runs.files import read_json
from cia_adapt.runs.folder import ROOM, unfinished_folder


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """Inside this context no other process trains the run. Raises InWorkError where another one is training it.

    Creates the folder of the unfinished run, and removes it at the end unless a state is in it. First finishes what a process
    had begun that was killed while it put a finished run in place.
    """
    working = unfinished_folder(folder)
    with _lock(folder, working / "lock"):
        try:
            with writes.translated(str(folder), ROOM):
                _put_right(folder, working)
            yield
        finally:
            if not (working / "state.safetensors").exists():
                shutil.rmtree(working, ignore_errors=True)


def put_right(folder: Path) -> None:
    """Remove what lies beside a finished run since its process was killed. Nothing happens where another process works on it."""
    if unfinished_folder(folder).exists():
        with suppress(CiaError), claimed(folder):
            pass


def _put_right(folder: Path, working: Path) -> None:
    """Put a complete run in its place if the process died between taking the older one away and that; remove what is left.

    `writing.write` says which names it uses, and in which order.
    """
    left = [*sorted(folder.parent.glob(f".{folder.name}.part*")), folder.with_name(f".{folder.name}.old")]
    for place in left:
        if place.is_symlink() or place.is_file():  # put there by somebody else; a link may lead to anybody's run
            place.unlink()
    complete = [place for place in left if (place / "done").exists()]
    if complete and not folder.exists():
        complete[0].rename(folder)
    for place in left:
        shutil.rmtree(place, ignore_errors=True)
    if _same_settings(working / "config.json", folder / "config.json"):
        (working / "state.safetensors").unlink(missing_ok=True)


def _same_settings(unfinished: Path, finished: Path) -> bool:
    """Whether a state is of the finished run beside it, and not of one with more epochs."""
    try:
        begun, ended = read_json(unfinished), read_json(finished)
        return begun == {name: ended[name] for name in begun}
    except (DataError, LookupError):  # whoever reads the state says what is wrong
        return False


def _lock(folder: Path, path: Path) -> IO[bytes]:
    """The open, locked file at `path`. Tries again where another process has removed the file meanwhile, with its run."""
    while True:
        with writes.translated(str(folder), ROOM):
            for place in (folder, path.parent):  # through a link a state would be written, and a run removed, wherever it leads
                if place.is_symlink() or (place.exists() and not place.is_dir()):
                    what = "a link" if place.is_symlink() else "no folder"
                    raise UsageError(f"{place}: is {what}; remove it, or give another --runs folder")
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = locks.opened(path)
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise InWorkError(
                    f"{folder}: another process is training it; wait for it, or give another --runs folder"
                ) from None
            except OSError as error:
                if error.errno not in locks.NONE_HERE:
                    raise
                raise UsageError(
                    f"{folder}: its file system has no file locks ({error.strerror}); mount it with flock, or choose another "
                    "--runs folder"
                ) from None
        if locks.lies_at(path, lock):
            return lock
        lock.close()
