"""Where a cut begins and ends: one rule for video files, frame folders and clips read at a rate.

A start or stop is moved to the nearest frame. Two cuts that meet there share no frame and lose none, however many digits the
manifest has and whatever clock the container uses. Exactly: a frame belongs to a cut that starts up to 0.45 frame intervals after
the frame's time. Not 0.5, so that times half-way between two frames always go to the later one, in spite of rounded clocks.
"""

import math
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cia_extract.common.outcomes import ClipError

TOLERANCE: Final = 0.45  # frame intervals
# Annotations reach a few frames beyond the last one. A stop that exceeds the clip by more than both is an error.
PAST_END_S: Final = 0.1
PAST_END_SHARE: Final = 0.05  # of the cut's length
_LAST: Final = 10**15  # larger than any frame number; keeps absurd times and rates computable


@dataclass(frozen=True)
class Cut:
    """The frames with start ≤ time < stop, in seconds of the video; None stands for its beginning or end."""

    start: float | None = None
    stop: float | None = None

    def begins(self, time: float, interval: float) -> bool:
        """Whether a frame at `time` s, shown for `interval` s, is not before the cut."""
        return self.start is None or _reaches(time, interval, self.start)

    def ended(self, time: float, interval: float) -> bool:
        """Whether a frame at `time` s, shown for `interval` s, is behind the cut."""
        return self.stop is not None and _reaches(time, interval, self.stop)

    def check_reached(self, path: Path, end: float) -> None:
        """Raise ClipError if the video at `path` ends at `end` s, well before the cut does."""
        start = self.start or 0.0
        if start >= end > 0:
            raise ClipError(f"{path}: the clip ends at {end:.2f} s, but start is {start:g} s; correct start", "partial decode")
        if self.stop is not None and self.stop - end > max(PAST_END_S, PAST_END_SHARE * (self.stop - start)):
            why = f"the clip ends at {end:.2f} s, but stop is {self.stop:g} s; correct stop, or get the clip again"
            raise ClipError(f"{path}: {why}", "partial decode")


def frame_number(seconds: float, rate: float) -> int:
    """The index of the first frame that belongs to a cut from `seconds` on, for frames at i/rate.

    >>> frame_number(0.3333, 30), frame_number(0.3334, 30), frame_number(0.1, 25), frame_number(0.09, 25)
    (10, 10, 3, 2)
    """
    return math.ceil(min(seconds * rate, _LAST) - TOLERANCE)


def _reaches(time: float, interval: float, boundary: float) -> bool:
    return time + max(TOLERANCE * interval, 1e-6) >= boundary
