"""Deep CORAL: the domains' covariances come together.

Sun and Saenko, "Deep CORAL: Correlation Alignment for Deep Domain Adaptation", ECCV Workshops 2016,
https://arxiv.org/abs/1607.01719 (eq. 1-3): ‖C_s − C_t‖²_F / (4d²), of the last layer, the class logits. TLL's variant (it adds
the distance of the means, takes the mean over entries and aligns features) is not this. The paper chooses the weight so that both
losses are alike at the end of training; here it is fixed.
"""

from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `coral`."""

    weight: float = 1.0
    """By what the distance of the covariances is multiplied in the total loss."""
    layer: Literal["logits", "features"] = "logits"
    """What is aligned: each label's class logits (the paper's), or the clip features, of which 4d² makes the loss very small."""


def covariance_distance(source: Tensor, target: Tensor) -> Tensor:
    """‖C_s − C_t‖²_F / (4d²), the covariances over n − 1: [B_s, d] and [B_t, d] → no dimension. 0 where a domain has one clip.

    >>> source, target = torch.tensor([[0.0, 0], [1, 0], [0, 1]]), torch.tensor([[1.0, 1], [2, 1], [1, 3]])
    >>> round(float(covariance_distance(source, target)), 6)
    0.065972
    """
    if min(len(source), len(target)) < 2:
        return source.sum() * 0
    with torch.autocast(source.device.type, enabled=False):  # 16 bits are too few for the difference of two covariances
        source_covariance, target_covariance = (torch.cov(x.float().T).reshape(x.shape[1], -1) for x in (source, target))
    return (source_covariance - target_covariance).square().sum() / (4 * source.shape[1] ** 2)


class Coral(Objective):
    """The distance of the covariances, the mean over streams (of logits: and over labels), times the weight."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over all B clips."""
        layers = list(output.videos.values())
        if self.options.layer == "logits":
            layers = [part for logits in output.logits.values() for part in output.split(logits)]
        loss = torch.stack([covariance_distance(x[~step.is_target], x[step.is_target]) for x in layers]).mean()
        return Term(self.options.weight * loss, {"coral_loss": loss.detach()})


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective, which is the same for all sizes."""
    return Coral(options)
