"""MM-SADA's self-supervision: do the modalities belong to the same clip?

Munro and Damen, "Multi-Modal Domain Adaptation for Fine-Grained Action Recognition", CVPR 2020, https://arxiv.org/abs/2001.09691
(eq. 2), numbers as in the authors' code: features side by side → 100 → 2, half of the batch true pairs and half mismatched, on
source and target. Here a mismatched pair has its first modality from another clip of the same domain.
"""

from dataclasses import dataclass

import torch
from cia_extract.common.errors import UsageError
from torch import Tensor
from torch.nn import functional as F

from cia_adapt.parts.interface import Objective, Output, Sizes, Step, Term
from cia_adapt.parts.layers.heads import discriminator


@dataclass(frozen=True)
class Options:
    """Of the loss."""

    weight: float = 1.0
    """Of the cross-entropy (the published script's; the code's default is 5)."""
    hidden: int = 100
    """Width of the classifier of pairs."""


class Correspondence(Objective):
    """Binary classification of pairs at video level; the gradient reaches the shared layers. Raises UsageError for one stream."""

    def __init__(self, widths: dict[str, int], options: Options) -> None:
        super().__init__()
        if len(widths) < 2:
            raise UsageError("correspondence: compares modalities and needs a head per modality (--head average or sum) and two")
        self.weight = options.weight
        self.classifier = discriminator(sum(widths.values()), options.hidden)

    def forward(self, output: Output, step: Step) -> Term:
        first, *others = output.videos.values()
        half = [torch.arange(len(first), device=first.device)[domain] for domain in (~step.is_target, step.is_target)]
        mismatched = torch.cat([rows[: len(rows) // 2] for rows in half])
        partner = torch.cat([rows[: len(rows) // 2].roll(1) for rows in half])
        shuffled = first.clone()
        shuffled[mismatched] = first[partner]
        belongs = torch.ones(len(first), dtype=torch.long, device=first.device)
        belongs[mismatched] = (mismatched == partner).long()  # a batch of one pair cannot be mismatched
        logits: Tensor = self.classifier(torch.cat([shuffled, *others], dim=1))
        loss = F.cross_entropy(logits, belongs)
        right = 100 * (logits.detach().argmax(1) == belongs).float().mean()
        return Term(self.weight * loss, {"correspondence_loss": loss.detach(), "correspondence_accuracy": right})


def build(sizes: Sizes, options: Options) -> Objective:
    return Correspondence(dict(sizes.videos), options)
