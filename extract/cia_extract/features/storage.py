"""Damage in packed arrays and in texts that the HDF5 library does not survive: found before the library reads it.

The library trusts the sizes of packed chunks: one that holds less than a chunk is read on beyond its end, and the process ends.
"""

import math
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Final

import h5py

import cia_extract.features.heaps as heaps
from cia_extract.common.errors import DataError

DEFLATE: Final = 1  # numbers of filters
SHUFFLE: Final = 2
FLETCHER32: Final = 3  # puts a checksum of four bytes behind a chunk
LARGEST_CHUNK: Final = 1 << 30  # bytes; 25 frames of maps take 5 MB
LARGEST_ROW: Final = 1 << 30  # bytes of a clip in one array; 10,000 frames of maps, the most of a recipe, take 1.004 GB

Corner = tuple[int, ...]
"""The position of a chunk's first value."""


def check(path: Path, file: h5py.File) -> None:
    """Raise DataError for chunks or texts in the file that the library must not read. Arrays' values are not read."""
    size = path.stat().st_size
    arrays: list[heaps.Piece] = []

    def look(name: str, item: object) -> None:
        if isinstance(item, h5py.Dataset):
            _check_chunks(f"{path}: /{name}", item, size)
            arrays.extend(_pieces(item))

    file.visititems(look)
    heaps.check(path, arrays)


def check_size(place: str, data: h5py.Dataset) -> None:
    """Raise DataError for an array whose chunks would fill the memory. `place` is file and array, for the message."""
    whole = _chunk_bytes(data)
    if whole is not None and whole > LARGEST_CHUNK:
        raise DataError(f"{place} has chunks of {whole / 1e9:.1f} GB, read whole for each clip; store smaller ones (h5repack -l)")


def check_row_bytes(place: str, shape: Sequence[int], row_bytes: int) -> None:
    """Raise DataError for an array of which one clip would fill the memory. `place` is file and array, for the message."""
    if row_bytes > LARGEST_ROW:
        gigabytes = f"{row_bytes / 1e9:.1f} GB"
        raise DataError(f"{place} is {tuple(shape)}; one clip would take {gigabytes}. Is the order of its sizes right?")


def check_row(place: str, data: h5py.Dataset, row: int, checked: dict[Corner, bool]) -> None:
    """Raise DataError where a chunk of a row, packed by zlib, holds less than a chunk. Of other packers nothing is known here.

    Args:
        place: file and array, for the message.
        checked: {chunk in the file: whether it has been looked at}, of calls before; filled and kept by this one.
    """
    filters, whole = _filters(data), _chunk_bytes(data)
    if whole is None or DEFLATE not in filters or not set(filters) <= {DEFLATE, SHUFFLE, FLETCHER32}:
        return
    if not checked:
        checked.update((chunk.chunk_offset, False) for chunk in _chunks(data))
    for part in data.iter_chunks((slice(row, row + 1), *(slice(0, length) for length in data.shape[1:]))):
        corner = tuple(piece.start // length * length for piece, length in zip(part, data.chunks, strict=True))
        if checked.get(corner, True):  # also if it was never written: its values are the fill value
            continue
        mask, packed = data.id.read_direct_chunk(corner)
        unpacked = _unpacked_bytes(packed, [code for i, code in enumerate(filters) if not mask >> i & 1], whole)
        if unpacked != whole:
            raise DataError(
                f"{place} is damaged: its chunk {corner} has {unpacked} bytes instead of {whole}; get or make the file again"
            )
        checked[corner] = True


def _check_chunks(place: str, data: h5py.Dataset, size: int) -> None:
    """Raise DataError for a chunk that is shorter than it can be, or lies behind the file's end, `size`."""
    filters, whole = _filters(data), _chunk_bytes(data)
    for chunk in _chunks(data):
        packed = any(not chunk.filter_mask >> i & 1 for i in range(len(filters)))
        least = 4 if FLETCHER32 in filters else 1
        sound = least <= chunk.size if packed or whole is None else chunk.size == whole
        if not sound or chunk.byte_offset + chunk.size > size:
            raise DataError(
                f"{place} is damaged, or still being written: its chunk {chunk.chunk_offset} has {chunk.size} bytes at byte "
                f"{chunk.byte_offset}; get or make the file again"
            )


def _pieces(data: h5py.Dataset) -> Iterator[heaps.Piece]:
    """Where an array's values lie in the file."""
    if data.id.get_create_plist().get_layout() == h5py.h5d.CONTIGUOUS and (offset := data.id.get_offset()) is not None:
        yield offset, offset + data.id.get_storage_size()
    for chunk in _chunks(data):
        yield chunk.byte_offset, chunk.byte_offset + chunk.size


def _chunks(data: h5py.Dataset) -> list[h5py.h5d.StoreInfo]:
    """Those that are in the file; none of an array that is not in chunks."""
    chunks: list[h5py.h5d.StoreInfo] = []
    if data.chunks is not None and data.shape is not None:
        data.id.chunk_iter(chunks.append)
    return chunks


def _filters(data: h5py.Dataset) -> list[int]:
    """Numbers of the filters that chunks go through, in their order."""
    properties = data.id.get_create_plist()
    return [properties.get_filter(i)[0] for i in range(properties.get_nfilters())]


def _chunk_bytes(data: h5py.Dataset) -> int | None:
    """Bytes of a whole chunk, unpacked. None where there are no chunks, or where a value's bytes are not those of its type."""
    try:
        lies_elsewhere = data.dtype.hasobject  # texts of any length: a chunk has their places in a heap
    except TypeError:  # a type that h5py does not know
        return None
    return None if data.chunks is None or lies_elsewhere else math.prod(data.chunks) * data.id.get_type().get_size()


def _unpacked_bytes(packed: bytes, filters: list[int], most: int) -> int:
    """How many bytes a chunk has without its filters, which were applied in this order; more than `most` are not unpacked."""
    length = len(packed)
    for code in reversed(filters):
        if code == FLETCHER32:
            length -= 4
        elif code == DEFLATE:
            try:
                length = len(zlib.decompressobj().decompress(packed[:length], most + 5))
            except zlib.error:  # the library says so, too; or takes it as it is: C programs may leave chunks at the edge unpacked
                return min(length, most)
            packed = b""
    return length
