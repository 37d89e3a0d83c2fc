"""TA3N's temporal part: relations that show the domain gap, by a discriminator that tells them apart, count more.

Chen, Kira, AlRegib, Yoo, Chen and Zheng, "Temporal Attentive Alignment", ICCV 2019, https://arxiv.org/abs/1907.12743, as its
code has it: even tuples in training too; one discriminator a scale n, behind a gradient reversed with β; H in nats, not detached:

    d̂_n = softmax(D_n(R_n));   v = Σ_n (2 − H(d̂_n)) R_n

The discriminators' loss is that of the objective `adversarial`, level "relation".
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

import cia_adapt.parts.temporal.trn as trn
from cia_adapt.parts.layers.entropy import entropy
from cia_adapt.parts.layers.gradient_reversal import GradientReversal
from cia_adapt.parts.layers.heads import discriminator

REVERSED: Final = ("strength",)


@dataclass(frozen=True)
class Options:
    """TA3N's relations."""

    width: int = 256
    """Of a relation's feature."""
    strength: float = 0.75
    """β of the relations, on the reversed gradient."""


class AttendedRelations(nn.Module):
    """Frames [B, S, D] → (clip [B, width], {"relation": [B, S − 1, 2]})."""

    def __init__(self, inputs: int, segments: int, options: Options = Options()) -> None:
        super().__init__()
        self.width = options.width
        self.reverse = GradientReversal("relation", options.strength)
        self.trn = trn.TemporalRelations(inputs, segments, trn.Options(width=options.width, even=True))
        self.discriminators = nn.ModuleList([discriminator(options.width, 0) for _ in range(segments - 1)])

    def forward(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        relations = self.trn.relations(frames)
        reversed_ = self.reverse(relations)
        logits = torch.stack([d(reversed_[:, n]) for n, d in enumerate(self.discriminators)], dim=1)  # [B, S − 1, 2]
        return (relations * (2 - entropy(logits))[:, :, None]).sum(1), {"relation": logits}


def build(width: int, segments: int, options: Options) -> nn.Module:
    return AttendedRelations(width, segments, options)
