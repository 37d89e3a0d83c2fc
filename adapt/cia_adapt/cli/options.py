"""The flags that commands of `cia-adapt` share, in groups: which features, on which machine, and what becomes of the runs."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Final, Literal

from cia_extract.common import machine
from cia_extract.common.flags import Changes
from msgspec import Meta

from cia_adapt import config, parts

SetupChanges = Annotated[dict[str, Any], Changes((config.Setup,), default="as set up")]
SetupAndMethodChanges = Annotated[dict[str, Any], Changes((config.Setup, config.Method), default="as set up")]

_PARTS: Final = {kind.upper(): ", ".join(parts.names(kind)) for kind in parts.KINDS}
WORDS: Final = _PARTS | {"SETUPS": ", ".join(config.names("setups"))}
"""{word of the docstrings, here and in `config`: the names that the help has in its place}."""


@dataclass(frozen=True)
class Data:
    """Which features of which domains."""

    features: Path | None = None
    """The feature file of cia-extract, or any HDF5 file with --map."""
    source: tuple[str, ...] = ()
    """Labelled domain; repeat to train on several together. [default: every one in turn]"""
    target: str | None = None
    """Unlabelled domain. [default: every other one]"""
    modality: tuple[str, ...] = ()
    """Use only this modality of the features; repeat. [default: all]"""
    manifest: tuple[str, ...] = ()
    """[DOMAIN=]FILE: labels and splits of this CSV instead of the file's; repeat."""
    mapping: Annotated[tuple[str, ...], "--map"] = ()
    """DOMAIN/NAME=PATH: where an array lies in an HDF5 file of another tool; repeat."""


@dataclass(frozen=True)
class Frames:
    """Which clips, in place of features, and how their frames are read."""

    clips: tuple[str, ...] = ()
    """[NAME=]MANIFEST.csv of clips, for a backbone that is trained too, or a dataset of cia-extract (e55, demo, …), in place
    of --features; repeat.
    """
    root: Path | None = None
    """Folder that the clips' paths are relative to. [default: the manifest's]"""
    frame_cache: Path = Path("frame-cache")
    """Folder that keeps the decoded frames and their flow."""
    flow: Literal["tvl1", "dis"] = "tvl1"
    """How flow is computed where the manifest names none: tvl1, or dis (fast, an approximation)."""
    workers: Annotated[int, Meta(ge=0, le=1024)] = 0
    """Processes that decode clips; 0: as many as cores."""

    @property
    def processes(self) -> int:
        """That decode."""
        return self.workers or machine.cores()


@dataclass(frozen=True)
class Footage(Frames):
    """Which clips, and the backbone that is trained on them."""

    weights: tuple[str, ...] = ()
    """The first weights, as of cia-extract: kinetics, auto, random, FILE or MODALITY=FILE; repeat. [default: kinetics]"""
    checkpointing: bool = False
    """Compute the backbone's activations again for the gradient: a fraction of the memory, a third more time."""


@dataclass(frozen=True)
class Device:
    """Performance: what computes."""

    device: str = "auto"
    """auto, cpu, cuda, cuda:1, …"""
    precision: Literal["fp32", "bf16"] = "fp32"
    """fp32, or bf16 (faster on CPUs with AMX and on GPUs)."""


@dataclass(frozen=True)
class Machine(Device):
    """Performance: what computes, and how."""

    compiled: Annotated[bool, "--compile"] = False
    """Compile the model (CUDA graphs on a GPU); takes a while first."""
    tier: Literal["auto", "device", "ram", "map"] = "auto"
    """Where features are read from: auto, device, ram, map."""


@dataclass(frozen=True)
class Trained:
    """What to train."""

    setup: str = "uh"
    """Protocol and optimiser: SETUPS, or a file that ends in .toml."""
    method: str = "cia"
    """A name that `cia-adapt methods` lists, or a file that ends in .toml."""
    settings: Annotated[tuple[str, ...], "--set"] = ()
    """A setting of a part, for example sc.scales=2; repeat. See cia-adapt methods NAME."""
    seeds: Annotated[int, Meta(ge=1, le=10_000)] = 1
    """Train with seeds 0 … n−1."""
    runs: Path = Path("runs")
    """Folder for the runs."""


@dataclass(frozen=True)
class Runs(Trained):
    """What becomes of the runs."""

    validators: bool = True
    """Compute the label-free validators after each epoch."""
    keep_state: bool = True
    """Keep what a finished run needs to go on (3 × the model)."""
    tensorboard: bool = False
    """Also write the metrics of each epoch into the run's folder for TensorBoard."""
    overwrite: bool = False
    """Train finished runs again."""
    as_json: Annotated[bool, "--json"] = False
    """One JSON object on stdout."""


ON_A_TERMINAL: Final = ("dry_run", "as_json", "version")
"""Fields that ask for something to be printed in the place of work: no arguments of the command as a function."""
