"""What the training loop hands to objectives, and what it gets back."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

from torch import Tensor

from cia_adapt.model import Output


@dataclass(frozen=True)
class Step:
    """One batch: B_s source clips, then B − B_s target clips. Nothing here comes from a target label."""

    labels: Tensor
    """[B_s, L] int64, the source's, one column a label (L = 1 but for verb and noun)."""
    is_target: Tensor
    """[B] bool."""
    target_positions: Tensor
    """[B − B_s] int64: which of the target's training clips."""
    progress: Tensor
    """p, the share of steps done, 0 … 1, no dimension."""
    second: Output | None = None
    """The same clips at other frames, for objectives with `second_view`."""


@runtime_checkable
class Clusters(Protocol):
    """An objective that is shown the features of all training clips before each epoch."""

    def cluster(self, source: Tensor, labels: Tensor, target: Tensor) -> None: ...


@runtime_checkable
class Grows(Protocol):
    """An objective whose λ grows while it trains, and with it that of the discriminators inside the model."""

    def growth(self, progress: Tensor) -> Tensor: ...


@dataclass(frozen=True)
class Term:
    """A loss to be added, and numbers for the record (tensors of no dimension)."""

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)
