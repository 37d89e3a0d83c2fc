"""IB: source and target clips of one class say the same in each feature, and different features say different things.

da Costa, Zara, Rota, Oliveira-Santos, Sebe, Murino and Ricci, "Unsupervised Domain Adaptation for Video Transformers in Action
Recognition", ICPR 2022, https://arxiv.org/abs/2207.12842 (UDAVT). Numbers as in vturrisi/UDAVT@e0a6356. Pairs are all of a
source clip (of the batch or of a queue of the latest 1,024) and a target clip of the batch, where the source's label is the
target's pseudo-label (the most likely class, without a threshold). Both sides are normalised over the pairs; with C = z₁ᵀz₂/N

    0.01 · (Σ_i (1 − C_ii)² + 0.005 · Σ_{i≠j} C_ij²)

No pair is formed: means and variances weigh each clip by the number of its pairs, and C = Σ_c (Σ_{i∈c} u_i)(Σ_{j∈c} v_j)ᵀ / N.

RECONSTRUCTED, feature-level: the paper trains a video transformer that has learnt the source before. The projector is narrower
(2,048 there) and each stream has its own.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cia_adapt.parts.interface import Objective, Output, Reaching, Sizes, Step, Term
from cia_adapt.parts.layers.memory import Memory
from cia_adapt.parts.ranges import Count

FEWEST_PAIRS: Final = 3  # fewer say nothing of a correlation
EPSILON: Final = 1e-5  # beside a variance


@dataclass(frozen=True)
class Options(Reaching):
    """Settings of the objective `information_bottleneck`."""

    weight: float = 0.01
    """By what the loss is multiplied in the total loss."""
    off_diagonal: float = 0.005
    """By what the squared correlations of different features are multiplied beside those of the same."""
    queue: int = 1024
    """Number of the latest source clips before the batch that are paired too; 0: the batch's alone."""
    width: Count = 512
    """Features of each of the projector's three layers."""


class InformationBottleneck(Objective):
    """The loss on projections of the clips' features, the mean over streams and labels, times the weight.

    Args:
        widths: {stream: D} of the clip features.
        heads: classes of each label.
    """

    def __init__(self, widths: Mapping[str, int], heads: tuple[int, ...], options: Options) -> None:
        super().__init__()
        self.options = options
        self.project = nn.ModuleDict({stream: projector(width, options.width) for stream, width in widths.items()})
        self.queue = Memory(tuple(widths), options.queue, options.width, len(heads))

    def forward(self, output: Output, step: Step) -> Term:
        """The loss over all pairs; metrics: the loss, and the number of pairs. The queue then takes the batch's source clips."""
        pseudo = [p[step.is_target].detach().argmax(1) for p in output.probabilities()]  # [B_t] for each label
        classes = torch.cat([step.labels, self.queue.classes])  # [B_s + size, L]
        projected = {stream: self.project[stream](features) for stream, features in output.videos.items()}  # [B, width] each
        pairs = []
        for stream, z in projected.items():
            source = torch.cat([z[~step.is_target].float(), self.queue.features(stream)])
            for i, guess in enumerate(pseudo):
                loss_and_count = redundancy(
                    source, classes[:, i], z[step.is_target].float(), guess, output.heads[i], self.options.off_diagonal
                )
                pairs.append(loss_and_count)
        self.queue.push({stream: z[~step.is_target] for stream, z in projected.items()}, step.labels)
        loss, count = (torch.stack(column).mean() for column in zip(*pairs, strict=True))
        return Term(self.options.weight * loss, {"bottleneck_loss": loss.detach(), "bottleneck_pairs": count})


def redundancy(
    source: Tensor, source_classes: Tensor, target: Tensor, target_classes: Tensor, classes: int, off_diagonal: float = 0.005
) -> tuple[Tensor, Tensor]:
    """Σ_i (1 − C_ii)² + off_diagonal · Σ_{i≠j} C_ij² over all pairs of one class, and their number N. Below 3 pairs: 0.

    Args:
        source, target: projections, [n, D] and [m, D].
        source_classes, target_classes: int64, [n] and [m], −1 for a clip without a class.
        classes: K.

    >>> source, target = torch.tensor([[1.0, 2], [3, 1], [2, 5], [0, 0]]), torch.tensor([[2.0, 1], [3, 2], [1, 4], [1, 1]])
    >>> loss, pairs = redundancy(source, torch.arange(4), target, torch.arange(4), classes=4)
    >>> round(float(loss), 6), int(pairs)
    (0.124333, 4)
    """
    with torch.autocast(source.device.type, enabled=False):
        members = [F.one_hot(labels + 1, classes + 1)[:, 1:].to(source.dtype) for labels in (source_classes, target_classes)]
        counts = [of_class.sum(0) for of_class in members]  # [K], clips of each class
        pairs = (counts[0] * counts[1]).sum()
        sums = []
        for x, of_class, partners in zip((source, target), members, reversed(counts), strict=True):
            weights = (of_class @ partners / pairs.clamp_min(1))[:, None]  # [n, 1], each clip's share of the pairs
            mean = (weights * x).sum(0)
            variance = (weights * (x - mean).square()).sum(0)
            sums.append(of_class.T @ ((x - mean) / (variance + EPSILON).sqrt()))  # [K, D]
        correlation = sums[0].T @ sums[1] / pairs.clamp_min(1)  # [D, D]
        same = correlation.diagonal()
        loss = (1 - same).square().sum() + off_diagonal * (correlation.square().sum() - same.square().sum())
    return torch.where(pairs >= FEWEST_PAIRS, loss, loss * 0), pairs


def projector(inputs: int, width: int) -> nn.Sequential:
    """Three linear layers from `inputs` features to `width`, with batch normalisation and ReLU between them."""
    hidden = [
        nn.Linear(inputs, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
        nn.Linear(width, width),
        nn.BatchNorm1d(width),
        nn.ReLU(),
    ]
    return nn.Sequential(*hidden, nn.Linear(width, width))


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model whose clip features have these sizes."""
    return InformationBottleneck(sizes.videos, sizes.heads, options)
