"""Kim et al.: modalities as views, contrasted across modalities and across domains.

Kim, Tsai, Zhuang, Yu, Sclaroff, Saenko and Chandraker, "Learning Cross-modal Contrastive Features for Video Domain Adaptation",
ICCV 2021, https://arxiv.org/abs/2108.11974. RECONSTRUCTED, feature-level: only the abstract was at hand ("we treat each
modality in a domain as a view"). Modalities share one projection head.

    across modalities   InfoNCE over the pairs of modalities of a clip, within each domain
    across domains      supervised contrast of source and target clips within each modality; a target clip's class is a
                        pseudo-label where the softmax is sure enough; the other domain's clips come from a memory bank
"""

from dataclasses import dataclass
from itertools import combinations

import torch
from cia_extract.common.errors import UsageError
from torch import Tensor, nn

from cia_adapt.parts.interface import Objective, Output, Sizes, Step, Term
from cia_adapt.parts.layers.contrastive import info_nce, same_class_nce
from cia_adapt.parts.layers.memory import Memory
from cia_adapt.parts.ranges import Count, Positive, Share


@dataclass(frozen=True)
class Options:
    """Settings of the objective `cross_modal`."""

    across_modalities: float = 1.0
    """By what the contrast of a clip's modalities is multiplied in the total loss."""
    across_domains: float = 1.0
    """By what the contrast of source and target clips is multiplied in the total loss; 0 trains without target clips."""
    temperature: Positive = 0.1
    """τ, which divides the cosines of both contrasts; the smaller, the more the nearest negatives count."""
    threshold: Share = 0.8
    """A target clip gets a pseudo-label where its largest softmax is at least this, 0 … 1."""
    bank: Count = 1024
    """Number of each domain's latest clips that the memory bank holds, to contrast the other domain with."""
    width: Count = 128
    """Features of the projection in which clips are contrasted."""


class CrossModalContrast(Objective):
    """Both contrasts on the clips' features.

    Args:
        widths: {stream: D} of the clip features.

    Raises:
        UsageError: there is one stream only, or streams are of unlike width.
    """

    def __init__(self, widths: dict[str, int], options: Options) -> None:
        super().__init__()
        if len(widths) < 2 or len(set(widths.values())) > 1:
            raise UsageError(
                "cross_modal: contrasts modalities; it needs two of them, equally wide, and a head for each (--head average)"
            )
        width = next(iter(widths.values()))
        self.options, self.streams = options, tuple(widths)
        self.project = nn.Sequential(nn.Linear(width, width), nn.ReLU(), nn.Linear(width, options.width))
        self.source_bank, self.target_bank = (Memory(self.streams, options.bank, options.width) for _ in range(2))

    def forward(self, output: Output, step: Step) -> Term:
        """Both losses, weighted; metrics: each loss, and the share of target clips with a pseudo-label in %."""
        projected = {s: nn.functional.normalize(self.project(v), dim=1) for s, v in output.videos.items()}  # [B, width] each
        domains = {"source": ~step.is_target, "target": step.is_target}
        inside = [
            info_nce(projected[a][rows], projected[b][rows], self.options.temperature)
            for rows in domains.values()
            if int(rows.sum()) > 1
            for a, b in combinations(self.streams, 2)
        ]
        zero = next(iter(output.videos.values())).sum() * 0  # the loss where no domain has two clips
        modal = torch.stack(inside).mean() if inside else zero
        metrics = {"cross_modal_loss": modal.detach()}
        loss = self.options.across_modalities * modal
        if self.options.across_domains and step.is_target.any():
            across = self._across(output, step, projected, metrics)
            loss = loss + self.options.across_domains * across
        return Term(loss, metrics)

    def _across(self, output: Output, step: Step, projected: dict[str, Tensor], metrics: dict[str, Tensor]) -> Tensor:
        """The contrast across domains; adds its numbers to `metrics` and the batch to the banks."""
        confidence, guess = output.probabilities()[0][step.is_target].detach().max(1)  # [B_t] each
        pseudo = torch.where(confidence >= self.options.threshold, guess, -1)
        classes = {"source": step.labels[:, 0], "target": pseudo}
        rows = {"source": ~step.is_target, "target": step.is_target}
        banks = {"source": self.source_bank, "target": self.target_bank}
        for domain, bank in banks.items():
            bank.push({s: p[rows[domain]] for s, p in projected.items()}, classes[domain])
        losses = []
        for domain, other in (("source", "target"), ("target", "source")):
            for stream, vectors in projected.items():
                anchors, bank = vectors[rows[domain]], banks[other]
                losses.append(
                    same_class_nce(anchors, classes[domain], bank.features(stream), bank.classes, self.options.temperature)
                )
        across = torch.stack(losses).mean()
        metrics |= {"cross_domain_loss": across.detach(), "pseudo_labelled": 100 * (pseudo >= 0).float().mean()}
        return across


def needs_target(options: Options) -> bool:
    """Whether the objective looks at target clips with these settings."""
    return options.across_domains > 0


def build(sizes: Sizes, options: Options) -> Objective:
    """The objective for a model whose clip features have these sizes. Raises UsageError as `CrossModalContrast` does."""
    return CrossModalContrast(dict(sizes.videos), options)
