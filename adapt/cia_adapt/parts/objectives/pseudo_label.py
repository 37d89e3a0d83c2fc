"""Pseudo-labels between two samplings of a clip's frames, as FixMatch has them between two augmentations of an image.

Sohn et al., "FixMatch: Simplifying Semi-Supervised Learning with Consistency and Confidence", NeurIPS 2020,
https://arxiv.org/abs/2001.07685 (eq. 4). The label of a target clip is the class that the method predicts at one sampling,
without gradient, where its probability is above τ; the cross-entropy with it is taken at the other sampling. τ and the mean over
all clips are those of thuml/Transfer-Learning-Library@c4aa59e, `self_training/`; the mean over the labelled clips alone is
TranSVAE's, which has τ = 0.93 for U→H and 0.96 for H→U (CoMix has 0.7).

With a teacher (`teacher = "average"`, and `--average 0.99`) the average of the weights labels, without dropout, as in Tarvainen
and Valpola, "Mean teachers are better role models", NIPS 2017, https://arxiv.org/abs/1703.01780; it is what is evaluated, too.

RECONSTRUCTED: both views are equally strong, other frames and another dropout.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor
from torch.nn import functional as F

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term
from cia_adapt.parts.ranges import Share


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `pseudo_label`."""

    weight: float = 1.0
    """By what the cross-entropy with the pseudo-labels is multiplied in the total loss."""
    threshold: Share = 0.9
    """τ: a target clip gets a pseudo-label where its largest probability is above this, 0 … 1."""
    start: Share = 0.0
    """The share of the training's steps, 0 … 1, before which no clip has a pseudo-label."""
    over: Literal["all", "labelled"] = "all"
    """Whether the loss is the mean over all target clips, those without a label counting 0, or over the labelled ones."""
    teacher: Literal["model", "average"] = "model"
    """What labels: the model itself, or the average of its weights, which then needs `--average`."""


def pseudo_label_loss(
    logits: Tensor, probabilities: Tensor, threshold: float, over: Literal["all", "labelled"] = "all"
) -> tuple[Tensor, Tensor]:
    """The cross-entropy with the pseudo-labels in nats, 0 where there is none, and the share of clips that have one, 0 … 1.

    Args:
        logits: [B_t, K], of the view that learns.
        probabilities: [B_t, K], of the view that labels; they get no gradient.

    >>> z = torch.tensor([[2.0, 0, 0], [0, 1, -1], [0.5, 0.5, 0]])
    >>> [round(float(pseudo_label_loss(z, z.softmax(1), 0.7, over)[0]), 6) for over in ("all", "labelled")]
    [0.079848, 0.239545]
    """
    confidence, labels = probabilities.detach().max(1)
    labelled = (confidence > threshold).to(logits.dtype)  # [B_t]
    total = (F.cross_entropy(logits, labels, reduction="none") * labelled).sum()
    return total / (len(labelled) if over == "all" else labelled.sum().clamp_min(1)), labelled.mean()


class PseudoLabel(Objective):
    """The loss on the target's clips, the mean over streams and labels, times the weight. All streams learn the same label."""

    second_view = True

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options
        self.teacher = options.teacher == "average"

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over the B_t target clips; metrics: the loss, and the share of them with a pseudo-label in %."""
        assert step.second is not None
        by_label = [p[step.is_target] for p in (step.teacher or output).probabilities()]
        pairs = [
            pseudo_label_loss(part[step.is_target], p, self.options.threshold, self.options.over)
            for logits in step.second.logits.values()
            for part, p in zip(step.second.split(logits), by_label, strict=True)
        ]
        loss, share = (torch.stack(column).mean() * (step.progress >= self.options.start) for column in zip(*pairs, strict=True))
        return Term(self.options.weight * loss, {"pseudo_label_loss": loss.detach(), "pseudo_labelled": 100 * share.detach()})


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective, which is the same for all sizes."""
    return PseudoLabel(options)
