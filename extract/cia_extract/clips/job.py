"""A worker's task for one clip, and its result."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cia_extract.clips.picture import Pixels
from cia_extract.clips.sampling import Indices
from cia_extract.common.outcomes import ClipError, Outcome
from cia_extract.recipes import Recipe


@dataclass(frozen=True)
class StoredFlow:
    """Flow stored as pictures in `folder`: `rate` flows a second; values 0 and 255 stand for −`bound` and +`bound` px."""

    folder: Path
    rate: float
    bound: float


@dataclass(frozen=True)
class ClipJob:
    """A worker's task: one clip. `start` and `stop` in seconds, `rate` in frames a second (0: the clip's own)."""

    path: Path
    modalities: tuple[str, ...]
    recipe: Recipe
    start: float | None = None
    stop: float | None = None
    rate: float = 0.0
    stored_flow: StoredFlow | None = None
    flow_by: str = "opencv"
    """What computes flow (`flow.choose`). "device": the worker computes none and returns grey frames."""
    flow_cache: Path | None = None
    canvas: tuple[int, int] | None = None
    """(height, width), px, that scaled pictures are cut or padded to; None: the recipe's centre crop."""


@dataclass(frozen=True)
class Windows:
    """The windows of one modality: distinct images [U, H, W, C] (uint8, or float32 spectrograms) and `rows` [T, L] of them.

    Row −1 stands for an image of zeros after scaling.
    """

    images: npt.NDArray[Any]
    rows: npt.NDArray[np.int32]


@dataclass(frozen=True)
class FramePairs:
    """Flow that the device is to compute: grey frames [G, H, W] uint8, and for each flow its two rows in them, [U, 2].

    A pair without a second frame has the first one twice.
    """

    grey: Pixels
    rows: npt.NDArray[np.int32]
    windows: npt.NDArray[np.int32]  # [T, L] rows of the flows
    indices: tuple[int, ...]  # the flows' indices in the clip, [U]


@dataclass
class PreparedClip:
    """A clip ready for the networks. `decode_s` and `flow_s` are CPU seconds: workers yield to the network, so clocks mislead."""

    n_frames: int
    fps: float
    centres: Indices
    windows: dict[str, Windows] = field(default_factory=dict)
    pairs: FramePairs | None = None
    present: npt.NDArray[np.bool_] | None = None  # [T]: whether a frame has sound
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    errors: dict[str, ClipError] = field(default_factory=dict)  # by modality
    decode_s: float = 0.0
    flow_s: float = 0.0
    warning: str = ""
