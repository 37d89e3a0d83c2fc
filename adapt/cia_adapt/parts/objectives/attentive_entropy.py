"""Attentive entropy: certain classes, above all where the domains cannot be told apart.

TA3N (ICCV 2019, https://arxiv.org/abs/1907.12743, eq. 9; TADA has the same for images), as in TA3N's code: mean over source
and target of (1 + H(d̂)) · H(ŷ), in nats, d̂ the video-level domain prediction; the gradient goes through both.
"""

from dataclasses import dataclass

import torch
from cia_extract.common.errors import UsageError
from torch import Tensor

from cia_adapt.parts.interface import Objective, Output, Sizes, Step, Term
from cia_adapt.parts.layers.entropy import entropy


@dataclass(frozen=True)
class Options:
    """Of the loss."""

    weight: float = 0.003
    """γ; TA3N has 0.003 for UCF → HMDB and 0.3 for HMDB → UCF."""


def attentive_entropy(class_logits: Tensor, domain_logits: Tensor) -> Tensor:
    """[B, K] and [B, 2] → mean of (1 + H(domain)) H(class).

    >>> classes, domains = torch.tensor([[2.0, 0, 0], [0, 0, 0]]), torch.tensor([[0.0, 0], [1, -1]])
    >>> round(float(attentive_entropy(classes, domains)), 5)
    1.31344
    """
    return ((1 + entropy(domain_logits)) * entropy(class_logits)).mean()


class AttentiveEntropy(Objective):
    """Mean over streams and labels; stands after `adversarial`, whose video-level logits it reads."""

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, output: Output, step: Step) -> Term:
        losses = []
        for stream, logits in output.logits.items():
            if f"video_{stream}" not in output.domain_logits:
                raise UsageError("attentive_entropy: needs adversarial before it, with its video level")
            losses += [attentive_entropy(part, output.domain_logits[f"video_{stream}"]) for part in output.split(logits)]
        loss = torch.stack(losses).mean()
        return Term(self.weight * loss, {"attentive_entropy": loss.detach()})


def build(sizes: Sizes, options: Options) -> Objective:
    return AttentiveEntropy(options.weight)
