"""Whether a video is complete. A truncated one may decode without an error, so its frames are compared with its header."""

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
    """What was decoded: the number of frames, the end of the last one (s), and whether decoding began at the video's start."""

    frames: int
    end: float
    from_start: bool


def check_complete(path: Path, container: Any, stream: Any, decoded: Decoded, cut: Cut) -> None:
    """Raise ClipError if a video ends before its header says it should, or before the end of `cut`.

    Most containers state a duration. In AVI, ffmpeg shortens the duration to the data in the file, but the header states the
    number of frames. In MP4 that number includes frames hidden by an edit list, so it is not used. Matroska and FLV state one
    duration for all tracks, and sound often outlasts the pictures, so there the file itself must also be cut off. MPEG streams
    state nothing.
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
    """Whether the file is complete although its frames end early: the last one is shown long, or the sound goes on."""
    try:
        with path.open("rb") as file:
            if "avi" in kinds:
                return needed - decoded.end - _trailing_empty_chunks(file) / rate <= max(3 / rate, 0.05 * needed)
            if "flv" in kinds:
                return _last_tag_is_whole(file)
            return "matroska" in kinds and _segment_is_whole(file)
    except (OSError, struct.error, IndexError):
        return False


def _trailing_empty_chunks(file: BinaryIO) -> int:
    """The number of empty video chunks after the last full one in an AVI's index: dropped frames, shown as the one before."""
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
    """Whether an FLV ends with a whole tag: its last 4 bytes state the tag's length, which the tag's header confirms."""
    size = os.fstat(file.fileno()).st_size
    file.seek(size - 4)
    length = int.from_bytes(file.read(4), "big")
    file.seek(max(size - 4 - length, 0))
    return length > 11 and int.from_bytes(file.read(4)[1:], "big") == length - 11


def _segment_is_whole(file: BinaryIO) -> bool:
    """Whether a Matroska file is as long as its segment states. Recordings that broke off state no length and count as whole."""
    for element in (b"\x1aE\xdf\xa3", b"\x18S\x80g"):  # EBML header, Segment
        name, size = file.read(4), _ebml_size(file)
        if name != element:
            return False
        if size is None:
            return True
        end = file.tell() + size
        if element == b"\x1aE\xdf\xa3":
            file.seek(end)
    return end <= os.fstat(file.fileno()).st_size


def _ebml_size(file: BinaryIO) -> int | None:
    """An EBML size of 1 to 8 bytes; the position of the first set bit is their number. None: unknown size."""
    first = file.read(1)[0]
    length = 9 - first.bit_length()
    if length > 8:
        return None
    value = int.from_bytes(bytes([first & (1 << (8 - length)) - 1]) + file.read(length - 1), "big")
    return None if value == (1 << 7 * length) - 1 else value
