"""CoMix: predictions of a clip at two speeds agree, also when it is mixed with the other domain's; confident ones agree by class.

Sahoo, Shah, Panda, Saenko and Das, "Contrast and Mix: Temporal Contrastive Video Domain Adaptation with Background Mixing",
NeurIPS 2021, https://arxiv.org/abs/2110.15128. Losses and numbers as in CVIR/CoMix@e52b130, `core/adapt.py`. Softmaxes p are
contrasted by their products over τ = 0.5, with the factor τ/0.07 of supervised contrastive learning's reference code:

    0.1 · Σ_domains contrast of {p(fast), p(slow), p(fast mixed), p(slow mixed)} of each clip against those of other clips
    + 0.01 · contrast by pseudo-class of the target's p(fast) and p(slow), where the mean of both is above 0.7

RECONSTRUCTED, feature-level: the two speeds are two samplings of as many frames. The original mixes a clip's frames with the
background of a clip of the other domain, which is the median of its pictures; there are no pictures here. Instead logits are
mixed, (1 − γ) z + γ z', γ from U(0, 0.5) a batch (the bound is ours), with a clip of the other domain at the same speed. With TSN
and dropout 0 that is what mixing the frames' features after the shared layer with the other clip's mean over time gives; unlike a
background, that mean also says what happens. Left out: the graph network over frames, the network's training, the start on the
source alone (but see `start`).
"""

from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor

from cia_adapt.parts.interface import Objective, Output, Sizes, Step, Term
from cia_adapt.parts.layers.contrastive import masked_nce
from cia_adapt.parts.ranges import Positive, Share

BASE_TEMPERATURE: Final = 0.07


@dataclass(frozen=True)
class Options:
    """Settings of the objective `temporal_contrast`."""

    mixed: float = 0.1
    """Weight of the contrast of a clip's speeds and mixtures (λ_bgm)."""
    pseudo: float = 0.01
    """Weight of the contrast of the target's clips by pseudo-class (λ_tpl)."""
    temperature: Positive = 0.5
    """τ, by which the products of softmaxes are divided."""
    threshold: Share = 0.7
    """A target clip has a pseudo-class where the largest probability is above this, 0 … 1."""
    mix: Share = 0.5
    """Largest share γ of the other domain's clip in a mixture, 0 … 1."""
    start: Share = 0.0
    """The share of the training's steps, 0 … 1, before which both losses are 0 (the original's first 4,000 of 14,000: 0.29)."""


def contrast(probabilities: Tensor, classes: Tensor, temperature: float) -> Tensor:
    """The supervised contrastive loss of softmaxes [n, K] with classes [n], times τ/0.07; −1 takes no part.

    >>> p = torch.tensor([[1.0, 0], [1, 0], [0, 1], [0, 1]])
    >>> round(float(contrast(p, torch.tensor([0, 0, 1, 1]), 0.5)), 6)  # ln(1 + 2/e²) · 0.5/0.07
    1.711034
    """
    known = classes >= 0
    allowed = known[:, None] & known[None, :] & ~torch.eye(len(classes), dtype=torch.bool, device=classes.device)
    positive = allowed & (classes[:, None] == classes[None, :])
    return temperature / BASE_TEMPERATURE * masked_nce(probabilities @ probabilities.T / temperature, positive, allowed)


class TemporalContrast(Objective):
    """Both losses, the mean over streams and labels."""

    second_view = True

    def __init__(self, options: Options) -> None:
        super().__init__()
        self.options = options

    def forward(self, output: Output, step: Step) -> Term:
        """The weighted sum; metrics: both losses, and the share of the target's clips with a pseudo-class in %."""
        assert step.second is not None
        share = self.options.mix * torch.rand((), device=step.is_target.device)
        speeds = [[part for x in view.logits.values() for part in view.split(x)] for view in (output, step.second)]
        mixed, pseudo, labelled = [], [], []
        for fast, slow in zip(*speeds, strict=True):  # each [B, K], of one stream and label
            mixed.append(self._of_mixtures((fast, slow), len(step.labels), share))
            loss, classes = self._of_pseudo_classes(fast[step.is_target], slow[step.is_target])
            pseudo.append(loss)
            labelled.append((classes >= 0).float().mean())
        begun = step.progress >= self.options.start
        losses = {"mixed": torch.stack(mixed).mean() * begun, "pseudo": torch.stack(pseudo).mean() * begun}
        total = self.options.mixed * losses["mixed"] + self.options.pseudo * losses["pseudo"]
        metrics = {f"contrast_{name}": loss.detach() for name, loss in losses.items()}
        return Term(total, metrics | {"pseudo_labelled": 100 * torch.stack(labelled).mean()})

    def _of_mixtures(self, speeds: tuple[Tensor, Tensor], source: int, share: Tensor) -> Tensor:
        """The sum over domains. A domain's clips are mixed with the other's in turn; the first `source` are the source's."""
        losses = []
        by_speed = [(logits[:source], logits[source:]) for logits in speeds]
        for own, other in ((0, 1), (1, 0)):
            clips, others = len(by_speed[0][own]), len(by_speed[0][other])
            partners = torch.arange(clips, device=share.device) % others
            plain = [domains[own] for domains in by_speed]
            mixtures = [(1 - share) * domains[own] + share * domains[other][partners] for domains in by_speed]
            p = torch.cat([*plain, *mixtures]).softmax(1)  # [4·clips, K]
            losses.append(contrast(p, torch.arange(clips, device=share.device).repeat(4), self.options.temperature))
        return torch.stack(losses).sum()

    def _of_pseudo_classes(self, fast: Tensor, slow: Tensor) -> tuple[Tensor, Tensor]:
        """The loss and the target's pseudo-classes [B_t], −1 for none; the logits' mean over both speeds predicts them."""
        confidence, classes = ((fast + slow) / 2).detach().softmax(1).max(1)
        classes = classes.where(confidence > self.options.threshold, -1)
        return contrast(torch.cat([fast, slow]).softmax(1), classes.repeat(2), self.options.temperature), classes


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective, which is the same for all sizes."""
    return TemporalContrast(options)
