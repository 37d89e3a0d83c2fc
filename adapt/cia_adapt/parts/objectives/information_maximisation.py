"""Information maximisation: the target's predictions are certain, and together they use all classes.

Krause, Perona and Gomes, "Discriminative Clustering by Regularized Information Maximization", NIPS 2010; Liang, Hu and Feng, "Do
We Really Need to Access the Source Data?", ICML 2020, https://arxiv.org/abs/2002.08546 (SHOT, §3.2; weights as in
tim-learn/SHOT@f7d555a). Here the source's cross-entropy goes on beside it, and the classifier is not frozen: SHOT itself trains
in two phases, and its pseudo-labels are not part of this loss.
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term
from cia_adapt.parts.layers.entropy import entropy

MINIMISES: Final = ("im", "entropy")


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `information_maximisation`."""

    weight: float = 1.0
    """By what certainty and diversity together are multiplied in the total loss."""
    diversity: float = 1.0
    """By what the entropy of the mean prediction is multiplied beside the mean entropy; 0 is entropy minimisation."""


def information_maximisation(logits: Tensor, diversity: float = 1.0) -> tuple[Tensor, Tensor]:
    """mean H(p) − diversity · H(mean p), and H(mean p): the target's logits [B_t, K] → two of no dimension, in nats.

    >>> loss, spread = information_maximisation(torch.tensor([[2.0, 0, 0], [0, 1, -1], [0.5, 0.5, 0]]))
    >>> round(float(loss), 6), round(float(spread), 6)
    (-0.14265, 1.000096)
    """
    spread = entropy(logits.log_softmax(1).logsumexp(0))  # the softmax of the logs' log-sum is the mean of the softmaxes
    return entropy(logits).mean() - diversity * spread, spread


class InformationMaximisation(Objective):
    """The loss on the target's clips, the mean over streams and labels, times the weight."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over the B_t target clips of the batch; metrics: the loss, and the entropy of the mean prediction."""
        pairs = [
            information_maximisation(part[step.is_target], self.options.diversity)
            for logits in output.logits.values()
            for part in output.split(logits)
        ]
        loss, spread = (torch.stack(column).mean() for column in zip(*pairs, strict=True))
        metrics = {"information_maximisation_loss": loss.detach(), "prediction_diversity": spread.detach()}
        return Term(self.options.weight * loss, metrics)


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective, which is the same for all sizes."""
    return InformationMaximisation(options)
