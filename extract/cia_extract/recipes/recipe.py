"""What a recipe holds: every knob of the preprocessing, what it does and what it may be.

The limits are wide enough for all uses and narrow enough to be computed. What depends on several knobs is in `checks`.
"""

import dataclasses
import hashlib
import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

from msgspec import Meta

from cia_extract.common.modalities import MODALITIES

Count = Annotated[int, Meta(ge=1, le=10_000)]
Pixels = Annotated[int, Meta(ge=32, le=2160)]
Length = Annotated[int, Meta(ge=1, le=1024)]
Offset = Annotated[int, Meta(ge=-100_000, le=100_000)]
Stride = Annotated[int, Meta(ge=1, le=1000)]
Rate = Annotated[float, Meta(ge=0, le=1000)]
Mean = Annotated[float, Meta(ge=-1e6, le=1e6)]
Deviation = Annotated[float, Meta(ge=1e-6, le=1e6)]
Rule = Literal["tsn", "linspace", "inside"]
Edge = Literal["replicate", "zero"]
Algorithm = Literal["tvl1", "dis"]
Backbone = Literal["i3d", "tbn"]


@dataclass(frozen=True)
class Sampling:
    """Which frames of a clip are described."""

    frames: Count
    """Described frames per clip."""
    rule: Rule
    """tsn: centres of equal segments; linspace; inside: MM-SADA's, whole windows inside the clip."""
    rate: Rate
    """Frames a second by which clips are read; 0: as they are. A manifest's column `rate` wins."""


@dataclass(frozen=True)
class Picture:
    """From a decoded frame to the square that RGB's network and the optical flow see."""

    short_side: Pixels
    """Length of the shorter side after scaling, px."""
    longer_side: Literal["even", "nearest-even", "int"]
    """even: rounded down to even; nearest-even: ffmpeg's scale=-2:256; int: truncated."""
    resize: Literal["pillow", "opencv", "opencv-cubic"]
    """pillow: bilinear, antialiased; opencv: bilinear, not antialiased; opencv-cubic."""
    crop: Pixels
    """Side of the centre crop, px."""


@dataclass(frozen=True)
class Rgb:
    """The window of pictures around a described frame, and their values."""

    window: Length
    """Frames in a window."""
    first: Offset
    """First frame of the window, relative to the described one."""
    step: Stride
    """Frames from one of the window to the next."""
    edge: Edge
    """Beyond the clip. replicate: its ends again; zero: zeros after scaling."""
    order: Literal["rgb", "bgr"]
    """Order of the channels."""
    mean: tuple[Mean, Mean, Mean]
    """Of each channel. The network sees (x - mean) / std, x in 0 … 255."""
    std: tuple[Deviation, Deviation, Deviation]
    """Of each channel, see `mean`."""


@dataclass(frozen=True)
class Flow:
    """The window of flow images around a described frame, how they are computed, and their values."""

    window: Length
    """Flow images in a window."""
    first: Offset
    """First flow of the window, relative to the described frame."""
    step: Stride
    """Flows from one of the window to the next."""
    edge: Edge
    """Beyond the clip. replicate: its ends again; zero: zeros after scaling."""
    mean: tuple[Mean, Mean]
    """Of x and y. The network sees (v - mean) / std, v in 0 … 255."""
    std: tuple[Deviation, Deviation]
    """Of x and y, see `mean`."""
    algorithm: Algorithm
    """tvl1: OpenCV's TV-L1; dis: OpenCV's DIS, about a hundred times faster, an approximation."""
    median: Literal[0, 1, 3, 5]
    """Side of TV-L1's median filter, px; 0 for none."""
    stride: Stride
    """Flow i is from frame stride·i to frame stride·(i + dilation)."""
    dilation: Stride
    """See `stride`."""
    bound: Annotated[float, Meta(ge=0.001, le=10_000)]
    """Displacement at which flow is cut for its 8 bits, px."""
    quantiser: Literal["floor", "round", "round128"]
    """floor: of (v + bound)/(2 bound)·255; round: the same, rounded; round128: 128 + 255/(2 bound)·v, rounded."""
    stored: Literal["rescale", "keep"]
    """Flow read from frame folders. rescale: to `bound`; keep: its bytes as they are."""


@dataclass(frozen=True)
class Audio:
    """Which sound belongs to a frame, and how it becomes an image, TBN's spectrogram, for either backbone."""

    rate: Annotated[int, Meta(ge=1000, le=192_000)]
    """Samples a second, Hz."""
    seconds: Annotated[float, Meta(ge=0.01, le=60)]
    """Length of a window at an end of the recording; around a centre it is 0.001 s shorter, as TBN has it."""
    n_fft: Annotated[int, Meta(ge=63, le=8192)]
    """Length of the FFT, samples."""
    win: Annotated[int, Meta(ge=1, le=8192)]
    """Length of Hann's window, samples."""
    hop: Annotated[int, Meta(ge=1, le=8192)]
    """From one FFT to the next, samples."""
    log_offset: Annotated[float, Meta(ge=1e-30, le=1e6)]
    """ε of log(|STFT|² + ε)."""

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
    """What the networks themselves leave open."""

    bn_eps: Annotated[float, Meta(ge=1e-12, le=1)]
    """ε of batch normalisation."""
    reduce: Literal["mean", "pairs"]
    """Over Mixed_5c's time slices. mean; pairs: the mean of means of neighbouring pairs, as the official head has it."""


@dataclass(frozen=True)
class Recipe:
    """Every preprocessing knob. `about`, `departs` and `history` are for people and not part of the hash."""

    name: Annotated[str, Meta(min_length=1, max_length=100)]
    version: Annotated[int, Meta(ge=1, le=999_999)]
    backbone: Backbone
    sampling: Sampling
    picture: Picture
    rgb: Rgb
    flow: Flow
    audio: Audio
    network: Network
    about: str = field(default="", compare=False)
    departs: str = field(default="", compare=False)
    history: str = field(default="", compare=False)

    def knobs(self, modalities: Sequence[str] = MODALITIES) -> dict[str, Any]:
        """Name, version and the knobs that these modalities depend on, as plain values: what a feature file stores."""
        everything = dataclasses.asdict(self)
        pictures = ("picture",) if {"rgb", "flow"} & set(modalities) else ()
        # MM-SADA's rule keeps RGB's windows inside the clip, and so decides the centres of all modalities.
        used = {*modalities, "rgb"} if self.sampling.rule == "inside" else {*modalities}
        sections = ("sampling", *pictures, *(m for m in MODALITIES if m in used), "network")
        chosen = {key: everything[key] for key in ("name", "version", "backbone", *sections)}
        plain: dict[str, Any] = json.loads(json.dumps(chosen))  # tuples → lists, as a file gives them back
        return plain

    def sha256(self) -> str:
        """Of all knobs: the same for recipes that read clips alike."""
        return hashlib.sha256(json.dumps(self.knobs(), sort_keys=True).encode()).hexdigest()
