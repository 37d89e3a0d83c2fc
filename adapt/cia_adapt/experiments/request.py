"""What one invocation of `cia-adapt` asks for, and one direction of it."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

import torch
from cia_extract.networks.weights import Weights

from cia_adapt.config import Chosen, Method, Setup
from cia_adapt.data import Domain, Tier, name_of
from cia_adapt.footage import Footage


def counted(number: int, noun: str) -> str:
    """A number and its noun, for messages.

    >>> counted(1, "seed"), counted(2, "seed")
    ('1 seed', '2 seeds')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


@dataclass(frozen=True, kw_only=True)
class Request:
    """One method over one feature file or over clips: which directions and seeds, and how they are computed."""

    features: Path | None = None
    """The feature file."""
    footage: Footage | None = None
    """Clips in its place."""
    chosen: Chosen
    """The set-up and the method."""
    sources: tuple[str, ...] = ()
    """The labelled domain, or several that train together; empty: every one in turn."""
    target: str | None = None
    """The domain that is adapted to; None: every other one."""
    modalities: tuple[str, ...] = ()
    """Empty: all that both domains have."""
    mapping: tuple[str, ...] = ()
    """`--map` entries: where a foreign file has its arrays."""
    manifests: tuple[str, ...] = ()
    """`--manifest` entries: labels and splits in place of the file's."""
    seeds: tuple[int, ...] = (0,)
    runs: Path = Path("runs")
    """Folder that runs are written below."""
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    precision: Literal["fp32", "bf16"] = "fp32"
    compiled: bool = False
    tier: Tier | None = None
    """Where features are read from; None: chosen by what is free."""
    validators: bool = True
    """Whether the label-free validators are computed after each epoch."""
    overwrite: bool = False
    """Train again what is finished."""
    resume: bool = False
    """Go on with what was interrupted."""
    keep_state: bool = True
    """Keep what a finished run needs to go on."""
    tensorboard: bool = False
    """Write the metrics for TensorBoard too."""
    checkpointing: bool = False
    """Compute the backbone's activations again for the gradient."""

    @property
    def where(self) -> str:
        """What the domains are read from, for messages."""
        return str(self.features) if self.footage is None else f"--clips {' '.join(self.footage.clips)}"

    @property
    def source(self) -> str:
        """The name of the sources in runs."""
        return name_of(self.sources)


@dataclass(frozen=True)
class Direction:
    """One source → target of a request."""

    source: Domain
    target: Domain
    modalities: tuple[str, ...]
    method: Method
    """With what it says of this direction."""
    setup: Setup
    """The request's, with no more segments than the file has frames of a clip."""
    weights: Mapping[str, Weights] = field(default_factory=dict)
    """{modality: the backbone's first weights}, where clips train it."""

    @property
    def teacher(self) -> Domain:
        """The domain whose labels train."""
        return self.target if self.method.supervision == "target" else self.source
