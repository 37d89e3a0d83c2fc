"""Adversarial alignment at video and frame level, and the loss of the discriminators that parts of the model own.

Ganin and Lempitsky 2015 (DANN, https://arxiv.org/abs/1409.7495). The two levels and their weights λ_vd = 1, λ_fd = 0.5 are from
the supplement of "Interact before Align", §1. As in TA3N's code the weights multiply the reversed gradient only, so that every
discriminator learns at full strength. That placement is RECONSTRUCTED: the supplement gives the numbers, not the place.
`weights_on = "loss"` is the other placement.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cia_adapt.parts.interface import Objective, Output, Sizes, Step, Term
from cia_adapt.parts.layers.gradient_reversal import ramp, reverse_gradient
from cia_adapt.parts.layers.heads import discriminator

REVERSED: Final = ("video", "frame")


@dataclass(frozen=True)
class Options:
    """Settings of the objective `adversarial`."""

    video: float = 1.0
    """λ_vd, the strength of alignment at video level; 0 leaves out the discriminators of videos."""
    frame: float = 0.5
    """λ_fd, the strength of alignment at frame level; 0 leaves out the discriminators of frames."""
    ramp: float = 0.0
    """How fast every λ grows from 0: its factor at the share p of steps is 2/(1 + e^(−ramp·p)) − 1. DANN has 10; 0: always 1."""
    ramp_from: float = 0.0
    """The factor at the start of training, instead of 0 (TLL's warm start); has an effect with `ramp` only."""
    weights_on: Literal["gradient", "loss"] = "gradient"
    """What λ multiplies: the reversed gradient alone, or the whole loss, so that the discriminators learn slower too."""
    over_streams: Literal["mean", "sum"] = "mean"
    """Whether the losses of several streams' discriminators at one level are averaged or summed."""
    hidden: int = 100
    """Width of the discriminators' hidden layer (MM-SADA has 100); 0 makes it as wide as its input (TA3N's)."""


class AdversarialAlignment(Objective):
    """One discriminator for each stream and level. It leaves their logits in `Output.domain_logits` for later objectives.

    Args:
        widths: {level: {stream: D}} of the features to align.
    """

    def __init__(self, widths: Mapping[str, Mapping[str, int]], options: Options = Options()) -> None:
        super().__init__()
        self.options = options
        self.strengths = {level: getattr(options, level) for level in widths if getattr(options, level)}
        self.discriminators = nn.ModuleDict(
            {f"{level}_{s}": discriminator(d, options.hidden) for level in self.strengths for s, d in widths[level].items()}
        )

    def growth(self, progress: Tensor) -> Tensor:
        """The factor of every λ at the share p = `progress` of steps, 0 … 1, a tensor of no dimension."""
        return ramp(progress, self.options.ramp, self.options.ramp_from)

    def forward(self, output: Output, step: Step) -> Term:
        """The levels' losses summed; a level's loss is the mean (or sum) over its discriminators.

        Metrics of each level: loss, accuracy in % (the mean of both domains', chance is 50), and λ as it now is.
        """
        by_level: dict[str, list[Tensor]] = {}
        for name, logits in output.domain_logits.items():  # from discriminators in the model: "relation_all", "region_rgb"
            by_level.setdefault(name.split("_")[0], []).append(logits)
        grown = self.growth(step.progress)
        on_loss = self.options.weights_on == "loss"
        for level, strength in self.strengths.items():
            features = output.videos if level == "video" else output.frames
            by_level[level] = []
            for stream, feature in features.items():
                reverse = grown if on_loss else strength * grown
                logits = self.discriminators[f"{level}_{stream}"](reverse_gradient(feature, reverse))
                output.domain_logits[f"{level}_{stream}"] = logits
                by_level[level].append(logits)
        total, metrics = torch.zeros((), device=step.is_target.device), dict[str, Tensor]()
        for level, logits_of_level in by_level.items():
            pairs = [domain_loss(logits, step.is_target) for logits in logits_of_level]
            losses, accuracies = (torch.stack(column) for column in zip(*pairs, strict=True))
            accuracy, loss = accuracies.mean(), losses.sum() if self.options.over_streams == "sum" else losses.mean()
            total = total + (self.strengths[level] * loss if on_loss and level in self.strengths else loss)
            metrics |= {f"{level}_domain_loss": loss.detach(), f"{level}_domain_accuracy": 100 * accuracy}
            if level in self.strengths:
                metrics[f"{level}_reversal"] = self.strengths[level] * grown
        return Term(total, metrics)


def domain_loss(logits: Tensor, is_target: Tensor) -> tuple[Tensor, Tensor]:
    """Cross-entropy of domain logits [B, …, 2] against `is_target` [B], and their accuracy, 0 … 1; both of no dimension.

    The accuracy is the mean of both domains', so that 0.5 is chance whatever the batch holds.
    """
    flat = logits.flatten(1, -2) if logits.ndim > 2 else logits[:, None]  # [B, n, 2]
    domain = is_target.long()[:, None].expand(flat.shape[:2])
    right = (flat.detach().argmax(2) == domain).float().mean(1)  # [B]
    target = is_target.float()
    shares = (right * target).sum() / target.sum(), (right * (1 - target)).sum() / (1 - target).sum()
    return F.cross_entropy(flat.flatten(0, 1), domain.flatten()), (shares[0] + shares[1]) / 2


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model whose clip and frame features have these sizes."""
    return AdversarialAlignment({"video": sizes.videos, "frame": sizes.frames}, options)
