"""The sound around the described frames of a clip: its spectrogram, and where the windows lie in it."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

import cia_extract.pages.html as html
from cia_extract.clips import ClipJob, Pixels, audio

WIDEST = 1200  # px of a spectrogram


@dataclass(frozen=True)
class Window:
    """The window of one described frame."""

    frame: int
    start_s: float
    stop_s: float
    left: float
    """Where it begins in the spectrogram, % of its width."""
    width: float
    """%."""


@dataclass(frozen=True)
class Sound:
    """The spectrogram of the sound that the windows cover, from `start_s` to `stop_s` of the video."""

    image: str
    start_s: float
    stop_s: float
    windows: list[Window]


def listen(job: ClipJob, centres: Sequence[int], centres_s: Sequence[float]) -> Sound | None:
    """The sound around the frames `centres`, which are shown at `centres_s`; None without sound. Raises ClipError."""
    stretch = audio.stretch(job.path, np.array(centres_s), job.recipe.audio)
    if stretch is None:
        return None
    first, last = stretch.start_s, stretch.stop_s
    windows = []
    for c, (start, stop) in zip(centres, stretch.windows_s.tolist(), strict=True):
        left, right = max(start, first) - first, min(stop, last) - first
        windows.append(Window(c, start, stop, 100 * left / (last - first), 100 * max(right - left, 0) / (last - first)))
    return Sound(html.png(spectrogram(stretch.image)), first, last, windows)


def spectrogram(image: npt.NDArray[np.float32]) -> Pixels:
    """Log powers [frequencies, time steps], 0 Hz first, as a picture: high frequencies at the top, at most `WIDEST` px wide."""
    import cv2

    scaled = cv2.resize(image[::-1], (min(image.shape[1], WIDEST), image.shape[0]), interpolation=cv2.INTER_AREA)
    low, high = np.percentile(scaled, [1, 99.9])
    shares = ((scaled - low) / max(high - low, 1e-6)).clip(0, 1)
    bgr = cv2.applyColorMap(np.rint(255 * shares).astype(np.uint8), cv2.COLORMAP_INFERNO)
    return np.asarray(cv2.cvtColor(bgr, cv2.COLOR_BGR2RGB), dtype=np.uint8)
