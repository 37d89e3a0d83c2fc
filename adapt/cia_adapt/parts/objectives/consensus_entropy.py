"""MEC: the streams agree on a class of each target clip, and are certain of it.

Roy, Siarohin, Sangineto, Bulò, Sebe and Ricci, "Unsupervised Domain Adaptation using Feature-Whitening and Consensus Loss", CVPR
2019, https://arxiv.org/abs/1903.03215 (§3.3, minimum entropy consensus). There the two predictions are of two perturbed copies of
an image, here of the modalities of a clip; the paper's whitening of features is not part of this loss.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import torch
from cia_extract.common.errors import UsageError
from torch import Tensor

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term

MINIMISES: Final = ("entropy",)


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `consensus_entropy`."""

    weight: float = 1.0
    """By what the consensus loss is multiplied in the total loss."""


def consensus_entropy(streams: Sequence[Tensor]) -> Tensor:
    """−mean over clips of max_y mean over streams of log p(y), in nats: each stream's logits [B_t, K] → no dimension.

    >>> first = torch.tensor([[2.0, 0, 0], [0, 1, -1], [0.5, 0.5, 0]])
    >>> second = torch.tensor([[1.0, 1, 0], [0, 2, 0], [0, 0, 1]])
    >>> round(float(consensus_entropy([first, second])), 6)
    0.626359
    """
    logs = torch.stack([logits.log_softmax(1) for logits in streams]).mean(0)  # [B_t, K]
    return -logs.amax(1).mean()


class ConsensusEntropy(Objective):
    """The consensus loss of the target's clips, the mean over labels, times the weight.

    Raises:
        UsageError: there is one stream only.
    """

    def __init__(self, streams: Sequence[str], weight: float) -> None:
        super().__init__()
        if len(streams) < 2:
            raise UsageError(
                "consensus_entropy: a consensus of modalities; it needs two of them and a head for each (--head average or sum)"
            )
        self.weight = weight

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over the B_t target clips; metrics: the loss, and the share of them on which all streams agree, in %."""
        by_stream = [output.split(logits[step.is_target]) for logits in output.logits.values()]
        by_label = list(zip(*by_stream, strict=True))  # of each label, one [B_t, K] a stream
        loss = torch.stack([consensus_entropy(streams) for streams in by_label]).mean()
        guesses = [torch.stack([logits.detach().argmax(1) for logits in streams]) for streams in by_label]
        agree = torch.stack([(guess == guess[0]).all(0).float().mean() for guess in guesses]).mean()
        return Term(self.weight * loss, {"consensus_entropy": loss.detach(), "streams_agree": 100 * agree})


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model with these streams. Raises UsageError for a model with one stream."""
    return ConsensusEntropy(tuple(sizes.videos), options.weight)
