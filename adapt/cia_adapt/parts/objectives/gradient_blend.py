"""G-Blend: one classifier a modality and one on all, their losses weighed by how much they generalise and overfit.

Wang, Tran and Feiszli, "What Makes Training Multi-modal Classification Networks Hard?", CVPR 2020, https://arxiv.org/abs/1905.12681
(§3, offline). Between two checkpoints, on a part of the source that is held out for it:

    G_k = L_k^val(0) − L_k^val(n);   O_k = (L^val − L^train)(n) − (L^val − L^train)(0);   w_k = (G_k / O_k²) / Σ_j (G_j / O_j²)

Feature-level: of each stream the shared layer and the classifier are trained, the networks below are frozen; so overfitting is
not that of the original. A stream that does not generalise gets no weight; overfitting below `LEAST` is taken for it. Predictions
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

from cia_adapt.parts.interface import JOINT, Losses, Objective, Output, Positions, Sizes, Step, Term, Trial
from cia_adapt.parts.registry import check_positive

LEAST: Final = 0.05  # nats


@dataclass(frozen=True)
class Options:
    """Of the estimate."""

    epochs: int = 10
    """n, of the trial with equal weights."""
    held_out: float = 0.2
    """Share of the source's training clips, class by class, that the trial does not train on."""


class GradientBlend(Objective):
    """The weighted cross-entropies; `prepare` finds the weights. Raises UsageError without `--head blend`."""

    replaces_class_loss = True
    weights: Tensor

    def __init__(self, streams: tuple[str, ...], options: Options) -> None:
        super().__init__()
        if JOINT not in streams or len(streams) < 3:
            raise UsageError("gradient_blend: needs --head blend and two modalities")
        self.streams, self.options, self.trial_epochs = streams, options, options.epochs
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

    def prepare(self, labels: Positions, random: np.random.Generator, trial: Trial) -> None:
        """The weights, from a trial on a part of the source. The target takes no part."""
        kept, held = hold_out(labels, self.options.held_out, random)
        self.set_weights(blend_weights(*trial(kept, held, self.options.epochs)))

    def set_weights(self, weights: Mapping[str, float]) -> None:
        self.weights.copy_(torch.tensor([weights[s] for s in self.streams]))

    def forward(self, output: Output, step: Step) -> Term:
        losses = output.class_losses(step.labels)
        total = torch.stack([w * losses[s] for s, w in zip(self.streams, self.weights, strict=True)]).sum()
        return Term(total, {f"blend_{s}": w for s, w in zip(self.streams, self.weights, strict=True)})


def blend_weights(before: Losses, after: Losses) -> dict[str, float]:
    """w_k from the losses at two checkpoints; equal weights where no stream generalises.

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
    """{stream: (G, O)}: how much the held-out loss fell, and how much the gap to the training loss grew."""
    found = {}
    for stream, (train_0, val_0) in before.items():
        train_n, val_n = after[stream]
        found[stream] = val_0 - val_n, (val_n - train_n) - (val_0 - train_0)
    return found


def hold_out(labels: np.ndarray, share: float, random: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and to hold out, class by class; every class keeps one to train on."""
    held = []
    for k in np.unique(labels):
        members = random.permutation(np.flatnonzero(labels == k))
        held.append(members[: min(round(share * len(members)), len(members) - 1)])
    out = np.sort(np.concatenate(held))
    return np.setdiff1d(np.arange(len(labels)), out), out


def needs_target(options: Options) -> bool:
    return False


def build(sizes: Sizes, options: Options) -> Objective:
    check_positive("gradient_blend", options, "epochs", "held_out")
    return GradientBlend(tuple(sizes.videos), options)
