"""CDAN: discriminators of clips that see the features and the class predictions together.

Long, Cao, Wang and Jordan, "Conditional Adversarial Domain Adaptation", NeurIPS 2018, https://arxiv.org/abs/1705.10667 (§3.2 the
multilinear map and its random approximation, §3.3 entropy conditioning). As in thuml/Transfer-Learning-Library@c4aa59e,
`alignment/cdan.py`, predictions and entropy weights pass no gradient, and the weights' mean over the batch is 1. The domain
loss is the cross-entropy of two logits, which is the paper's binary one.

RECONSTRUCTED: each stream and label has its discriminator, of the same shape as those of `adversarial` (the paper's has three
layers of 1024); λ grows over the whole run.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from math import sqrt
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term
from cia_adapt.parts.layers.entropy import certainty_weights
from cia_adapt.parts.layers.gradient_reversal import ramp, reverse_gradient
from cia_adapt.parts.layers.heads import discriminator
from cia_adapt.parts.objectives.adversarial import domain_loss
from cia_adapt.parts.ranges import Count

REVERSED: Final = ("strength",)


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `conditional_adversarial`."""

    strength: float = 1.0
    """λ, by which the reversed gradient is multiplied at full growth."""
    ramp: float = 10.0
    """How fast λ grows from 0: its factor at the share p of steps is 2/(1 + e^(−ramp·p)) − 1 (CDAN has 10); 0: always 1."""
    entropy: bool = False
    """Whether clips of which the classifier is certain count more in the domain loss (CDAN+E)."""
    hidden: int = 100
    """Width of the discriminators' hidden layer; 0 makes it as wide as its input."""
    random_above: int = 4096
    """A discriminator whose features times classes are more than this sees a fixed random map of them instead of all products."""
    random_width: Count = 1024
    """Width of that random map."""


def multilinear(features: Tensor, probabilities: Tensor) -> Tensor:
    """All products p_k · f_d, class by class: [B, D] and [B, K] → [B, K·D].

    >>> multilinear(torch.tensor([[1.0, 2]]), torch.tensor([[0.25, 0.75]]))
    tensor([[0.2500, 0.5000, 0.7500, 1.5000]])
    """
    return (probabilities[:, :, None] * features[:, None, :]).flatten(1)


class MultilinearMap(nn.Module):
    """Features [B, D] and probabilities [B, K] → [B, `width`]: all products, or a fixed random map of them.

    Args:
        random_width: width of the random map (R_f f) ⊙ (R_p p) / √width, its entries drawn from N(0, 1); 0 for all products.
    """

    of_features: Tensor | None
    of_probabilities: Tensor | None

    def __init__(self, features: int, classes: int, random_width: int = 0) -> None:
        super().__init__()
        self.width = random_width or features * classes
        for name, size in (("of_features", features), ("of_probabilities", classes)):
            self.register_buffer(name, torch.randn(size, random_width) if random_width else None)

    def forward(self, features: Tensor, probabilities: Tensor) -> Tensor:
        """[B, D] and [B, K] → [B, width]."""
        if self.of_features is None or self.of_probabilities is None:
            return multilinear(features, probabilities)
        return (features @ self.of_features) * (probabilities @ self.of_probabilities) / sqrt(self.width)


class ConditionalAlignment(Objective):
    """One discriminator for each stream and label behind a gradient reversal, at the level of clips.

    Args:
        widths: {stream: D} of the clip features.
        heads: classes of each label.
    """

    def __init__(self, widths: Mapping[str, int], heads: tuple[int, ...], options: Options) -> None:
        super().__init__()
        self.options = options
        names = {f"{stream}_{i}": (width, classes) for stream, width in widths.items() for i, classes in enumerate(heads)}
        self.maps = nn.ModuleDict(
            {
                name: MultilinearMap(*sizes, options.random_width if sizes[0] * sizes[1] > options.random_above else 0)
                for name, sizes in names.items()
            }
        )
        self.discriminators = nn.ModuleDict(
            {name: discriminator(joint.width, options.hidden) for name, joint in self.maps.items()}  # type: ignore[arg-type]
        )

    def forward(self, output: Output, step: Step) -> Term:
        """The mean over discriminators; metrics: loss, accuracy in % (the mean of both domains'), and λ as it now is."""
        reversal = self.options.strength * ramp(step.progress, self.options.ramp)
        losses, accuracies = [], []
        for stream, features in output.videos.items():
            for i, logits in enumerate(output.split(output.logits[stream].detach())):
                joint = self.maps[f"{stream}_{i}"](reverse_gradient(features, reversal), logits.softmax(1))
                domain_logits = self.discriminators[f"{stream}_{i}"](joint)  # [B, 2]
                by_clip = F.cross_entropy(domain_logits, step.is_target.long(), reduction="none")
                losses.append((certainty_weights(logits) * by_clip).mean() if self.options.entropy else by_clip.mean())
                accuracies.append(domain_loss(domain_logits.detach(), step.is_target)[1])
        loss, accuracy = torch.stack(losses).mean(), torch.stack(accuracies).mean()
        metrics = {"conditional_domain_loss": loss.detach(), "conditional_domain_accuracy": 100 * accuracy}
        return Term(loss, metrics | {"conditional_reversal": reversal})


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model whose clip features have these sizes."""
    return ConditionalAlignment(sizes.videos, sizes.heads, options)
