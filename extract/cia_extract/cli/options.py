"""The flags of bare `cia-extract`, in groups: what is described, how, by what, and where it goes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Final, Literal

from msgspec import Meta

from cia_extract import recipes


@dataclass(frozen=True)
class Clips:
    """What to extract."""

    dataset: str = ""
    """ucf, hmdb, ucf-small, hmdb-small, e55, e100, demo, or a name for your own."""
    root: Path | None = None
    """Folder of the clips. [default: $CIA_DATA/NAME or data/NAME]"""
    annotations: Path | None = None
    """Folder of official split files. [default: ROOT]"""
    manifest: Path | None = None
    """CSV of the clips. [default: the dataset's, or ROOT/manifest.csv]"""
    shard: str = ""
    """i/n: only the i-th of n parts, for job arrays."""
    clips_per_class: Annotated[int, Meta(ge=1, le=10_000)] = 12
    """demo: number of training clips per class and domain."""
    seed: Annotated[int, Meta(ge=0, le=2**32 - 1)] = 0
    """demo: seed of the rendered clips."""


@dataclass(frozen=True)
class Preprocessing:
    """How a clip becomes network input: a recipe, and what changes of it. Empty: as the recipe has it."""

    backbone: Literal["", recipes.Backbone] = ""
    """Network: i3d or tbn. [default: that of --recipe, else i3d]"""
    modality: tuple[Literal["rgb", "flow", "audio"], ...] = ()
    """rgb, flow or audio; repeat. [default: all of the backbone]"""
    recipe: str = ""
    """Preprocessing, see cia-extract recipes. [default: by backbone and dataset]"""
    frames: recipes.Count | None = None
    """Frames described per clip. [default: 25]"""
    window: Annotated[int, Meta(ge=9, le=1024)] | None = None
    """Frames around each that I3D sees. [default: 16]"""
    sampling: Literal["", recipes.Rule] = ""
    """Which frames: tsn, linspace or inside. [default: the recipe's]"""
    edge: Literal["", recipes.Edge] = ""
    """Beyond the clip: replicate or zero. [default: the recipe's]"""
    rate: recipes.Rate | None = None
    """Read clips at this many frames a second; 0: as they are. [default: the recipe's]"""
    flow: Literal["", recipes.Algorithm] = ""
    """tvl1 (reference, slow on a CPU) or dis (fast, an approximation). [default: the recipe's]"""
    changes: Annotated[tuple[str, ...], "--set"] = ()
    """Any other knob of the recipe: section.knob=value."""


@dataclass(frozen=True)
class Computing:
    """Performance, and the weights. The words are those of `engines` and `flow`, which import torch."""

    weights: tuple[str, ...] = ()
    """[rgb=|flow=|audio=]FILE, a name of cia-extract weights list, auto or random; repeat. [default: kinetics for i3d]"""
    device: str = "auto"
    """auto, cpu, cuda, cuda:1, …"""
    engine: Literal["auto", "eager", "compiled", "openvino"] = "auto"
    """auto, eager, compiled or openvino."""
    precision: Literal["fp32", "tf32", "bf16", "fp16"] = "fp32"
    """fp32, tf32, bf16 or fp16."""
    batch: Annotated[int, Meta(ge=1, le=65536)] | None = None
    """Windows that go through the network at a time. [default: by device]"""
    deterministic: bool = False
    """The same bytes whatever else runs; slower."""
    flow_by: Literal["auto", "opencv", "torch"] = "auto"
    """What computes TV-L1: auto, opencv or torch."""
    flow_cache: Path | None = None
    """Folder that keeps TV-L1 flow, for other windows, frames or networks."""
    workers: Annotated[int, Meta(ge=1, le=1024)] | None = None
    """Processes for decoding and flow. [default: the cores]"""
    timeout: Annotated[float, Meta(ge=1, le=1e7)] = 600.0
    """Seconds without progress after which a clip is given up."""
    ray: str = ""
    """Spread over a Ray cluster: its address, or 'local'."""


@dataclass(frozen=True)
class Output:
    """Where to, and what is told."""

    out: Path = Path("feats.h5")
    """The feature file; a second dataset goes into the same one."""
    overwrite: bool = False
    """Extract this dataset again from nothing."""
    retry_failed: bool = False
    """Try clips again that failed before."""
    dry_run: bool = False
    """Say what would be extracted and how long it would take; make nothing."""
    as_json: Annotated[bool, "--json"] = False
    """One JSON object on stdout."""
    version: bool = False
    """Print the version."""


ON_A_TERMINAL: Final = ("dry_run", "as_json", "version")
"""Fields that ask for something to be printed in the place of work: no arguments of the command as a function."""
