"""What the training loop hands to objectives, and what it gets back."""

import dataclasses
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor
from torch.nn import functional as F

JOINT = "all"  # the stream of concatenated modalities


@dataclass(frozen=True)
class Output:
    """What one forward gives. A stream is "all" (★, concatenated modalities) or a modality (◇)."""

    head: str
    heads: tuple[int, ...]
    """Classes of each label."""
    frames: Mapping[str, Tensor]
    """{stream: [B, S, D]}, after the shared layer."""
    videos: Mapping[str, Tensor]
    """{stream: [B, D]}."""
    logits: Mapping[str, Tensor]
    """{stream: [B, ΣK]}, the labels' classes side by side."""
    consensus: Tensor | None = None
    """SC's maps [B, S, H, W], where the method has SC."""
    domain_logits: dict[str, Tensor] = field(default_factory=dict)
    """{level: [B, …, 2]} of discriminators inside the model; objectives add theirs."""

    def split(self, logits: Tensor) -> tuple[Tensor, ...]:
        """[B, ΣK] → one [B, K] a label."""
        return logits.split(self.heads, dim=1)

    def probabilities(self) -> tuple[Tensor, ...]:
        """[B, K] for each label. average: the mean of the streams' softmaxes ("averaging the outputs from each modality
        classifier"); sum: softmax of their logits' sum; blend: the joint stream's.
        """
        if self.head == "sum":
            streams = [torch.stack(list(self.logits.values())).sum(0)]
        else:
            streams = [self.logits[JOINT]] if JOINT in self.logits else list(self.logits.values())
        by_stream = [[part.softmax(1) for part in self.split(logits)] for logits in streams]
        return tuple(torch.stack(of_label).mean(0) for of_label in zip(*by_stream, strict=True))

    def class_losses(self, labels: Tensor) -> dict[str, Tensor]:
        """Cross-entropy of the first len(labels) clips by stream, mean over labels [B_s, L]."""
        streams = {"sum": torch.stack(list(self.logits.values())).sum(0)} if self.head == "sum" else self.logits
        return {
            stream: torch.stack(
                [F.cross_entropy(part[: len(labels)], labels[:, i]) for i, part in enumerate(self.split(logits))]
            ).mean()
            for stream, logits in streams.items()
        }

    def class_loss(self, labels: Tensor) -> Tensor:
        """Mean over streams."""
        return torch.stack(list(self.class_losses(labels).values())).mean()


@dataclass(frozen=True)
class Sizes:
    """What parts know of the data and of each other."""

    channels: Mapping[str, int]
    """{modality: C}."""
    grids: Mapping[str, tuple[int, int]]
    """{modality: (H, W)} of those whose maps are read; the others come as vectors."""
    heads: tuple[int, ...]
    """Classes of each label; one number but for verb and noun."""
    segments: int
    dropout: float
    frames: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """{stream: D} of the frame features, once the model is composed; for objectives."""
    videos: Mapping[str, int] = dataclasses.field(default_factory=dict)
    """{stream: D} of the clip features."""
    target_train_clips: int = 0
    shared_features: int = 512
    """Width of the layer that all methods share; 0: there is none."""
    normalise: bool = False
    """Whether features are centred and scaled before that layer and inside it."""


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
