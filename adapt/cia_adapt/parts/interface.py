"""What the training loop hands to objectives, and what it gets back."""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional as F

BETA1: Final = 0.9  # Adam's β₁, unless an objective says otherwise
JOINT = "all"  # the stream of concatenated modalities
Positions = npt.NDArray[np.int64]  # of clips among those of a set


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
    raw: Mapping[str, Tensor] = field(default_factory=dict)
    """{stream: [B, S, D]}, `frames` as the shared layer computes them before it normalises them, and before ReLU and dropout."""
    latents: Mapping[str, Mapping[str, Tensor]] = field(default_factory=dict)
    """{stream: {name: tensor}}, what else a temporal part leaves for an objective of its own, in training."""

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

    def class_losses(self, labels: Tensor, smoothing: float = 0.0) -> dict[str, Tensor]:
        """Cross-entropy, with label smoothing, of the first len(labels) clips by stream: the mean over labels [B_s, L]."""
        streams = {"sum": torch.stack(list(self.logits.values())).sum(0)} if self.head == "sum" else self.logits
        return {
            stream: torch.stack(
                [
                    F.cross_entropy(part[: len(labels)], labels[:, i], label_smoothing=smoothing)
                    for i, part in enumerate(self.split(logits))
                ]
            ).mean()
            for stream, logits in streams.items()
        }

    def class_loss(self, labels: Tensor, smoothing: float = 0.0) -> Tensor:
        """Mean over streams."""
        return torch.stack(list(self.class_losses(labels, smoothing).values())).mean()


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
    """p, the share of the phase's steps that are done, 0 … 1, no dimension."""
    second: Output | None = None
    """The same clips at other frames, for objectives with `second_view`."""
    teacher: Output | None = None
    """What the average of the weights says of the clips, without dropout and gradient, for objectives with `teacher`."""
    smoothing: float = 0.0
    """ε, the set-up's label smoothing, for every cross-entropy with the source's labels."""


@dataclass(frozen=True)
class Term:
    """A loss to be added, and numbers for the record (tensors of no dimension)."""

    loss: Tensor
    metrics: Mapping[str, Tensor] = field(default_factory=dict)


Losses = Mapping[str, tuple[float, float]]
"""{stream: (mean class loss on the clips that were trained on, on those held out)}."""


class Pilot(Protocol):
    """A pilot run: training on a part of the source, with the task loss alone, before the real run."""

    def __call__(self, kept: Positions, held: Positions, epochs: int) -> tuple[Losses, Losses]:
        """Train on the source clips `kept`. → the losses on `kept` and `held` before the first epoch and after the last."""


@dataclass(frozen=True)
class Described:
    """All training clips of a domain, N, as the model sees them now, at their centre frames."""

    features: Tensor
    """[N, D]: the streams' clip features side by side."""
    probabilities: tuple[Tensor, ...]
    """[N, K] for each label."""
    logits: Mapping[str, Tensor] = field(default_factory=dict)
    """{stream: [N, ΣK]}, the labels' classes side by side."""


Reach = Literal["everything", "all_but_pooling", "shared"]
"""How far back the gradient of a loss goes: to all parameters, to all but the pooling's, or to those after the pooling only."""


@dataclass(frozen=True, kw_only=True)
class Reaching:
    """Settings of an objective whose gradient can be kept out of the parts before the shared layer."""

    reaches: Reach = "everything"
    """What the gradient trains: everything, all_but_pooling, or shared, the shared layer and what comes after it."""


class Objective(nn.Module, ABC):
    """A loss beside the source's cross-entropy, and what the training loop may ask of it. A plain one has `forward` only."""

    reaches: Reach = "everything"
    """What its gradient trains; discriminators inside the model are trained in any case."""
    lr_factor: float = 1.0
    """By what the learning rate of its own parameters is multiplied, and that of discriminators inside the model, whose loss it
    then has.
    """
    beta1: float = BETA1
    """Adam's β₁ for the same parameters."""

    second_view: bool = False
    """Whether `Step.second` shall hold the same clips at other frames."""
    replaces_class_loss: bool = False
    """Whether the loss takes the place of the source's cross-entropy."""
    teacher: bool = False
    """Whether `Step.teacher` shall hold what the average of the weights (`--average`) says of the first view."""
    source_free: bool = False
    """Whether it trains alone and on the target alone, in a second phase. The first trains on the source without it, and no
    training clip of the source is read afterwards: there is no task loss then.
    """
    freezes: tuple[str, ...] = ()
    """Where `source_free`: the parts of the model, such as `classifiers`, that stay as the first phase left them."""
    clusters: bool = False
    """Whether `cluster`, or where `source_free` `relabel`, is called before each epoch that it trains in."""
    pilot_epochs: int = 0
    """Epochs of the pilot run that `prepare` asks for."""

    def check_labels(self, labels: Sequence[Hashable], domain: str) -> None:
        """Raise DataError where the method cannot work with these labels of the domain's training clips."""

    def prepare(self, labels: npt.NDArray[np.int64], random: np.random.Generator, pilot: Pilot) -> None:
        """Called once, before the first epoch, with the first label [N_s] of the source's training clips."""

    def cluster(self, source: Described, labels: Tensor, target: Described) -> None:
        """Called before each epoch, with the first label [N_s] of the source's training clips."""

    def relabel(self, target: Described) -> None:
        """Called before each epoch of the second phase, with what the model, or its average, says of the target's clips."""

    def growth(self, progress: Tensor) -> Tensor | None:
        """What λ is multiplied by at p, also that of discriminators inside the model; None: nothing grows."""
        return None

    @abstractmethod
    def forward(self, output: Output, step: Step) -> Term:
        """The loss of one batch."""
