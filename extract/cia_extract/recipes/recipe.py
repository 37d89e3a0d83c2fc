"""What a recipe holds: every knob of the preprocessing."""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(frozen=True)
class Sampling:
    frames: int
    rule: str
    rate: float


@dataclass(frozen=True)
class Picture:
    short_side: int
    longer_side: str
    resize: str
    crop: int


@dataclass(frozen=True)
class Rgb:
    window: int
    first: int
    step: int
    edge: str
    order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Flow:
    window: int
    first: int
    step: int
    edge: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    algorithm: str
    median: int
    stride: int
    dilation: int
    bound: float
    quantiser: str
    stored: str


@dataclass(frozen=True)
class Audio:
    """Which sound belongs to a frame, and how it becomes an image."""

    rate: int  # Hz
    seconds: float  # length of the window that replaces one that overhangs an end of the recording
    n_fft: int
    win: int  # samples
    hop: int  # samples
    log_offset: float

    @property
    def half_s(self) -> float:
        """A window reaches this far to either side of its centre: TBN's 0.639 s, and as much less than `edge` at any length."""
        return round((self.seconds - 0.001) / 2, 9)

    @property
    def edge(self) -> int:
        """Samples of the window at either end of a recording."""
        return round(self.seconds * self.rate)

    @property
    def length(self) -> int:
        """Samples of every other window."""
        return round(2 * self.half_s * self.rate)

    @property
    def shape(self) -> tuple[int, int]:
        """(frequencies, time steps) of an image.

        >>> from cia_extract import recipes
        >>> tbn = recipes.load("kinetics").audio
        >>> tbn.shape, tbn.length, tbn.edge
        ((256, 256), 30672, 30696)
        """
        return self.n_fft // 2 + 1, self.columns(self.length)

    def columns(self, samples: int) -> int:
        """Time steps of so many samples: the FFT's places, a hop apart, when n_fft // 2 zeros lie to either side."""
        return 1 + (samples + self.n_fft // 2 * 2 - self.n_fft) // self.hop


@dataclass(frozen=True)
class Network:
    bn_eps: float
    reduce: str


@dataclass(frozen=True)
class Recipe:
    """Every preprocessing knob. `about`, `departs` and `history` are for people and not part of the hash."""

    name: str
    version: int
    backbone: str
    sampling: Sampling
    picture: Picture
    rgb: Rgb
    flow: Flow
    audio: Audio
    network: Network
    about: str = field(default="", compare=False)
    departs: str = field(default="", compare=False)
    history: str = field(default="", compare=False)

    def knobs(self, modalities: Sequence[str] = ("rgb", "flow", "audio")) -> dict[str, Any]:
        """Name, version and the knobs that these modalities depend on, as plain values: what a feature file stores."""
        everything = dataclasses.asdict(self)
        pictures = ("picture",) if {"rgb", "flow"} & set(modalities) else ()
        # MM-SADA's rule keeps RGB's windows inside the clip, and so decides the centres of all modalities.
        used = {*modalities, "rgb"} if self.sampling.rule == "inside" else {*modalities}
        sections = ("sampling", *pictures, *(m for m in ("rgb", "flow", "audio") if m in used), "network")
        chosen = {key: everything[key] for key in ("name", "version", "backbone", *sections)}
        plain: dict[str, Any] = json.loads(json.dumps(chosen))  # tuples → lists, as a file gives them back
        return plain

    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.knobs(), sort_keys=True).encode()).hexdigest()
