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
from cia_extract.clips.film import is_folder, opened, stream_of, undecodable
from cia_extract.clips.frame_times import Clock
from cia_extract.clips.orientation import Upright
from cia_extract.common.outcomes import ClipError

# Decoding begins this much before a start, so that pictures whose references lie behind a key frame are whole.
SEEK_MARGIN_S: Final = 2.0
# Frames of slow video are shown up to this long.
RATE_MARGIN_S: Final = 1.0
# A frame shown longer than this has a damaged time; repeating it at a rate would fill the memory.
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
    """Yield the frames with start ≤ time < stop (seconds; None: the whole video) of a video file or a folder of pictures.

    A start or stop goes to the frame nearest to it (`cuts`: 0.45 frame intervals of tolerance), whatever the digits and clocks.
    With `rate` (frames a second) frames are repeated or left out to give that rate, as `ffmpeg -r` does: EPIC's annotations
    count frames at 60 or 50 a second, whatever the video's own rate. `beat` is called for every frame, skipped ones too.
    Raises ClipError when the file cannot be opened or decoded, has no video, ends before its header says it should, or ends
    well before `stop`.
    """
    cut = Cut(start, stop)
    if is_folder(path):
        for image, time in frame_folder.frames(path, start, stop, rate):
            beat()
            yield Frame(image, time)
    elif rate:
        # A little more on both sides: what is shown at the start came before it, and what comes after the end ends a frame.
        first, last = max((start or 0.0) - RATE_MARGIN_S, 0.0), None if stop is None else stop + RATE_MARGIN_S
        yield from _at_rate(path, _decode_file(path, Cut(first, last), cut, beat), cut, rate)
    else:
        yield from _decode_file(path, cut, cut, beat)


def frame_rate(path: Path) -> float:
    """Frames a second as the header says, 0 where it does not. Raises as `decode`."""
    with opened(path) as container:
        stream = stream_of(container)
        return float(stream.average_rate or 0) if stream is not None else 0.0


def _at_rate(path: Path, frames: Iterator[Frame], cut: Cut, rate: float) -> Iterator[Frame]:
    """Slots k/rate from start to before stop, each filled with the last frame whose time rounds to k or earlier."""
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


def _decode_file(path: Path, wanted: Cut, cut: Cut, beat: Callable[[], None]) -> Iterator[Frame]:
    """The frames of the file inside `wanted`; `cut` is what the file must hold."""
    try:
        with opened(path) as container:
            try:
                yield from _decode(container, path, wanted, cut, beat, seek=True)
                return
            except _SeekFailed:
                pass
        with opened(path) as container:
            yield from _decode(container, path, wanted, cut, beat, seek=False)
    except (av.FFmpegError, OSError, ValueError, MemoryError) as error:
        raise undecodable(path, error) from error


class _SeekFailed(Exception):
    """The container cannot be entered in its middle, or its index led behind the start."""


def _decode(container: Any, path: Path, wanted: Cut, cut: Cut, beat: Callable[[], None], seek: bool) -> Iterator[Frame]:
    stream = stream_of(container)
    if stream is None:
        raise ClipError(f"{path}: no video stream in it")
    if stream.codec_context is None:
        raise ClipError(f"{path}: its pictures are coded in a way that cannot be decoded; convert the file")
    stream.thread_type = "NONE"  # the processes are the parallelism
    clock, damage, pixels = Clock(container, stream), Damage(stream), Upright()
    seek = seek and bool(wanted.start) and not clock.by_chunk
    if seek:
        _seek(container, stream, clock, wanted)
    count, end, inside = 0, 0.0, False
    for frame in _frames(container, stream, clock, damage):
        beat()
        shown = clock.of(frame)
        if shown.time is None and (wanted.start or wanted.stop):
            raise ClipError(f"{path}: its frames carry no times, so start/stop cannot be used; cut the clip out first")
        if count == 0 and seek and shown.time is not None and shown.time > (wanted.start or 0.0):
            raise _SeekFailed
        count += 1
        time, interval = (0.0 if shown.time is None else shown.time), clock.interval(shown)
        if shown.time is not None and wanted.ended(time, interval):
            return
        end = max(end, time + shown.lasts if shown.time is not None else count * clock.usual)
        damaged = damage.of(frame)
        inside = inside or shown.time is None or wanted.begins(time, interval)
        if inside:
            yield Frame(pixels(frame), shown.time, shown.lasts, damaged)
    if count == 0 and seek:
        raise _SeekFailed
    completeness.check_complete(path, container, stream, completeness.Decoded(count, end, not seek), cut)
    cut.check_reached(path, end)


def _seek(container: Any, stream: Any, clock: Clock, wanted: Cut) -> None:
    """Go to a key frame some way before the start. Raises _SeekFailed."""
    from_s = max((wanted.start or 0.0) - SEEK_MARGIN_S, 0.0) + clock.origin
    try:
        container.seek(int(min(from_s / float(stream.time_base), _FARTHEST_TICK)), stream=stream)
    except (av.FFmpegError, OSError) as error:
        raise _SeekFailed from error


def _frames(container: Any, stream: Any, clock: Clock, damage: Damage) -> Iterator[Any]:
    """Decoded frames; `clock` and `damage` know of each packet before its frames. The last, empty packet flushes the decoder."""
    for packet in container.demux(stream):
        if packet.size or packet.dts is None:
            clock.feed(packet)
            damage.feed(packet)
            yield from packet.decode()
