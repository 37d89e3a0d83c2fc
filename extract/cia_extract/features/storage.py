"""Damage that the HDF5 library does not survive: it ends the process, or never ends itself. Looked for before it can meet it.

The library trusts the sizes of packed chunks, and the sizes inside its global heaps, where texts of any length lie (attributes,
too). One sector of zeros in such a heap, and it reads the same object for ever. Format: https://support.hdfgroup.org/documentation
(HDF5 File Format Specification, III.E Global Heap).
"""

import math
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO, Final

import h5py

from cia_extract.common.errors import DataError

HEAP: Final = b"GCOL"  # signature; then version 1, three bytes of zero, the size of the heap in eight bytes, its objects
HEADER: Final = 16  # bytes ahead of the objects, and of each object: index 2, references 2, zeros 4, size 8
DEFLATE: Final = 1  # numbers of filters
SHUFFLE: Final = 2
FLETCHER32: Final = 3  # puts a checksum of four bytes behind a chunk
SCANNED: Final = 64 << 20  # bytes at the beginning of each piece between arrays; what was overwritten there may be gigabytes
LARGEST_HEAP: Final = 16 << 20  # bytes of one that is looked through; the library makes them of 4 KiB, or of one text
LARGEST_CHUNK: Final = 1 << 30  # bytes; 25 frames of maps take 5 MB
BLOCK: Final = 1 << 20
READ_TEXTS: Final = """
import h5py, sys
def read(_, item):
    dict(item.attrs)
    if isinstance(item, h5py.Dataset) and item.dtype.kind == "O":
        item[()]
with h5py.File(sys.argv[1], locking=False) as file:
    read("/", file)
    file.visititems(read)
"""
READ_SECONDS: Final = 10  # of a process that reads all texts, which takes less than one


def check(path: Path, file: h5py.File) -> None:
    """Raise DataError for chunks or heaps in the file that the library must not read. Arrays' values are not read."""
    size = path.stat().st_size
    arrays: list[tuple[int, int]] = []  # where each begins and ends, [n]

    def look(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            arrays.extend(_pieces(f"{path}: /{name}", item, size))

    file.visititems(look)
    with path.open("rb") as raw:
        for begin, end in _between(sorted(arrays), size):
            for place in _heaps(raw, begin, min(end, begin + SCANNED)):
                # A heap that was given up may be overwritten in part and still have its signature: nobody reads that one.
                if _is_endless(raw, place) and not _texts_can_be_read(path):
                    raise DataError(f"{path}: the texts at byte {place} are damaged; get or make the file again")


def _pieces(place: str, data: h5py.Dataset, size: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of the bytes that an array's values take in the file. Raises DataError for a chunk that must not be read."""
    layout = data.id.get_create_plist().get_layout()
    if layout == h5py.h5d.CONTIGUOUS and (offset := data.id.get_offset()) is not None:
        yield offset, offset + data.id.get_storage_size()
    if layout != h5py.h5d.CHUNKED or data.shape is None:
        return
    properties = data.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    whole = math.prod(data.chunks) * data.id.get_type().get_size()
    if whole > LARGEST_CHUNK:
        raise DataError(f"{place} has chunks of {whole / 1e9:.1f} GB, read whole for each clip; store smaller ones (h5repack -l)")
    chunks: list[h5py.h5d.StoreInfo] = []
    data.id.chunk_iter(chunks.append)
    for chunk in chunks:
        packed = any(not chunk.filter_mask >> i & 1 for i in range(len(filters)))
        least = (4 if FLETCHER32 in filters else 1) if packed else whole
        if chunk.size < least or chunk.byte_offset + chunk.size > size or (not packed and chunk.size > whole):
            raise DataError(
                f"{place} is damaged: its chunk {chunk.chunk_offset} has {chunk.size} bytes; get or make the file again"
            )
        yield chunk.byte_offset, chunk.byte_offset + chunk.size


def check_row(place: str, data: h5py.Dataset, row: int) -> None:
    """Raise DataError where a chunk of a row, packed by zlib, holds less than a chunk: the library would read on beyond it.

    Of other packers nothing is known here. `place` is file and array, for the message.
    """
    properties = data.id.get_create_plist()
    filters = [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]
    if DEFLATE not in filters or not set(filters) <= {DEFLATE, SHUFFLE, FLETCHER32}:
        return
    whole = math.prod(data.chunks) * data.id.get_type().get_size()
    for part in data.iter_chunks((slice(row, row + 1), *(slice(0, length) for length in data.shape[1:]))):
        corner = tuple(piece.start // length * length for piece, length in zip(part, data.chunks, strict=True))
        stored = data.id.get_chunk_info_by_coord(corner)
        if stored.byte_offset is None:  # never written: its values are the fill value
            continue
        mask, packed = data.id.read_direct_chunk(corner)
        if _unpacked_bytes(packed, [code for i, code in enumerate(filters) if not mask >> i & 1], whole) != whole:
            raise DataError(f"{place} is damaged: its chunk {corner} is not of {whole} bytes; get or make the file again")


def _unpacked_bytes(packed: bytes, filters: list[int], most: int) -> int:
    """How many bytes a chunk has without its filters, which were applied in this order; more than `most` are not unpacked."""
    length = len(packed)
    for code in reversed(filters):
        if code == FLETCHER32:
            length -= 4
        elif code == DEFLATE:
            try:
                length = len(zlib.decompressobj().decompress(packed[:length], most + 5))
            except zlib.error:  # which the library says, too
                return 0
            packed = b""
    return length


def _texts_can_be_read(path: Path) -> bool:
    """Whether a process of its own reads all texts of the file and ends."""
    try:
        done = subprocess.run([sys.executable, "-c", READ_TEXTS, str(path)], capture_output=True, timeout=READ_SECONDS)
    except subprocess.TimeoutExpired:
        return False
    return done.returncode == 0


def _between(arrays: list[tuple[int, int]], size: int) -> Iterator[tuple[int, int]]:
    """(begin, end) of what lies between arrays, which are sorted: the library's own data."""
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
    data = head + raw.read(max(min(int.from_bytes(head[8:], "little"), LARGEST_HEAP) - HEADER, 0))
    at = HEADER
    while at + HEADER <= len(data):
        index, length = int.from_bytes(data[at : at + 2], "little"), int.from_bytes(data[at + 8 : at + 16], "little")
        # A free piece, of index 0, has the size of all of it; a text that of itself, and takes a multiple of eight.
        step = (HEADER + (length + 7 & ~7) if index else length) % (1 << 64)
        if not 0 < step < 1 << 63:
            return True
        at += step
    return False
