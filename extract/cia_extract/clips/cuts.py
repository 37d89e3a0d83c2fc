"""Where a cut begins and ends: one rule for video files, frame folders and clips read at a rate.

A start or stop goes to the frame nearest to it, for both cuts that meet there: they share no frame and lose none, however many
digits the manifest writes and whatever clock the container keeps. Exactly: a frame belongs to a cut from 0.45 of its interval
before its time on. Not 0.5, so that times half-way between two frames go to the later one everywhere, in spite of rounded clocks.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cia_extract.common.outcomes import ClipError

TOLERANCE: Final = 0.45  # frame intervals
# Annotations reach a few frames beyond the last one; beyond both of these, a clip lacks part of what is to be described.
PAST_END_S: Final = 0.1
PAST_END_SHARE: Final = 0.05  # of the cut
_LAST: Final = 10**15  # no frame has a number like it; keeps absurd times and rates computable


@dataclass(frozen=True)
class Cut:
    """The frames from `start` to before `stop`, in seconds of the video; None: from its beginning, to its end."""

    start: float | None = None
    stop: float | None = None

    def begins(self, time: float, interval: float) -> bool:
        """A frame at this time, shown for `interval` s, is not before the cut."""
        return self.start is None or _reaches(time, interval, self.start)

    def ended(self, time: float, interval: float) -> bool:
        """A frame at this time is behind the cut."""
        return self.stop is not None and _reaches(time, interval, self.stop)

    def check_reached(self, path: Path, end: float) -> None:
        """Raises ClipError where the clip ends at `end` s, well before the cut does."""
        start = self.start or 0.0
        if start >= end > 0:
            raise ClipError(f"{path}: the clip ends at {end:.2f} s, start is {start:g} s; correct start", "partial decode")
        if self.stop is not None and self.stop - end > max(PAST_END_S, PAST_END_SHARE * (self.stop - start)):
            why = f"the clip ends at {end:.2f} s, stop is {self.stop:g} s; correct stop, or get the clip again"
            raise ClipError(f"{path}: {why}", "partial decode")


def frame_number(seconds: float, rate: float) -> int:
    """The first frame from `seconds` on, of frames at i/rate.

    >>> frame_number(0.3333, 30), frame_number(0.3334, 30), frame_number(0.1, 25), frame_number(0.09, 25)
    (10, 10, 3, 2)
    """
    return math.ceil(min(seconds * rate, _LAST) - TOLERANCE)


def _reaches(time: float, interval: float, boundary: float) -> bool:
    return time + max(TOLERANCE * interval, 1e-6) >= boundary
