"""MM-SADA's self-supervision: do the modalities belong to the same clip?

Munro and Damen, "Multi-Modal Domain Adaptation for Fine-Grained Action Recognition", CVPR 2020, https://arxiv.org/abs/2001.09691
(eq. 2), numbers as in the authors' code: features side by side → 100 → 2; half of the batch are true pairs, half are mismatched,
in source and target. Here a mismatched pair takes its first modality from another clip of the same domain.
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
    """Settings of the objective `correspondence`."""

    weight: float = 1.0
    """By what the pairs' cross-entropy is multiplied in the total loss (the published script's; the code's default is 5)."""
    hidden: int = 100
    """Width of the hidden layer of the classifier that tells true pairs from others; 0 makes it as wide as its input."""


class Correspondence(Objective):
    """Binary classification of pairs of modalities at video level; its gradient reaches the shared layers.

    Args:
        widths: {stream: D} of the clip features.

    Raises:
        UsageError: there is one stream only.
    """

    def __init__(self, widths: dict[str, int], options: Options) -> None:
        super().__init__()
        if len(widths) < 2:
            raise UsageError(
                "correspondence: compares modalities; it needs two of them and a head for each (--head average or sum)"
            )
        self.weight = options.weight
        self.classifier = discriminator(sum(widths.values()), options.hidden)

    def forward(self, output: Output, step: Step) -> Term:
        """The cross-entropy over all B clips; the metric is the classifier's accuracy in %."""
        first, *others = output.videos.values()  # [B, D] each
        clips = torch.arange(len(first), device=first.device)
        halves = [rows[: len(rows) // 2] for rows in (clips[~step.is_target], clips[step.is_target])]
        mismatched = torch.cat(halves)
        partner = torch.cat([half.roll(1) for half in halves])
        shuffled = first.clone()
        shuffled[mismatched] = first[partner]
        belongs = torch.ones(len(first), dtype=torch.long, device=first.device)
        belongs[mismatched] = (mismatched == partner).long()  # where a half is one clip, it is its own partner
        logits: Tensor = self.classifier(torch.cat([shuffled, *others], dim=1))  # [B, ΣD] → [B, 2]
        loss = F.cross_entropy(logits, belongs)
        right = 100 * (logits.detach().argmax(1) == belongs).float().mean()
        return Term(self.weight * loss, {"correspondence_loss": loss.detach(), "correspondence_accuracy": right})


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model whose clip features have these sizes. Raises UsageError for a model with one stream."""
    return Correspondence(dict(sizes.videos), options)
