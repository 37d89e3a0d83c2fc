"""TADA's local attention: a cell weighs the more, the surer a domain discriminator is of its domain.

Wang, Li, Ye, Long and Wang, "Transferable Attention for Domain Adaptation", AAAI 2019. One discriminator a cell, behind a
reversed gradient, H in nats (0 … 0.693):

    p_i = softmax(D_i(F(·, i)));   w_i = 1 − H(p_i);   f = mean_i (1 + w_i) F(·, i)

RECONSTRUCTED for cached features: the discriminators' width. Since the features are frozen, the reversed gradient reaches only
what is trained before this pooling (MC). The objective `adversarial` has the discriminators' loss, level "region". TADA's global
part, entropy weighted by 1 + H, is the objective `attentive_entropy`.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from torch import Tensor, nn

from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.entropy import entropy
from cia_adapt.parts.layers.gradient_reversal import GradientReversal
from cia_adapt.parts.layers.heads import OUTPUT_SD
from cia_adapt.parts.layers.maps import Feature, Pooled, cells
from cia_adapt.parts.poolings.att import gated_average
from cia_adapt.parts.ranges import Count

NEEDS_MAPS: Final = True
REVERSED: Final = ("strength",)


@dataclass(frozen=True)
class Options:
    """Settings of the pooling `tada`."""

    hidden: Count = 64
    """Width of the hidden layer of each cell's domain discriminator."""
    strength: float = 1.0
    """λ, by which the discriminators' reversed gradient is multiplied; the larger, the stronger they align what MC gives."""


class CellDiscriminators(nn.Module):
    """A domain discriminator of its own for each of `cells` cells: FC C → hidden, ReLU, FC hidden → 2."""

    def __init__(self, cells: int, channels: int, hidden: int) -> None:
        super().__init__()
        self.first = nn.Parameter(torch.empty(cells, channels, hidden).uniform_(-(channels**-0.5), channels**-0.5))
        self.first_bias = nn.Parameter(torch.zeros(cells, 1, hidden))
        self.last = nn.Parameter(torch.randn(cells, hidden, 2) * OUTPUT_SD)
        self.last_bias = nn.Parameter(torch.zeros(cells, 1, 2))

    def forward(self, features: Tensor) -> Tensor:
        """Cells [N, HW, C] → domain logits [N, HW, 2] (0 source, 1 target)."""
        hidden = torch.relu(torch.baddbmm(self.first_bias, features.transpose(0, 1), self.first))  # [HW, N, hidden]
        return torch.baddbmm(self.last_bias, hidden, self.last).transpose(0, 1)  # [N, HW, 2]


class TransferableAttention(nn.Module):
    """Weigh the cells of each modality that has maps by 1 + w and average them; vectors stay as they are.

    Args:
        channels: {modality: C}.
        grids: {modality: (H, W)} of those with maps.
    """

    def __init__(self, channels: Mapping[str, int], grids: Mapping[str, tuple[int, int]], options: Options = Options()) -> None:
        super().__init__()
        self.reverse = GradientReversal("region", options.strength)
        self.discriminators = nn.ModuleDict(
            {m: CellDiscriminators(height * width, channels[m], options.hidden) for m, (height, width) in grids.items()}
        )

    def forward(self, features: Mapping[str, Feature]) -> Pooled:
        """{modality: maps [N, C, H, W] or vectors [N, C]} → {modality: [N, C]}, and domain logits {"region_<m>": [N, HW, 2]}."""
        vectors = {m: f.average() for m, f in features.items() if m not in self.discriminators}
        logits = {}
        for m, discriminators in self.discriminators.items():
            dense = features[m].dense()
            logits[f"region_{m}"] = discriminators(self.reverse(cells(dense)))  # [N, HW, 2]
            weights = 2 - entropy(logits[f"region_{m}"])  # 1 + w, [N, HW]
            vectors[m] = gated_average(features[m], weights.unflatten(1, dense.shape[2:]))
        return Pooled({m: vectors[m] for m in features}, domain_logits=logits)


def build(sizes: Sizes, options: Options) -> nn.Module:
    """The pooling for modalities of these sizes."""
    return TransferableAttention(sizes.channels, sizes.grids, options)
