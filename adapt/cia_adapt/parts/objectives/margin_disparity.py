"""MDD: an adversarial head disagrees with the classifier on the target and not on the source; the features make that hard.

Zhang, Liu, Long and Jordan, "Bridging Theory and Algorithm for Domain Adaptation", ICML 2019, https://arxiv.org/abs/1904.05801
(§4). Numbers as in thuml/Transfer-Learning-Library@c4aa59e, `alignment/mdd.py`: γ = 4, the reversed gradient's λ from 0 to 0.1.
The classifier's predictions pass no gradient.

RECONSTRUCTED: each stream has an adversarial head (FC, ReLU, FC) for all labels on the clip's features; λ grows over the whole
run. A set-up's `reversal` multiplies this λ as every other: 0.1 (set-up demo) makes it 0.01. Label-free validators do not tell
the two apart there; `--set margin_disparity.strength=0.1` keeps MDD's own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term
from cia_adapt.parts.layers.gradient_reversal import ramp, reverse_gradient
from cia_adapt.parts.layers.heads import two_layers

REVERSED: Final = ("strength",)
OFFSET: Final = 1e-6  # in the logarithm, so that a head that agrees for certain has a finite loss


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `margin_disparity`."""

    strength: float = 0.1
    """λ, by which the reversed gradient is multiplied at full growth."""
    ramp: float = 10.0
    """How fast λ grows from 0: its factor at the share p of steps is 2/(1 + e^(−ramp·p)) − 1; 0: always 1."""
    margin: float = 4.0
    """γ, by what the head's agreement with the classifier on the source is multiplied."""
    hidden: int = 0
    """Width of the adversarial heads' hidden layer; 0 makes it as wide as its input."""


def margin_disparity(source: Tensor, adversary_source: Tensor, target: Tensor, adversary_target: Tensor, margin: float) -> Tensor:
    """γ · CE(adversary, argmax) on the source − mean log(1 − p_adversary(argmax) + 1e-6) on the target, in nats.

    Args:
        source, target: the classifier's logits, [B_s, K] and [B_t, K].
        adversary_source, adversary_target: the adversarial head's, likewise.

    >>> source, adversary_source = torch.tensor([[2.0, 0, 0], [0, 1, -1]]), torch.tensor([[1.0, 0, 0], [0, 0, 1]])
    >>> target, adversary_target = torch.tensor([[0.5, 0.4, 0], [0, 0, 1]]), torch.tensor([[1.0, 0, 1], [0, 0, 0]])
    >>> round(float(margin_disparity(source, adversary_source, target, adversary_target, 4.0)), 5)
    4.68288
    """
    agree = F.cross_entropy(adversary_source, source.argmax(1))
    p = adversary_target.softmax(1).gather(1, target.argmax(1, keepdim=True))
    return margin * agree - (1 - p + OFFSET).clamp_max(1).log().mean()


class MarginDisparity(Objective):
    """An adversarial head for each stream behind a gradient reversal.

    Args:
        widths: {stream: D} of the clip features.
        classes: ΣK, of all labels.
    """

    def __init__(self, widths: Mapping[str, int], classes: int, options: Options) -> None:
        super().__init__()
        self.options = options
        self.adversaries = nn.ModuleDict({s: two_layers(width, options.hidden, classes) for s, width in widths.items()})

    def forward(self, output: Output, step: Step) -> Term:
        """The mean over streams and labels; metrics: the loss, how often head and classifier agree on the target in %, and λ."""
        reversal = self.options.strength * ramp(step.progress, self.options.ramp)
        losses, agreements = [], []
        for stream, features in output.videos.items():
            adversary = self.adversaries[stream](reverse_gradient(features, reversal))
            for mine, theirs in zip(output.split(output.logits[stream]), output.split(adversary), strict=True):
                source, target = ~step.is_target, step.is_target
                losses.append(margin_disparity(mine[source], theirs[source], mine[target], theirs[target], self.options.margin))
                agreements.append((mine.argmax(1) == theirs.argmax(1))[target].float().mean())
        loss, agreement = torch.stack(losses).mean(), torch.stack(agreements).mean()
        metrics = {"margin_disparity_loss": loss.detach(), "adversary_agrees": 100 * agreement, "adversary_reversal": reversal}
        return Term(loss, metrics)


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model whose clip features have these sizes."""
    return MarginDisparity(sizes.videos, sum(sizes.heads), options)
