"""Is a video whole? A truncated one may decode without complaint up to the cut: what came is compared with what was promised."""

import os
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import av

from cia_extract.clips.cuts import Cut
from cia_extract.common.outcomes import ClipError


@dataclass(frozen=True)
class Decoded:
    """What came out: frames, and where the last one ends, in seconds of the video; `whole` from its beginning to its end."""

    frames: int
    end: float
    from_start: bool


def check_complete(path: Path, container: Any, stream: Any, decoded: Decoded, cut: Cut) -> None:
    """Raises ClipError for a video that ends before its header says so.

    The duration shows it in most containers; in AVI ffmpeg shortens the duration to what is there, and the header's number of
    frames shows it. In MP4 that number includes frames that an edit list hides, so it is not used there. Matroska and FLV
    promise one duration for all tracks, and sound often outlasts the pictures, so there the file must be cut off as well. MPEG
    streams promise nothing.
    """
    if decoded.frames == 0:
        raise ClipError(f"{path}: no frame could be decoded; is the file complete?")
    rate = float(stream.average_rate or 0)
    if not rate:
        return
    kinds = set(container.format.name.split(","))
    if {"matroska", "flv"} & kinds:
        promised = (container.duration or 0) / av.time_base
    else:
        promised = float(stream.duration * stream.time_base) if stream.duration else 0.0
    if "mov" not in kinds:
        promised = max(promised, stream.frames / rate)
    needed = promised if cut.stop is None else min(promised, cut.stop)
    # Healthy HMDB51 headers promise one frame too many.
    if needed - decoded.end <= max(3 / rate, 0.05 * needed) or _is_whole(path, kinds, rate, decoded, needed):
        return
    how_far = f"its frames end at {decoded.end:.2f} s of {promised:.2f} s"
    if decoded.from_start and stream.frames:
        how_far = f"{decoded.frames}/{stream.frames} frames could be decoded"
    raise ClipError(f"{path}: truncated, {how_far}; get the file again", "partial decode")


def _is_whole(path: Path, kinds: set[str], rate: float, decoded: Decoded, needed: float) -> bool:
    """Nothing is cut off the file, although its frames end early: the last one is shown long, or the sound goes on."""
    try:
        with path.open("rb") as file:
            if "avi" in kinds:
                return needed - decoded.end - _empty_at_the_end(file) / rate <= max(3 / rate, 0.05 * needed)
            if "flv" in kinds:
                return _last_tag_is_whole(file)
            return "matroska" in kinds and _segment_is_whole(file)
    except (OSError, struct.error, IndexError):
        return False


def _empty_at_the_end(file: BinaryIO) -> int:
    """Empty video chunks behind the last full one, by an AVI's index. They are dropped frames: the picture before stays."""
    file.seek(12)
    while len(head := file.read(8)) == 8:
        name, size = struct.unpack("<4sI", head)
        if name == b"idx1":
            entries = file.read(min(size, 2**28))
            break
        file.seek(size + size % 2, os.SEEK_CUR)
    else:
        return 0
    sizes = [size for kind, _, _, size in struct.iter_unpack("<4sIII", entries[: len(entries) // 16 * 16]) if _is_video(kind)]
    return next((empty for empty, size in enumerate(reversed(sizes)) if size), len(sizes))


def _is_video(kind: bytes) -> bool:
    return kind[2:] in {b"dc", b"db"}


def _last_tag_is_whole(file: BinaryIO) -> bool:
    """An FLV ends with the length of its last tag, which begins so far before it with its kind and its data's length."""
    size = os.fstat(file.fileno()).st_size
    file.seek(size - 4)
    length = int.from_bytes(file.read(4), "big")
    file.seek(max(size - 4 - length, 0))
    return length > 11 and int.from_bytes(file.read(4)[1:], "big") == length - 11


def _segment_is_whole(file: BinaryIO) -> bool:
    """A Matroska file reaches to the end that its segment states; recordings that broke off state none, and cannot be told."""
    for wanted in (b"\x1aE\xdf\xa3", b"\x18S\x80g"):  # EBML header, Segment
        name, size = file.read(4), _ebml_size(file)
        if name != wanted:
            return False
        if size is None:
            return True
        end = file.tell() + size
        if wanted == b"\x1aE\xdf\xa3":
            file.seek(end)
    return end <= os.fstat(file.fileno()).st_size


def _ebml_size(file: BinaryIO) -> int | None:
    """A size of 1 to 8 bytes, whose first set bit says how many; None: unknown."""
    first = file.read(1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        return None
    value = int.from_bytes(bytes([first & (1 << (8 - length)) - 1]) + file.read(length - 1), "big")
    return None if value == (1 << 7 * length) - 1 else value
