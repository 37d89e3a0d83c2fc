"""MCC: classes that the classifier confuses with each other on the target are told apart.

Jin, Wang, Long and Wang, "Minimum Class Confusion for Versatile Domain Adaptation", ECCV 2020, https://arxiv.org/abs/1912.03699
(§3). Numbers as in thuml/Transfer-Learning-Library@c4aa59e, `self_training/mcc.py`: T = 2.5, weight 1. The paper trains its
network end to end; here the loss acts on the classifiers over frozen features.
"""

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional as F

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term
from cia_adapt.parts.layers.entropy import certainty_weights
from cia_adapt.parts.ranges import Positive


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `class_confusion`."""

    weight: float = 1.0
    """By what the confusion is multiplied in the total loss."""
    temperature: Positive = 2.5
    """T, which divides the target's logits; above 1 it brings out classes that come second."""


def class_confusion(logits: Tensor, temperature: float) -> Tensor:
    """Share of the confusion between different classes, 0 … 1: the target's logits [B_t, K] → no dimension.

    >>> logits = torch.tensor([[2.0, 0, 0], [0, 1, -1], [0.5, 0.5, 0]])
    >>> [round(float(class_confusion(logits, temperature)), 6) for temperature in (1.0, 2.5)]
    [0.572343, 0.649486]
    """
    with torch.autocast(logits.device.type, enabled=False):  # 16 bits are too few for a sum over clips
        scaled = logits / temperature
        p = scaled.softmax(1)  # [B_t, K]
        confusion = (certainty_weights(scaled)[:, None] * p).T @ p  # [K, K]
    by_class = F.normalize(confusion, p=1, dim=1)  # each row sums to 1
    return (by_class.sum() - by_class.trace()) / len(confusion)


class ClassConfusion(Objective):
    """The confusion of the target's clips, the mean over streams and labels, times the weight."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over the B_t target clips of the batch."""
        confusions = [
            class_confusion(part[step.is_target].float(), self.options.temperature)
            for logits in output.logits.values()
            for part in output.split(logits)
        ]
        loss = torch.stack(confusions).mean()
        return Term(self.options.weight * loss, {"class_confusion": loss.detach()})


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective, which is the same for all sizes."""
    return ClassConfusion(options)
