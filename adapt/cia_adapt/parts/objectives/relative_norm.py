"""RNA: in each domain the modalities' features have the same mean norm, so that none drowns the others.

Planamente, Plizzari, Alberti and Caputo, "Domain Generalization through Audio-Visual Relative Norm Alignment in First Person
Action Recognition", WACV 2022, https://arxiv.org/abs/2110.10101, and the same group's entries to the EPIC-KITCHENS-100 challenge
of 2021 and 2022. The weight is not confirmed: here it is 1.

RECONSTRUCTED, feature-level: the paper takes the norms of what its backbones put out. Ours are frozen, so their norms cannot be
aligned; the first features that can are those of each modality's shared layer. They are taken before that layer's own
normalisation, after a ReLU, as the mean over frames. Under `--normalise` what enters the layer has been normalised, and the layer
gives all frames one norm afterwards, so what the classifier sees is hardly changed by this loss. With `--shared-features 0` there
is no such layer: the loss then trains refinement and pooling, or nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import combinations
from typing import Final

import torch
from cia_extract.common.errors import UsageError
from torch import Tensor
from torch.nn import functional as F

from cia_adapt.parts.interface import JOINT, Objective, Output, Reaching, Sizes, Step, Term

LEAST: Final = 1e-6  # of the norm that is divided by


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `relative_norm`."""

    weight: float = 1.0
    """By what the squared excess of one modality's mean norm over another's is multiplied in the total loss."""


def relative_norm(first: Tensor, second: Tensor) -> Tensor:
    """(E‖f_a‖ / E‖f_b‖ − 1)² of two modalities' features [B, D] in one domain → no dimension.

    >>> first, second = torch.tensor([[3.0, 4], [5, 0]]), torch.tensor([[1.0, 0], [0, 3]])
    >>> float(relative_norm(first, second)), round(float(relative_norm(second, first)), 6)
    (2.25, 0.36)
    """
    return (first.norm(dim=1).mean() / second.norm(dim=1).mean().clamp_min(LEAST) - 1).square()


class RelativeNorm(Objective):
    """The loss summed over both domains and all pairs of modalities, in the order in which the run names them, times the weight.

    Raises:
        UsageError: there is one modality only, or no stream for each.
    """

    def __init__(self, streams: Sequence[str], weight: float) -> None:
        super().__init__()
        self.modalities = tuple(stream for stream in streams if stream != JOINT)
        if len(self.modalities) < 2:
            raise UsageError(
                "relative_norm: compares modalities; it needs two of them and a head for each (--head average, sum or blend)"
            )
        self.weight = weight

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over all B clips; metrics: the loss, and each modality's mean norm in both domains together."""
        features = {m: F.relu(output.raw[m].float()).mean(1) for m in self.modalities}  # [B, D]
        domains = [rows for rows in (~step.is_target, step.is_target) if rows.any()]
        pairs = list(combinations(features.values(), 2))
        loss = torch.stack([relative_norm(a[rows], b[rows]) for rows in domains for a, b in pairs]).sum()
        norms = {f"norm_{m}": x.detach().norm(dim=1).mean() for m, x in features.items()}
        return Term(self.weight * loss, {"relative_norm_loss": loss.detach()} | norms)


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model with these streams. Raises UsageError for a model with one modality or a joint head alone."""
    return RelativeNorm(tuple(sizes.videos), options.weight)
