"""Frames of a clip, decoded once, in presentation order. Runs in worker processes, without torch."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import av
import numpy as np
import numpy.typing as npt

from cia_extract import frame_folder
from cia_extract.ledger import ClipError

# Decoding begins this much before a start, so that pictures whose references lie behind a key frame are whole.
SEEK_MARGIN_S = 2.0
# Frames of slow video are shown up to this long.
RATE_MARGIN_S = 1.0

Image = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Frame:
    """One decoded frame: pixels [H, W, 3] uint8 RGB, and its time in seconds from the start of the video, if known."""

    image: Image
    time: float | None


def decode(
    path: Path,
    start: float | None = None,
    stop: float | None = None,
    rate: float = 0.0,
    beat: Callable[[], None] = lambda: None,
) -> Iterator[Frame]:
    """Yield the frames with start ≤ time < stop (seconds; None: the whole video) of a video file or a folder of pictures.

    With `rate` (frames a second) frames are repeated or left out to give that rate, as `ffmpeg -r` does: EPIC's annotations
    count frames at 60 or 50 a second, whatever the video's own rate. `beat` is called for every frame, skipped ones too.
    Raises ClipError when the file cannot be opened or decoded, has no video, or ends before its header says it should.
    """
    if path.is_dir():
        for image, time in frame_folder.frames(path, start, stop, rate):
            beat()
            yield Frame(image, time)
    elif rate:
        # A little more on both sides: what is shown at the start came before it, and what comes after the end ends a frame.
        first, last = max((start or 0.0) - RATE_MARGIN_S, 0.0), None if stop is None else stop + RATE_MARGIN_S
        yield from _at_rate(path, _decode_file(path, first, last, beat), start or 0.0, stop, rate)
    else:
        yield from _decode_file(path, start, stop, beat)


def _at_rate(path: Path, frames: Iterator[Frame], start: float, stop: float | None, rate: float) -> Iterator[Frame]:
    """Slots k/rate with start ≤ k/rate < stop, each filled with the last frame whose time rounds to k or earlier."""
    slot, end = round(start * rate), float("inf") if stop is None else round(stop * rate)
    shown: Frame | None = None
    shown_at = length = 0.0  # of the frame that is shown, in s
    for frame in frames:
        if frame.time is None:
            raise ClipError(f"{path}: its frames carry no times, so it cannot be read at a rate; leave the rate out")
        begins = int(frame.time * rate + 0.5)
        if shown is None:
            slot = max(slot, begins) if frame.time > start else slot
        else:
            length = frame.time - shown_at
            while slot < min(begins, end):
                yield Frame(shown.image, slot / rate)
                slot += 1
        if slot >= end:
            return
        shown, shown_at = frame, frame.time
    if shown is not None:  # the last frame is shown as long as the one before it
        over = int((shown_at + length) * rate + 0.5) if length else slot + 1
        while slot < min(over, end):
            yield Frame(shown.image, slot / rate)
            slot += 1


def _decode_file(path: Path, start: float | None, stop: float | None, beat: Callable[[], None]) -> Iterator[Frame]:
    if not path.is_file():
        raise ClipError(f"{path}: no such file", "missing")
    try:
        # One HMDB51 clip carries metadata that is not UTF-8: the pictures are fine, so the metadata are not looked at.
        with av.open(str(path), metadata_errors="ignore") as container:
            if not container.streams.video:
                raise ClipError(f"{path}: no video stream in it")
            try:
                yield from _decode(container, path, start, stop, beat)
            except _SeekTooFar:
                with av.open(str(path), metadata_errors="ignore") as again:
                    frames = _decode(again, path, None, stop, beat)
                    yield from (frame for frame in frames if frame.time is None or frame.time >= (start or 0) - 1e-6)
    except (av.FFmpegError, OSError) as error:
        raise ClipError(f"{path}: cannot be decoded ({error.strerror or error}); is the file complete?") from error


def frame_rate(path: Path) -> float:
    """Frames a second as the header says, 0 where it does not. Raises as `decode`."""
    try:
        with av.open(str(path), metadata_errors="ignore") as container:
            return float(container.streams.video[0].average_rate or 0) if container.streams.video else 0.0
    except (av.FFmpegError, OSError) as error:
        raise ClipError(f"{path}: cannot be opened ({error.strerror or error})") from error


def _decode(container: Any, path: Path, start: float | None, stop: float | None, beat: Callable[[], None]) -> Iterator[Frame]:
    stream = container.streams.video[0]
    stream.thread_type = "NONE"  # the processes are the parallelism
    rate = float(stream.average_rate or 0)
    # AVI has no presentation times: what ffmpeg makes up jumps about where there are B frames. Its rate is constant.
    by_count = container.format.name == "avi" and rate > 0
    origin = float((stream.start_time or 0) * stream.time_base)
    if start and not by_count:
        container.seek(max(int((start - SEEK_MARGIN_S + origin) / stream.time_base), 0), stream=stream)
    count, time = 0, None
    for frame in container.decode(stream):  # flushes the decoder at the end
        beat()
        time = count / rate if by_count else None if frame.time is None else frame.time - origin
        if time is None and (start or stop):
            raise ClipError(f"{path}: its frames carry no times, so start/stop cannot be used; cut the clip out first")
        if count == 0 and start and time is not None and time > start and not by_count:
            raise _SeekTooFar
        if time is not None and stop is not None and time >= stop:
            return
        count += 1
        if start is None or time is None or time >= start - 1e-6:
            yield Frame(_upright(frame), time)
    # Matroska and FLV promise one duration for all tracks, and sound often outlasts the pictures.
    own_duration = not (container.streams.audio and {"matroska", "flv"} & set(container.format.name.split(",")))
    _check_complete(path, stream, count, time, stop, "mov" not in container.format.name, own_duration)


class _SeekTooFar(Exception):
    """The container's index led behind the start."""


def _upright(frame: Any) -> Image:
    """Pixels as a player shows them: phones store the rotation beside the picture."""
    image: Image = frame.to_ndarray(format="rgb24")
    quarter_turns = round(getattr(frame, "rotation", 0) / 90)
    return np.ascontiguousarray(np.rot90(image, quarter_turns)) if quarter_turns % 4 else image


def _check_complete(
    path: Path, stream: Any, count: int, last: float | None, stop: float | None, counts_are_shown: bool, own_duration: bool
) -> None:
    """A truncated video may decode without complaint up to the cut: compare what came with what its header promised.

    The duration shows it in most containers; in AVI ffmpeg shortens the duration to what is there, and the frame count
    shows it. In MP4 the count includes frames that an edit list hides, so it is not used there. In Matroska and FLV with
    sound there is neither: their truncated clips are only found when the cut breaks a frame.
    """
    if count == 0:
        raise ClipError(f"{path}: no frame could be decoded; is the file complete?")
    rate = float(stream.average_rate or 0)
    if not rate:
        return
    decoded = count / rate if last is None else last + 1 / rate
    promised = float(stream.duration * stream.time_base) if stream.duration and own_duration else 0.0
    if counts_are_shown:
        promised = max(promised, stream.frames / rate)
    if stop is not None:
        promised = min(promised, stop)
    # Healthy HMDB51 headers promise one frame too many.
    if promised - decoded > max(3 / rate, 0.05 * promised):
        frames = f"{round(decoded * rate)}/{round(promised * rate)}"
        raise ClipError(f"{path}: truncated, {frames} frames could be decoded; get the file again", "partial decode")
