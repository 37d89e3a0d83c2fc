"""TA3N's temporal part: a relation weighs the more, the better a discriminator tells its domain.

Chen, Kira, AlRegib, Yoo, Chen and Zheng, "Temporal Attentive Alignment", ICCV 2019, https://arxiv.org/abs/1907.12743, as its
code has it: evenly spaced tuples in training too, and one discriminator for each scale n, behind a gradient reversed with β. H is
in nats and passes its gradient on:

    d̂_n = softmax(D_n(R_n));   v = Σ_n (2 − H(d̂_n)) R_n

The objective `adversarial` has the discriminators' loss, level "relation".
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

import cia_adapt.parts.temporal.trn as trn
from cia_adapt.parts.layers.entropy import entropy
from cia_adapt.parts.layers.gradient_reversal import GradientReversal
from cia_adapt.parts.layers.heads import discriminator
from cia_adapt.parts.ranges import Count

REVERSED: Final = ("strength",)


@dataclass(frozen=True)
class Options:
    """Settings of the temporal part `ta3n`."""

    width: Count = 256
    """Features of each relation, and of the clip."""
    strength: float = 0.75
    """β, by which the relation discriminators' reversed gradient is multiplied; the larger, the stronger the alignment."""


class AttendedRelations(nn.Module):
    """Relations of S frames with D = `inputs` features, each weighed by 2 − H(d̂_n) and summed."""

    def __init__(self, inputs: int, segments: int, options: Options = Options()) -> None:
        super().__init__()
        self.width = options.width
        self.reverse = GradientReversal("relation", options.strength)
        self.trn = trn.TemporalRelations(inputs, segments, trn.Options(width=options.width, even=True))
        self.discriminators = nn.ModuleList([discriminator(options.width, 0) for _ in range(segments - 1)])

    def forward(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Frames [B, S, D] → (clip [B, width], {"relation": domain logits [B, S − 1, 2]})."""
        relations = self.trn.relations(frames)  # [B, S − 1, width]
        reversed_ = self.reverse(relations)
        logits = torch.stack([d(reversed_[:, n]) for n, d in enumerate(self.discriminators)], dim=1)  # [B, S − 1, 2]
        return (relations * (2 - entropy(logits))[:, :, None]).sum(1), {"relation": logits}  # [B, width]


def build(width: int, segments: int, options: Options) -> nn.Module:
    """The part for clips of `segments` frames with `width` features. Raises UsageError for too few or too many segments."""
    return AttendedRelations(width, segments, options)
