"""Attentive entropy: class predictions become certain, above all where the domains cannot be told apart.

TA3N (ICCV 2019, https://arxiv.org/abs/1907.12743, eq. 9; TADA has the same for images). As in TA3N's code it is the mean over
source and target of (1 + H(d̂)) · H(ŷ) in nats; d̂ is the video-level domain prediction, and both factors pass their gradient on.
"""

from dataclasses import dataclass
from typing import Final

import torch
from cia_extract.common.errors import UsageError
from torch import Tensor

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term
from cia_adapt.parts.layers.entropy import entropy

MINIMISES: Final = ("entropy",)


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `attentive_entropy`."""

    weight: float = 0.003
    """γ, by which the attentive entropy is multiplied in the total loss. TA3N has 0.003 for UCF → HMDB and 0.3 for HMDB → UCF."""


def attentive_entropy(class_logits: Tensor, domain_logits: Tensor) -> Tensor:
    """Mean over clips of (1 + H(domain)) · H(class) in nats: class logits [B, K], domain logits [B, 2] → no dimension.

    >>> classes, domains = torch.tensor([[2.0, 0, 0], [0, 0, 0]]), torch.tensor([[0.0, 0], [1, -1]])
    >>> round(float(attentive_entropy(classes, domains)), 5)
    1.31344
    """
    return ((1 + entropy(domain_logits)) * entropy(class_logits)).mean()


class AttentiveEntropy(Objective):
    """γ = `weight` times the attentive entropy, averaged over streams and labels.

    It stands after `adversarial` in a method's objectives and reads the video-level logits that this leaves.
    """

    def __init__(self, weight: float) -> None:
        super().__init__()
        self.weight = weight

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over all B clips. Raises UsageError where no objective before it has left video-level domain logits."""
        losses = []
        for stream, logits in output.logits.items():
            if f"video_{stream}" not in output.domain_logits:
                raise UsageError(
                    "attentive_entropy: reads the video level of adversarial; name adversarial before it in --objectives, with "
                    "--set adversarial.video above 0"
                )
            losses += [attentive_entropy(part, output.domain_logits[f"video_{stream}"]) for part in output.split(logits)]
        loss = torch.stack(losses).mean()
        return Term(self.weight * loss, {"attentive_entropy": loss.detach()})


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective, which is the same for all sizes."""
    return AttentiveEntropy(options.weight)
