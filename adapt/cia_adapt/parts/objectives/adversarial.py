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

from cia_adapt.parts.interface import BETA1, Objective, Output, Reaching, Sizes, Step, Term
from cia_adapt.parts.layers.gradient_reversal import ramp, reverse_gradient
from cia_adapt.parts.layers.heads import discriminator
from cia_adapt.parts.ranges import BelowOne, Share

REVERSED: Final = ("video", "frame")


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `adversarial`."""

    video: float = 1.0
    """λ_vd, the strength of alignment at video level; 0 leaves out the discriminators of videos."""
    frame: float = 0.5
    """λ_fd, the strength of alignment at frame level; 0 leaves out the discriminators of frames."""
    ramp: float = 0.0
    """How fast every λ grows from 0: its factor at the share p of steps is 2/(1 + e^(−ramp·p)) − 1. DANN has 10; 0: always 1."""
    ramp_from: Share = 0.0
    """The factor at the start of training, instead of 0 (TLL's warm start); has an effect with `ramp` only."""
    weights_on: Literal["gradient", "loss"] = "gradient"
    """What λ multiplies: the reversed gradient alone, or the whole loss, so that the discriminators learn slower too."""
    over_streams: Literal["mean", "sum"] = "mean"
    """Whether the losses of several streams' discriminators at one level are averaged or summed."""
    hidden: int = 100
    """Width of the discriminators' hidden layer (MM-SADA has 100); 0 makes it as wide as its input (TA3N's)."""
    smoothing: BelowOne = 0.0
    """ε, by which the discriminators' labels are smoothed, below 1 (environment label smoothing, ICLR 2023, has 0.1 … 0.5)."""
    penalty: float = 0.0
    """Weight of the squared norm of the gradient of this objective's own discriminators, of videos and frames, by their input (a
    zero-centred gradient penalty); 0: none.
    """
    lr: float = 1.0
    """By what the learning rate of all discriminators is multiplied, also of those of TA3N, TranSVAE and TADA."""
    beta1: BelowOne = BETA1
    """Adam's β₁ for the same discriminators; games between networks often take 0.5 or 0. SGD has none."""


class AdversarialAlignment(Objective):
    """One discriminator for each stream and level. It leaves their logits in `Output.domain_logits` for later objectives.

    Args:
        widths: {level: {stream: D}} of the features to align.
    """

    def __init__(self, widths: Mapping[str, Mapping[str, int]], options: Options = Options()) -> None:
        super().__init__()
        self.options = options
        self.lr_factor, self.beta1 = options.lr, options.beta1
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
        penalties: list[Tensor] = []
        for level, strength in self.strengths.items():
            features = output.videos if level == "video" else output.frames
            by_level[level] = []
            for stream, feature in features.items():
                reverse = grown if on_loss else strength * grown
                name = f"{level}_{stream}"
                logits = self.discriminators[name](reverse_gradient(feature, reverse))
                if self.options.penalty and torch.is_grad_enabled():
                    penalties.append(gradient_penalty(self.discriminators[name], feature))
                output.domain_logits[f"{level}_{stream}"] = logits
                by_level[level].append(logits)
        total, metrics = torch.zeros((), device=step.is_target.device), dict[str, Tensor]()
        for level, logits_of_level in by_level.items():
            pairs = [domain_loss(logits, step.is_target, self.options.smoothing) for logits in logits_of_level]
            losses, accuracies = (torch.stack(column) for column in zip(*pairs, strict=True))
            accuracy, loss = accuracies.mean(), losses.sum() if self.options.over_streams == "sum" else losses.mean()
            total = total + (self.strengths[level] * loss if on_loss and level in self.strengths else loss)
            metrics |= {f"{level}_domain_loss": loss.detach(), f"{level}_domain_accuracy": 100 * accuracy}
            if level in self.strengths:
                metrics[f"{level}_reversal"] = self.strengths[level] * grown
        if penalties:
            penalty = torch.stack(penalties).mean()
            total, metrics["discriminator_penalty"] = total + self.options.penalty * penalty, penalty.detach()
        return Term(total, metrics)


def gradient_penalty(discriminator: nn.Module, features: Tensor) -> Tensor:
    """E‖∂(logit of target − logit of source)/∂x‖² at features x [B, …, D], of no dimension; trains the discriminator alone.

    The zero-centred penalty of Mescheder, Geiger and Nowozin, "Which Training Methods for GANs do actually Converge?", ICML
    2018, https://arxiv.org/abs/1801.04406, eq. 9, on the clips of both domains.
    """
    x = features.detach().requires_grad_()
    logits = discriminator(x)
    (gradient,) = torch.autograd.grad((logits[..., 1] - logits[..., 0]).sum(), x, create_graph=True)
    return gradient.square().sum(-1).mean()


def domain_loss(logits: Tensor, is_target: Tensor, smoothing: float = 0.0) -> tuple[Tensor, Tensor]:
    """Cross-entropy of domain logits [B, …, 2] against `is_target` [B], and their accuracy, 0 … 1; both of no dimension.

    The accuracy is the mean of both domains', so that 0.5 is chance whatever the batch holds.
    """
    flat = logits.flatten(1, -2) if logits.ndim > 2 else logits[:, None]  # [B, n, 2]
    domain = is_target.long()[:, None].expand(flat.shape[:2])
    right = (flat.detach().argmax(2) == domain).float().mean(1)  # [B]
    target = is_target.float()
    shares = (right * target).sum() / target.sum(), (right * (1 - target)).sum() / (1 - target).sum()
    return F.cross_entropy(flat.flatten(0, 1), domain.flatten(), label_smoothing=smoothing), (shares[0] + shares[1]) / 2


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model whose clip and frame features have these sizes."""
    return AdversarialAlignment({"video": sizes.videos, "frame": sizes.frames}, options)
