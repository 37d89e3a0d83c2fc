"""BSP: the largest singular value of a batch's features stays small, so that alignment does not use up what tells classes apart.

Chen, Wang, Long and Wang, "Transferability vs. Discriminability: Batch Spectral Penalization for Adversarial Domain Adaptation",
ICML 2019, http://proceedings.mlr.press/v97/chen19i.html: 2e-4 · (σ₁²(F_s) + σ₁²(F_t)), beside adversarial alignment. The rows of
F are the features of a domain's clips in the batch, not centred.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term
from cia_adapt.parts.ranges import Count


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `spectral_penalty`."""

    weight: float = 2e-4
    """By what the squared singular values are multiplied in the total loss."""
    singular_values: Count = 1
    """Number of each domain's largest singular values that are penalised."""


def spectral_penalty(features: Tensor, singular_values: int = 1) -> Tensor:
    """The sum of the largest squared singular values of features [B, D] → no dimension.

    >>> source, target = torch.tensor([[0.0, 0], [1, 0], [0, 1]]), torch.tensor([[1.0, 1], [2, 1], [1, 3]])
    >>> round(float(spectral_penalty(source) + spectral_penalty(target)), 4)
    16.0
    """
    features = features.float()
    if not torch.isfinite(features).all():
        return features.sum()  # no decomposition; the loop says what a loss that is not finite means
    return torch.linalg.svdvals(features)[:singular_values].square().sum()


class SpectralPenalty(Objective):
    """The penalties of source and target summed, the mean over streams, times the weight."""

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over all B clips."""
        penalties = [
            spectral_penalty(x[~step.is_target], self.options.singular_values)
            + spectral_penalty(x[step.is_target], self.options.singular_values)
            for x in output.videos.values()
        ]
        loss = torch.stack(penalties).mean()
        return Term(self.options.weight * loss, {"spectral_penalty": loss.detach()})


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective, which is the same for all sizes."""
    return SpectralPenalty(options)
