"""What a worker is told about a clip, and what it gives back."""

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
    """Flow that comes as pictures: its folder, its flows a second and the motion (px) that 0 and 255 stand for."""

    folder: Path
    rate: float
    bound: float


@dataclass(frozen=True)
class ClipJob:
    """What a worker needs to know of one clip. `start`/`stop` in seconds, `rate` in frames a second (0: the clip's own)."""

    path: Path
    modalities: tuple[str, ...]
    recipe: Recipe
    start: float | None = None
    stop: float | None = None
    rate: float = 0.0
    stored_flow: StoredFlow | None = None
    flow_by: str = "opencv"
    """What computes flow (`flow.choose`). "device": not the worker, which sends grey frames instead."""
    flow_cache: Path | None = None


@dataclass(frozen=True)
class Windows:
    """Distinct images [U, H, W, C] (uint8, or float32 spectrograms) and the windows over them, [T, L] rows of `images`.

    Row −1 stands for an image of zeros after scaling.
    """

    images: npt.NDArray[Any]
    rows: npt.NDArray[np.int32]


@dataclass(frozen=True)
class FramePairs:
    """Flow that is yet to be computed: grey frames [G, H, W] uint8 and, for each flow, its two rows in them ([U, 2]).

    A pair whose second frame does not exist has its first one twice.
    """

    grey: Pixels
    rows: npt.NDArray[np.int32]
    windows: npt.NDArray[np.int32]  # [T, L] rows of the flows
    wanted: tuple[int, ...]  # the flows' indices in the clip


@dataclass
class PreparedClip:
    """A clip ready for the networks, with the CPU seconds of its stages (workers yield to the network: clocks would mislead)."""

    n_frames: int
    fps: float
    centres: Indices
    windows: dict[str, Windows] = field(default_factory=dict)
    pairs: FramePairs | None = None
    present: npt.NDArray[np.bool_] | None = None  # [T]: where there is sound
    outcomes: dict[str, Outcome] = field(default_factory=dict)
    errors: dict[str, ClipError] = field(default_factory=dict)  # of single modalities
    decode_s: float = 0.0
    flow_s: float = 0.0
    warning: str = ""
