"""MCD: two classifiers differ on the target as far as the source's labels let them; the features make them agree.

Saito, Watanabe, Ushiku and Harada, "Maximum Classifier Discrepancy for Unsupervised Domain Adaptation", CVPR 2018,
https://arxiv.org/abs/1712.02560 (§3.3; the discrepancy is the mean of |p₁ − p₂| over classes).

RECONSTRUCTED: the paper alternates three steps: (A) features and both classifiers learn the source; (B) the classifiers learn the
source and differ on the target; (C) the features, four times, make them agree. Here all are one step: the classifiers' loss is
their cross-entropy minus their discrepancy, and a gradient reversal before the target's features turns the sign of the latter for
them. λ takes the place of the number of repetitions. Both classifiers (FC, ReLU, FC for all labels, one pair for each stream) are
this objective's own and stand beside the method's classifier, which predicts.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term
from cia_adapt.parts.layers.gradient_reversal import ramp, reverse_gradient
from cia_adapt.parts.layers.heads import two_layers

REVERSED: Final = ("strength",)


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `classifier_discrepancy`."""

    strength: float = 1.0
    """λ, by which the reversed gradient of the discrepancy is multiplied at full growth."""
    ramp: float = 10.0
    """How fast λ grows from 0: its factor at the share p of steps is 2/(1 + e^(−ramp·p)) − 1; 0: always 1."""
    weight: float = 1.0
    """By what the discrepancy is multiplied beside the classifiers' cross-entropy on the source."""
    hidden: int = 0
    """Width of the two classifiers' hidden layer; 0 makes it as wide as its input."""


def classifier_discrepancy(first: Tensor, second: Tensor) -> Tensor:
    """Mean over clips and classes of |p₁ − p₂|: both classifiers' logits [B_t, K] → no dimension.

    >>> first, second = torch.tensor([[0.0, 0]]), torch.tensor([[0.0, 100]])
    >>> classifier_discrepancy(first, second)
    tensor(0.5000)
    """
    return (first.softmax(1) - second.softmax(1)).abs().mean()


class ClassifierDiscrepancy(Objective):
    """Two classifiers for each stream.

    Args:
        widths: {stream: D} of the clip features.
        classes: ΣK, of all labels.
    """

    def __init__(self, widths: Mapping[str, int], classes: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.first, self.second = (
            nn.ModuleDict({stream: two_layers(width, options.hidden, classes) for stream, width in widths.items()})
            for _ in range(2)
        )

    def forward(self, output: Output, step: Step) -> Term:
        """Both classifiers' cross-entropies on the source minus the weighted discrepancy on the target, the mean over streams and
        labels; metrics: mean cross-entropy, discrepancy, and λ as it now is.
        """
        reversal = self.options.strength * ramp(step.progress, self.options.ramp)
        class_losses, discrepancies = [], []
        for stream, features in output.videos.items():
            source, target = features[~step.is_target], reverse_gradient(features[step.is_target], reversal)
            pair = self.first[stream], self.second[stream]
            for classify in pair:
                for label, logits in enumerate(output.split(classify(source))):
                    class_losses.append(F.cross_entropy(logits, step.labels[:, label], label_smoothing=step.smoothing))
            first, second = (output.split(classify(target)) for classify in pair)
            discrepancies += [classifier_discrepancy(a, b) for a, b in zip(first, second, strict=True)]
        class_loss, discrepancy = torch.stack(class_losses).mean(), torch.stack(discrepancies).mean()
        metrics = {"two_classifiers_loss": class_loss.detach(), "classifier_discrepancy": discrepancy.detach()}
        metrics["discrepancy_reversal"] = reversal
        return Term(2 * class_loss - self.options.weight * discrepancy, metrics)


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model whose clip features have these sizes."""
    return ClassifierDiscrepancy(sizes.videos, sum(sizes.heads), options)
