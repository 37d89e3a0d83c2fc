"""Changing an HDF5 file's metadata so that a kill at any moment leaves either the old file or the new one.

HDF5 has no journal of its own: it rewrites several blocks in place. Here h5py writes into an overlay in memory; the bytes it
wrote go to `<file>.journal` first, are synced, and only then copied into the file. A complete journal that is found later is
replayed, an incomplete one is dropped. Only the very bytes that HDF5 wrote pass through here, so that other processes may
fill rows of other datasets at the same time.
"""

import fcntl
import io
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

import google_crc32c
import h5py

from cia_extract.common import locks

PAGE: Final = 1 << 16  # bytes
_HEADER: Final = struct.Struct("<8sQQI")  # magic, file size, ranges, CRC32C of what follows
_RANGE: Final = struct.Struct("<QQ")  # offset, length
_MAGIC: Final = b"CIAJRNL1"


def journal_path(path: Path) -> Path:
    """The journal beside a feature file, while its layout changes."""
    return path.with_name(path.name + ".journal")


@contextmanager
def transaction(path: Path) -> Iterator[h5py.File]:
    """Open `path` (made when missing) for changes to groups and attributes that all happen or none does.

    One process at a time; others wait, but on a file system without locks. Raises OSError as the file system does.
    """
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT, 0o644)
    try:
        locks.wait_for(descriptor, fcntl.LOCK_EX)
        _replay(path, descriptor)
        overlay = _Overlay(descriptor)
        with h5py.File(
            overlay, "r+" if overlay.size else "w", libver="v110", alignment_threshold=PAGE, alignment_interval=4096
        ) as file:
            yield file
        _write_journal(path, overlay)
        _replay(path, descriptor)
    finally:
        os.close(descriptor)


def recover(path: Path) -> None:
    """Finish what a killed process had begun: replay a complete journal, drop an incomplete one."""
    if not path.exists() or not (journal_path(path).exists() or _partial(path).exists()):
        return
    descriptor = os.open(path, os.O_RDWR)
    try:
        locks.wait_for(descriptor, fcntl.LOCK_EX)
        _replay(path, descriptor)
    finally:
        os.close(descriptor)


def wait_for_writer(path: Path) -> None:
    """Return when no process is in the middle of a transaction. A journal that is still there then was left by a dead one."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        locks.wait_for(descriptor, fcntl.LOCK_SH)
    finally:
        os.close(descriptor)


class _Overlay(io.RawIOBase):
    """A file as h5py's `fileobj` driver wants it: reads fall through to the real file, writes stay in memory by page."""

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self.pages: dict[int, bytearray] = {}
        self.written: list[tuple[int, int]] = []  # [start, stop) of every write
        self.position = 0

    def seek(self, offset: int, whence: int = os.SEEK_SET) -> int:
        base = {os.SEEK_SET: 0, os.SEEK_CUR: self.position, os.SEEK_END: self.size}[whence]
        self.position = base + offset
        return self.position

    def tell(self) -> int:
        return self.position

    def truncate(self, size: int | None = None) -> int:
        self.size = self.position if size is None else size
        return self.size

    def readinto(self, buffer: memoryview) -> int:  # type: ignore[override]
        for start, stop, page, offset in self._pieces(len(buffer)):
            held = self.pages.get(page) or self._on_disk(page)
            buffer[start:stop] = held[offset : offset + stop - start]
        self.position += len(buffer)
        return len(buffer)

    def write(self, data: memoryview) -> int:  # type: ignore[override]
        data = memoryview(data).cast("B")
        for start, stop, page, offset in self._pieces(len(data)):
            if page not in self.pages:
                self.pages[page] = bytearray(self._on_disk(page))
            self.pages[page][offset : offset + stop - start] = data[start:stop]
        self.written.append((self.position, self.position + len(data)))
        self.position += len(data)
        self.size = max(self.size, self.position)
        return len(data)

    def changes(self) -> Iterator[tuple[int, bytes]]:
        """(offset, content) of what was written, each byte once."""
        end = -1
        for start, stop in sorted(self.written):
            start = max(start, end)
            stop = min(stop, self.size)
            if stop > start:
                self.position = start
                yield start, self.read(stop - start)
                end = stop

    def _pieces(self, length: int) -> Iterator[tuple[int, int, int, int]]:
        """Split [position, position + length) at page borders: (start, stop) in the buffer, page, offset in it."""
        start = 0
        while start < length:
            page, offset = divmod(self.position + start, PAGE)
            stop = min(length, start + PAGE - offset)
            yield start, stop, page, offset
            start = stop

    def _on_disk(self, page: int) -> bytes:
        return os.pread(self.descriptor, PAGE, page * PAGE).ljust(PAGE, b"\0")


def _partial(path: Path) -> Path:
    return journal_path(path).with_suffix(".journal-part")


def _write_journal(path: Path, overlay: _Overlay) -> None:
    ranges = [_RANGE.pack(offset, len(content)) + content for offset, content in overlay.changes()]
    body = b"".join(ranges)
    header = _HEADER.pack(_MAGIC, overlay.size, len(ranges), google_crc32c.value(body))
    with _partial(path).open("wb") as file:
        file.write(header + body)
        file.flush()
        os.fsync(file.fileno())
    os.replace(_partial(path), journal_path(path))
    _sync_folder(path)


def _replay(path: Path, descriptor: int) -> None:
    """Copy a complete journal into the file and remove it. Raises OSError for one that is not what `_write_journal` writes."""
    _partial(path).unlink(missing_ok=True)
    if not journal_path(path).exists():
        return
    size, ranges = _read_journal(journal_path(path))
    os.ftruncate(descriptor, size)
    for offset, content in ranges:
        os.pwrite(descriptor, content, offset)
    os.fsync(descriptor)
    journal_path(path).unlink()
    _sync_folder(path)


def _read_journal(path: Path) -> tuple[int, list[tuple[int, memoryview]]]:
    """(the file's new size, [(offset, content)]), all of it checked before anything is changed."""
    damaged = OSError(f"{path}: damaged; the feature file beside it is as it was before, delete the journal")
    if not path.is_file():  # a pipe would be waited for
        raise damaged
    with path.open("rb") as file:
        header = file.read(_HEADER.size)
        if len(header) < _HEADER.size:
            raise damaged
        magic, size, count, crc = _HEADER.unpack(header)
        length = path.stat().st_size
        # Each byte of the file is written once at most.
        if magic != _MAGIC or count * _RANGE.size > length or length > _HEADER.size + count * _RANGE.size + size:
            raise damaged
        try:
            data = header + file.read()
        except MemoryError:
            raise damaged from None
    body = memoryview(data)[_HEADER.size :]
    if google_crc32c.value(bytes(body)) != crc:
        raise damaged
    ranges, position = [], 0
    while position + _RANGE.size <= len(body):
        offset, length = _RANGE.unpack_from(body, position)
        position += _RANGE.size
        if offset + length > size or position + length > len(body):
            raise damaged
        ranges.append((offset, body[position : position + length]))
        position += length
    if position != len(body) or len(ranges) != count:
        raise damaged
    return size, ranges


def _sync_folder(path: Path) -> None:
    folder = os.open(path.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
