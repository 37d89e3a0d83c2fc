"""Texts of any length, attributes' too, lie in an HDF5 file's global heaps; the library reads some damaged heaps for ever.

It goes from object to object by their sizes. One sector of zeros in a heap, and it reads the same object again and again: no
signal ends that. Format: https://support.hdfgroup.org/documentation (HDF5 File Format Specification, III.E Global Heap).
"""

import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import BinaryIO, Final

from cia_extract.common.errors import DataError

HEAP: Final = b"GCOL"  # signature; then version 1, three bytes of zero, the size of the heap in eight bytes, its objects
HEADER: Final = 16  # bytes ahead of the objects, and of each object: index 2, references 2, zeros 4, size 8
SCANNED: Final = 64 << 20  # bytes at the beginning of each piece between arrays; what was overwritten there may be gigabytes
LARGEST: Final = 16 << 20  # bytes of a heap that are looked through; the library makes them of 4 KiB, or of one text
BLOCK: Final = 1 << 20
SPARE: Final = 1 << 23  # texts that an array may declare in any file, however small it is
SLICE: Final = 1 << 14  # texts that are read at a time
MEMORY: Final = 2 << 30  # bytes that reading all texts may take
# Arrays in other files are not read by anybody, nor are those that declare more texts than a file of this size has.
READ_TEXTS: Final = """
import h5py, sys
from contextlib import suppress
most, step, memory = map(int, sys.argv[2:])
with suppress(Exception):  # where there is no /proc there is no limit
    import resource
    with open("/proc/self/statm") as statm:
        taken = int(statm.read().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (taken + memory,) * 2)
def read(_, item):
    for name in item.attrs:
        with suppress(Exception):
            item.attrs[name]
    with suppress(Exception):
        if isinstance(item, h5py.Dataset) and not item.is_virtual and not item.external and item.dtype.hasobject:
            if item.ndim == 0:
                item[()]
            elif 0 < item.size <= most:
                rows = max(1, step * item.shape[0] // item.size)
                for begin in range(0, item.shape[0], rows):
                    item[begin : begin + rows]
with h5py.File(sys.argv[1], locking=False) as file:
    read("/", file)
    file.visititems(read)
"""
READ_SECONDS: Final = 20  # of a process that reads all texts, which takes less than one

Piece = tuple[int, int]
"""(begin, end) in a file, in bytes."""


def check(path: Path, arrays: Sequence[Piece]) -> None:
    """Raise DataError for a heap that the library would read for ever. `arrays` are where the values of arrays lie."""
    size = path.stat().st_size
    with path.open("rb") as raw:
        pieces = _between(sorted(arrays), size)
        places = (place for begin, end in pieces for place in _heaps(raw, begin, min(end, begin + SCANNED)))
        endless = next((place for place in places if _is_endless(raw, place)), None)
    # A heap that was given up may be overwritten in part and still have its signature: nobody reads that one.
    if endless is not None and not _texts_can_be_read(path):
        raise DataError(f"{path}: its texts are damaged (the global heap at byte {endless}); get or make the file again")


def most_texts(size: int) -> int:
    """How many texts are read of an array in a file of `size` bytes: of one that declares more, most were never written."""
    return 4 * size + SPARE


def _texts_can_be_read(path: Path) -> bool:
    """Whether a process of its own reads all texts of the file and is not ended by a signal, or by the clock."""
    limits = map(str, (most_texts(path.stat().st_size), SLICE, MEMORY))
    try:
        done = subprocess.run([sys.executable, "-c", READ_TEXTS, str(path), *limits], capture_output=True, timeout=READ_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode >= 0


def _between(arrays: list[Piece], size: int) -> Iterator[Piece]:
    """What lies between arrays, which are sorted: the library's own data."""
    place = 0
    for begin, end in [*arrays, (size, size)]:
        if begin > place:
            yield place, min(begin, size)
        place = max(place, end)


def _heaps(raw: BinaryIO, begin: int, end: int) -> Iterator[int]:
    """Where heaps begin in a piece of the file."""
    for start in range(begin, end, BLOCK):
        raw.seek(start)
        data = raw.read(min(BLOCK, end - start) + len(HEAP) - 1)
        at = data.find(HEAP)
        while at >= 0:
            yield start + at
            at = data.find(HEAP, at + 1)


def _is_endless(raw: BinaryIO, place: int) -> bool:
    """Whether the library, which goes from object to object of a heap, comes back to one."""
    raw.seek(place)
    head = raw.read(HEADER)
    data = head + raw.read(max(min(int.from_bytes(head[8:], "little"), LARGEST) - HEADER, 0))
    at = HEADER
    while at + HEADER <= len(data):
        index, length = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 8 : at + 16], "little")
        # A free piece, of index 0, has the size of all of it; a text that of itself, and takes a multiple of eight.
        step = (HEADER + (length + 7 & ~7) if index else length) % (1 << 64)
        if not 0 < step < 1 << 63:
            return True
        at += step
    return False
