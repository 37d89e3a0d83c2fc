"""Frames of a clip, decoded once, in presentation order. Runs in worker processes, without torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

import cia_extract.clips.completeness as completeness
import cia_extract.clips.frame_folder as frame_folder
from cia_extract.clips.cuts import Cut, frame_number
from cia_extract.clips.damage import Damage
from cia_extract.clips.film import bounded, is_folder, opened, stream_of, undecodable
from cia_extract.clips.frame_times import Clock
from cia_extract.clips.orientation import Upright
from cia_extract.common.outcomes import ClipError

# Decoding begins this long before a start, so that pictures which need frames before the key frame are whole.
SEEK_MARGIN_S: Final = 2.0
# Slow videos show a frame for up to this long.
RATE_MARGIN_S: Final = 1.0
# A frame shown longer than this has a damaged time; repeating it at a rate would fill memory.
LONGEST_FRAME_S: Final = 3600.0
_FARTHEST_TICK: Final = 2**62

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """One decoded frame: pixels [H, W, 3] uint8 RGB, and its time in seconds from the start of the video, if known.

    `lasts` is how long it is shown (s, 0 if unknown). `damaged`: the decoder concealed errors in it, or in a frame since the last
    key frame, on which it may build.
    """

    image: Image
    time: float | None
    lasts: float = 0.0
    damaged: bool = False


def decode(
    path: Path,
    start: float | None = None,
    stop: float | None = None,
    rate: float = 0.0,
    beat: Callable[[], None] = lambda: None,
) -> Iterator[Frame]:
    """Yield the frames with start ≤ time < stop (seconds; None: the video's beginning or end) of a video or a folder of pictures.

    A start or stop is moved to the nearest frame, as `cuts` describes. With `rate` (frames a second) frames are repeated or left
    out to give that rate, as `ffmpeg -r` does: EPIC's annotations count frames at 60 or 50 a second, whatever the video's own
    rate. `beat` is called for every frame, skipped ones too. Raises ClipError if the file cannot be opened or decoded, has no
    video, ends before its header says it should, or ends well before `stop`.
    """
    cut = Cut(start, stop)
    if is_folder(path):
        for image, time in frame_folder.frames(path, start, stop, rate):
            beat()
            yield Frame(image, time)
    elif rate:
        # A margin on both sides: the frame shown at the start began earlier, and the frame after the end ends the last one.
        first, last = max((start or 0.0) - RATE_MARGIN_S, 0.0), None if stop is None else stop + RATE_MARGIN_S
        yield from _at_rate(path, _decode_file(path, Cut(first, last), cut, beat), cut, rate)
    else:
        yield from _decode_file(path, cut, cut, beat)


def frame_rate(path: Path) -> float:
    """Frames a second by the file's header, 0 if it states none. Raises ClipError as `decode`."""
    with opened(path) as container:
        stream = stream_of(container)
        return float(stream.average_rate or 0) if stream is not None else 0.0


def _at_rate(path: Path, frames: Iterator[Frame], cut: Cut, rate: float) -> Iterator[Frame]:
    """The frames at k/rate from start to before stop: for each k the last frame whose time rounds to k or earlier."""
    slot = frame_number(cut.start or 0.0, rate)
    end = float("inf") if cut.stop is None else frame_number(cut.stop, rate)
    shown: Frame | None = None
    shown_at = length = 0.0  # of the frame that is shown, in s
    for frame in frames:
        if frame.time is None:
            raise ClipError(f"{path}: its frames carry no times, so it cannot be read at a rate; leave the rate out")
        if shown is not None and frame.time - shown_at > LONGEST_FRAME_S:
            raise ClipError(f"{path}: its times jump from {shown_at:.2f} to {frame.time:.2f} s; is the file damaged?")
        begins = int(frame.time * rate + 0.5)
        if shown is None:
            slot = max(slot, begins) if frame.time > (cut.start or 0.0) else slot
        else:
            while slot < min(begins, end):
                yield Frame(shown.image, slot / rate, 1 / rate, shown.damaged)
                slot += 1
        if slot >= end:
            return
        length = frame.lasts or (frame.time - shown_at if shown is not None else 0.0)
        shown, shown_at = frame, frame.time
    if shown is not None:  # the last frame is shown for its own time, else as long as the one before it
        over = int((shown_at + length) * rate + 0.5) if length else slot + 1
        while slot < min(over, end):
            yield Frame(shown.image, slot / rate, 1 / rate, shown.damaged)
            slot += 1


def _decode_file(path: Path, span: Cut, cut: Cut, beat: Callable[[], None]) -> Iterator[Frame]:
    """The frames of the file inside `span`; the file must hold all of `cut`."""
    try:
        with opened(path) as container:
            try:
                yield from _decode(container, path, span, cut, beat, seek=True)
                return
            except _SeekFailed:
                pass
        with opened(path) as container:
            yield from _decode(container, path, span, cut, beat, seek=False)
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise undecodable(path, error) from error


class _SeekFailed(Exception):
    """The container cannot seek, or its index led to a place after the start."""


def _decode(container: Any, path: Path, span: Cut, cut: Cut, beat: Callable[[], None], seek: bool) -> Iterator[Frame]:
    stream = stream_of(container)
    if stream is None:
        raise ClipError(f"{path}: no video stream in it")
    if stream.codec_context is None:
        raise ClipError(f"{path}: its video has a codec that cannot be decoded; convert the file")
    bounded(path, stream)
    stream.thread_type = "NONE"  # the processes are the parallelism
    clock, damage, pixels = Clock(container, stream), Damage(stream), Upright()
    seek = seek and bool(span.start) and not clock.by_chunk
    if seek:
        _seek(container, stream, clock, span)
    count, end, inside = 0, 0.0, False
    for frame in _frames(container, stream, clock, damage):
        beat()
        shown = clock.show(frame)
        if shown.time is None and (span.start or span.stop):
            raise ClipError(f"{path}: its frames carry no times, so start/stop cannot be used; cut the clip out first")
        if count == 0 and seek and shown.time is not None and shown.time > (span.start or 0.0):
            raise _SeekFailed
        count += 1
        time, interval = (0.0 if shown.time is None else shown.time), clock.interval(shown)
        if shown.time is not None and span.ended(time, interval):
            return
        end = max(end, time + shown.lasts if shown.time is not None else count * clock.usual)
        damaged = damage.affects(frame)
        inside = inside or shown.time is None or span.begins(time, interval)
        if inside:
            yield Frame(pixels(frame), shown.time, shown.lasts, damaged)
    if count == 0 and seek:
        raise _SeekFailed
    completeness.check_complete(path, container, stream, completeness.Decoded(count, end, not seek), cut)
    cut.check_reached(path, end)


def _seek(container: Any, stream: Any, clock: Clock, span: Cut) -> None:
    """Go to a key frame at least SEEK_MARGIN_S before the start. Raises _SeekFailed."""
    from_s = max((span.start or 0.0) - SEEK_MARGIN_S, 0.0) + clock.origin
    try:
        container.seek(int(min(from_s / float(stream.time_base), _FARTHEST_TICK)), stream=stream)
    except (av.FFmpegError, OSError) as error:
        raise _SeekFailed from error


def _frames(container: Any, stream: Any, clock: Clock, damage: Damage) -> Iterator[Any]:
    """Decoded frames; `clock` and `damage` see each packet before its frames. The last packet, empty, flushes the decoder."""
    for packet in container.demux(stream):
        if packet.size or packet.dts is None:
            clock.feed(packet)
            damage.feed(packet)
            yield from packet.decode()
