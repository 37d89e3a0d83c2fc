"""G-Blend: a classifier for each modality and one on all; their losses are weighed by how much each generalises and overfits.

Wang, Tran and Feiszli, "What Makes Training Multi-modal Classification Networks Hard?", CVPR 2020, https://arxiv.org/abs/1905.12681
(§3, offline). Between two checkpoints, on a part of the source that is held out for the estimate:

    G_k = L_k^val(0) − L_k^val(n);   O_k = (L^val − L^train)(n) − (L^val − L^train)(0);   w_k = (G_k / O_k²) / Σ_j (G_j / O_j²)

Feature-level: a stream's shared layer and classifier are trained, the network below is frozen; so its overfitting is not that of
the original. A stream that does not generalise gets the weight 0. Overfitting O_k below `LEAST` counts as `LEAST`. Predictions
are the joint classifier's.
"""

from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import torch
from cia_extract.common.errors import DataError, UsageError
from torch import Tensor

from cia_adapt.parts.interface import JOINT, Losses, Objective, Output, Pilot, Positions, Sizes, Step, Term
from cia_adapt.parts.ranges import Count, SomeShare

LEAST: Final = 0.05  # nats


@dataclass(frozen=True)
class Options:
    """Settings of the objective `gradient_blend`."""

    epochs: Count = 10
    """n, the number of epochs of the pilot run, with equal weights, from which the weights are estimated."""
    held_out: SomeShare = 0.2
    """Share, above 0 and at most 1, of each class's source training clips that the pilot run does not train on."""


class GradientBlend(Objective):
    """The streams' cross-entropies, weighed; they replace the model's class loss. Weights are equal until a pilot run sets them.

    Args:
        streams: names of the streams, "all" (joint) and two or more modalities.

    Raises:
        UsageError: the model has no joint stream (`--head blend`), or one modality only.
    """

    replaces_class_loss = True
    weights: Tensor

    def __init__(self, streams: tuple[str, ...], options: Options) -> None:
        super().__init__()
        if JOINT not in streams or len(streams) < 3:
            raise UsageError(
                "gradient_blend: blends the losses of a joint head and of a head for each modality; it needs "
                "--head blend and two modalities"
            )
        self.streams, self.options, self.pilot_epochs = streams, options, options.epochs
        self.register_buffer("weights", torch.full((len(streams),), 1 / len(streams)))

    def check_labels(self, labels: Sequence[Hashable], domain: str) -> None:
        """Raise DataError where no class has clips enough for one to be held out."""
        largest, share = max(Counter(labels).values()), self.options.held_out
        if largest < 2 or not round(share * largest):
            advice = "it needs two clips or more" if largest < 2 else "--set gradient_blend.held_out=0.5"
            raise DataError(
                f"gradient_blend: holds out {share:.0%} of each class, and no class of '{domain}' has enough training clips; "
                f"{advice}"
            )

    def prepare(self, labels: Positions, random: np.random.Generator, pilot: Pilot) -> None:
        """Set the weights by a pilot run on a part of the source. The target takes no part."""
        kept, held = hold_out(labels, self.options.held_out, random)
        self.set_weights(blend_weights(*pilot(kept, held, self.options.epochs)))

    def set_weights(self, weights: Mapping[str, float]) -> None:
        """Weigh the streams' losses from now on by `weights`, {stream: w_k}."""
        self.weights.copy_(torch.tensor([weights[s] for s in self.streams]))

    def forward(self, output: Output, step: Step) -> Term:
        """Σ_k w_k · cross-entropy of stream k, with label smoothing, on the source's clips; metrics: the weights w_k."""
        losses = output.class_losses(step.labels, step.smoothing)
        total = torch.stack([w * losses[s] for s, w in zip(self.streams, self.weights, strict=True)]).sum()
        return Term(total, {f"blend_{s}": w for s, w in zip(self.streams, self.weights, strict=True)})


def blend_weights(before: Losses, after: Losses) -> dict[str, float]:
    """{stream: w_k}, which sum to 1, from the losses at two checkpoints; equal weights where no stream generalises.

    >>> before = {"a": (2.0, 2.1), "b": (2.2, 2.3), "c": (1.8, 2.0)}
    >>> after = {"a": (0.5, 1.0), "b": (1.0, 1.3), "c": (0.2, 0.8)}
    >>> {k: round(w, 4) for k, w in blend_weights(before, after).items()}
    {'a': 0.1746, 'b': 0.6349, 'c': 0.1905}
    """
    gains = generalisation_and_overfitting(before, after)
    scores = {stream: max(g, 0.0) / max(o, LEAST) ** 2 for stream, (g, o) in gains.items()}
    total = sum(scores.values())
    return {stream: score / total if total else 1 / len(scores) for stream, score in scores.items()}


def generalisation_and_overfitting(before: Losses, after: Losses) -> dict[str, tuple[float, float]]:
    """{stream: (G, O)} in nats: by how much the held-out loss fell, and by how much its gap to the training loss grew."""
    gains = {}
    for stream, (train_0, val_0) in before.items():
        train_n, val_n = after[stream]
        gains[stream] = val_0 - val_n, (val_n - train_n) - (val_0 - train_0)
    return gains


def hold_out(labels: np.ndarray, share: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """(positions to train on, positions to hold out) of clips with these labels [N]; `share` of each class is held out.

    Every class keeps at least one clip to train on.
    """
    held_out_of_classes = []
    for k in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == k))
        held_out_of_classes.append(members[: min(round(share * len(members)), len(members) - 1)])
    held_out = np.sort(np.concatenate(held_out_of_classes))
    return np.setdiff1d(np.arange(len(labels)), held_out), held_out


def needs_target(options: Options) -> bool:
    """False: the objective looks at source clips only, whatever the settings."""
    return False


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model with these streams. Raises UsageError as `GradientBlend` does."""
    return GradientBlend(tuple(sizes.videos), options)
