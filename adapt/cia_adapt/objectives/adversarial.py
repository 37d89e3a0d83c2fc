"""Adversarial alignment at two levels, video and frame.

Ganin and Lempitsky 2015 (DANN); the two levels and their weights λ_vd = 1, λ_fd = 0.5 are from the supplement of "Interact before
Align" §1. As in TA3N's code the weights multiply the reversed gradient only, so that every discriminator learns at
full strength (placement RECONSTRUCTED; the supplement gives the numbers, not the place).
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cia_adapt.modules.gradient_reversal import reverse_gradient
from cia_adapt.modules.heads import discriminator


@dataclass(frozen=True)
class DomainLoss:
    """Cross-entropy of a level's discriminators and how often they are right (0.5: they cannot tell)."""

    loss: Tensor
    accuracy: float


class AdversarialAlignment(nn.Module):
    """One discriminator per stream and level.

    Args:
        streams: {name: D}; one stream of concatenated modalities, or one a modality.
        hidden: width of the discriminators.
        strength_video, strength_frame: λ_vd and λ_fd, on the reversed gradients.
    """

    def __init__(self, streams: Mapping[str, int], hidden: int, strength_video: float, strength_frame: float) -> None:
        super().__init__()
        self.strengths = {"video": strength_video, "frame": strength_frame}
        self.discriminators = nn.ModuleDict(
            {f"{level}_{stream}": discriminator(width, hidden) for level in self.strengths for stream, width in streams.items()}
        )

    def forward(self, level: str, features: Mapping[str, Tensor], is_target: Tensor) -> DomainLoss:
        """`features` {stream: [B, D] or [B, S, D]}, `is_target` [B] bool → mean over streams (and frames)."""
        losses, right = [], []
        for stream, feature in features.items():
            logits = self.discriminators[f"{level}_{stream}"](reverse_gradient(feature, self.strengths[level]))
            logits = logits.flatten(0, -2)  # [B·S, 2]
            domain = is_target.long().repeat_interleave(len(logits) // len(is_target))
            losses.append(F.cross_entropy(logits, domain))
            right.append((logits.detach().argmax(1) == domain).float().mean())
        return DomainLoss(torch.stack(losses).mean(), float(torch.stack(right).mean()))
