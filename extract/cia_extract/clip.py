"""One clip from its file to the windows a network sees. The unit of work of a worker process; no torch here."""

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

from cia_extract import flow, preprocess, sampling, video

MODALITIES: Final = ("rgb", "flow")
# Frames held before falling back to a second pass over the file: 240 kB each, so at most about 0.5 GB a worker.
HELD_FRAMES: Final = 2000


@dataclass(frozen=True)
class ClipJob:
    """What a worker needs to know of one clip. `start`/`stop` in seconds."""

    path: Path
    start: float | None
    stop: float | None
    modalities: tuple[str, ...]
    frames: int
    window: int
    flow: str


@dataclass(frozen=True)
class Windows:
    """Distinct images [U, 224, 224, 3 or 2] uint8 and the windows over them, [T, L] rows of `images`."""

    images: npt.NDArray[np.uint8]
    rows: npt.NDArray[np.int32]


@dataclass(frozen=True)
class PreparedClip:
    """A clip ready for the network, with the CPU seconds of its stages (workers yield to the network: clocks would mislead)."""

    n_frames: int
    fps: float
    centres: sampling.Indices
    windows: dict[str, Windows]
    decode_s: float
    flow_s: float


def prepare(job: ClipJob) -> PreparedClip:
    """Decode, sample, scale, crop and compute flow. Each frame is decoded once and each flow pair computed once.

    Raises DataError for a clip that cannot be used.
    """
    began = time.process_time()
    scaled, n_frames = _scaled_frames(job)
    centres = sampling.tsn_centres(n_frames, job.frames)
    decode_s = time.process_time() - began
    windows = {}
    if "rgb" in job.modalities:
        indices = np.stack([sampling.window(c, job.window, n_frames) for c in centres])
        windows["rgb"] = _gather(indices, {t: preprocess.centre_crop(scaled[t]) for t in np.unique(indices).tolist()})
    began = time.process_time()
    if "flow" in job.modalities:
        indices = np.stack([sampling.window(c, job.window, max(n_frames - 1, 1)) for c in centres])
        wanted = np.unique(indices).tolist()
        grey = {t: preprocess.grey(scaled[t]) for t in {*wanted, *(t + 1 for t in wanted)} if t < n_frames}
        flows = flow.pairs(grey, wanted, job.flow)
        windows["flow"] = _gather(indices, {t: preprocess.centre_crop(image) for t, image in flows.items()})
    flow_s = time.process_time() - began
    return PreparedClip(n_frames, video.frame_rate(job.path), centres, windows, decode_s, flow_s)


def _scaled_frames(job: ClipJob) -> tuple[dict[int, preprocess.Pixels], int]:
    """The scaled frames that the windows need (all of them, for a clip of ordinary length) and the number decoded."""
    scaled: dict[int, preprocess.Pixels] = {}
    n_frames = 0
    for frame in video.decode(job.path, job.start, job.stop):
        if n_frames < HELD_FRAMES:
            scaled[n_frames] = preprocess.resize(frame.image)
        n_frames += 1
    if n_frames == 0:
        raise video.DataError(f"{job.path}: no frame between {job.start or 0:g} and {job.stop} s; check start and stop")
    if n_frames > HELD_FRAMES:
        # Which frames are needed depends on how many there are; only a clip too long to be held is decoded twice.
        centres = sampling.tsn_centres(n_frames, job.frames)
        near = {int(t) for c in centres for t in sampling.window(c, job.window, n_frames)}
        needed = near | {t + 1 for t in near}
        frames = enumerate(video.decode(job.path, job.start, job.stop))
        scaled = {t: preprocess.resize(frame.image) for t, frame in frames if t in needed}
    return scaled, n_frames


def _gather(indices: npt.NDArray[np.int32], images: dict[int, npt.NDArray[np.uint8]]) -> Windows:
    """[T, L] frame numbers and their images → the images once each, and the windows as rows of them."""
    order = sorted(images)
    return Windows(np.stack([images[t] for t in order]), np.searchsorted(order, indices).astype(np.int32))
