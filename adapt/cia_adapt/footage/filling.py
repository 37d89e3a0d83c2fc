"""Filling the frame cache: every clip is decoded once, and its flow computed once, by worker processes."""

import fcntl
import shutil
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing
from pathlib import Path
from typing import IO

import numpy as np
from cia_extract.clips import ClipJob, prepared_clips
from cia_extract.common import locks, writes
from cia_extract.common.console import Progress, Say
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.outcomes import ClipError
from cia_extract.datasets import Manifest

from cia_adapt.footage.pictures import Pictures
from cia_adapt.footage.store import DONE, Store, refuse_link

ROOM = "make room or choose another --frame-cache"
Rows = Mapping[int, tuple[str, ...]]
"""{row: modalities that it lacks}."""


def fill(folder: Path, pictures: Pictures, rows: Manifest, root: Path, workers: int, say: Say) -> None:
    """Decode what `folder` lacks of these clips. One that cannot be read is said, and tried again the next time.

    Processes that want the same dataset wait for the one that fills it, and find it full. Raises MismatchError for a cache of
    another recipe or of other clips, UsageError where the disk refuses or a part of the cache is a link, DataError where no clip
    can be read.
    """
    refuse_link(folder)
    with writes.translated(str(folder), ROOM):
        folder.mkdir(parents=True, exist_ok=True)
        with locks.opened(folder / "lock") as lock:
            _wait_for(lock, folder)
            stores = {modality: Store(folder, modality) for modality in pictures.modalities}
            for store in stores.values():
                store.begin_or_continue(pictures, rows)
            todo = _lacking(stores)
            if todo:
                _check_room(folder, pictures, todo)
                failed = _decode(stores, pictures, rows, root, todo, workers)
                for clip, why in failed.items():
                    say(f"failed: {clip}: {why}")
                if len(failed) == len(rows):
                    raise DataError(f"{rows.source}: no clip of it can be read, see above; is {root} the clips' folder (--root)?")


def _wait_for(lock: IO[bytes], folder: Path) -> None:
    """Wait until no other process fills this folder. Raises UsageError where its file system has no locks; OSError."""
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in locks.NONE_HERE:
            raise
        raise UsageError(
            f"{folder}: its file system has no file locks ({error.strerror}); mount it with flock, or choose another "
            "--frame-cache"
        ) from None


def check_filled(folder: Path, pictures: Pictures, rows: Manifest) -> None:
    """Check that frames of these clips lie in `folder`; some may be missing. Nothing is written.

    Raises UsageError where there are none, MismatchError, DataError as `fill`.
    """
    for modality in pictures.modalities:
        store = Store(folder, modality)
        if not store.about.is_file():
            raise UsageError(f"{folder}: has no {modality} frames; name the clips with --clips, and they are decoded")
        store.check(pictures, rows)


def _lacking(stores: Mapping[str, Store]) -> Rows:
    states = {modality: store.states() for modality, store in stores.items()}
    lacks = np.stack([state < DONE for state in states.values()], axis=1)  # [N, M]
    return {
        int(row): tuple(m for m, lack in zip(states, lacks[row], strict=True) if lack) for row in np.flatnonzero(lacks.any(1))
    }


def _check_room(folder: Path, pictures: Pictures, todo: Rows) -> None:
    needed = sum(int(np.prod(pictures.shape(modality))) for lacking in todo.values() for modality in lacking)
    free = shutil.disk_usage(folder).free
    if needed > free:
        raise UsageError(f"{folder}: the frames need {needed / 1e9:.1f} GB more, and {free / 1e9:.1f} GB are free; {ROOM}")


def _decode(
    stores: Mapping[str, Store], pictures: Pictures, rows: Manifest, root: Path, todo: Rows, workers: int
) -> dict[str, str]:
    """{clip: why it could not be read}."""
    failed: dict[str, str] = {}
    folder = next(iter(stores.values())).folder
    with ExitStack() as open_files:
        writers = {modality: open_files.enter_context(store.writer()) for modality, store in stores.items()}
        progress = open_files.enter_context(Progress(len(rows), f"frames of {folder.name}", done=len(rows) - len(todo)))
        prepared = open_files.enter_context(closing(prepared_clips(_jobs(pictures, rows, root, todo), workers)))
        for row, clip in prepared:
            try:
                if isinstance(clip, ClipError):
                    raise clip
                for modality in todo[row]:
                    writers[modality].write(row, pictures.of_clip(clip, modality))
            except ClipError as error:
                failed[rows.columns["clip"][row]] = str(error)
            progress.step()
    return failed


def _jobs(pictures: Pictures, rows: Manifest, root: Path, todo: Rows) -> Iterator[tuple[int, ClipJob]]:
    for row, lacking in todo.items():
        yield row, pictures.job(rows, row, root, lacking)
