"""When each decoded frame is shown and for how long, according to its container."""

from dataclasses import dataclass
from typing import Any, Final

_LONGEST_S: Final = 3600.0  # duration of one frame; a longer one means a damaged header


@dataclass(frozen=True)
class Shown:
    """A frame's `time` in seconds from the start of the video (None if unknown) and its duration `lasts` (s, 0 if unknown)."""

    time: float | None
    lasts: float


class Clock:
    """Times of a stream's frames. Call `feed` with each packet before calling `show` with its frames.

    An AVI has no times, but one chunk for each slot of its rate, empty if the recorder dropped a frame. ffmpeg numbers the chunks
    and skips the empty ones; with B frames, the times it derives from them are out of order. So a frame's chunk is the one that
    the decoder had reached when it returned the frame, minus the chunks that it holds back.
    """

    def __init__(self, container: Any, stream: Any) -> None:
        self.rate = float(stream.average_rate or 0)
        self.by_chunk = container.format.name == "avi" and self.rate > 0
        self.unit = float(stream.time_base or 0)  # s
        self.origin = (stream.start_time or 0) * self.unit
        self._durations: dict[int, int] = {}  # by time stamp; av 13's frames have none of their own
        self._packets = 0
        self._first: int | None = None
        self._chunk: int | None = None
        self._held: int | None = None  # chunks that the decoder holds back
        self._last = -1

    def feed(self, packet: Any) -> None:
        """Note a packet before the decoder gets it; the packet at the end of the file is empty."""
        self._chunk = packet.dts
        if packet.dts is not None and self._first is None:
            self._first = packet.dts
        if self.by_chunk:
            self._packets += 1
        elif packet.pts is not None and packet.duration:
            self._durations[packet.pts] = packet.duration

    def show(self, frame: Any) -> Shown:
        """Time and duration of the frame that was decoded last."""
        if self.by_chunk:
            return Shown(self._slot() / self.rate, 1 / self.rate)
        ticks = self._durations.pop(frame.pts, 0) if frame.pts is not None else 0
        lasts = ticks * self.unit
        time = None if frame.time is None else frame.time - self.origin
        return Shown(time, lasts if 0 < lasts < _LONGEST_S else self.usual)

    @property
    def usual(self) -> float:
        """Average seconds from frame to frame, 0 if unknown."""
        return 1 / self.rate if self.rate else 0.0

    def interval(self, shown: Shown) -> float:
        """The frame interval (s) that cuts use: a frame that is shown long does not begin earlier for it."""
        return min(shown.lasts, self.usual) if self.usual else shown.lasts

    def _slot(self) -> int:
        if self._held is None:
            self._held = self._packets - 1
            self._last = self._first or 0
        elif self._chunk is None:  # the end of the file: frames that the decoder held back
            self._last += 1
        else:
            self._last = max(self._chunk - self._held, self._last + 1)
        return self._last
