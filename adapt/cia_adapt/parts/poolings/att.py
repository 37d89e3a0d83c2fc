"""Att: CBAM's spatial attention, one gate for each modality, then average pooling.

Woo, Park, Lee and Kweon, ECCV 2018, https://arxiv.org/abs/1807.06521 (eq. 3), layers as in the authors' code:

    A = σ(BN(conv7×7([max_c F; mean_c F])));   f = mean_i A(i) F(·, i)

RECONSTRUCTED: table 2 names "spatial attention mechanisms for general purpose (Att)" and cites CBAM. Our reading is that it is
the spatial gate alone, one for each modality, before average pooling.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

import torch
from cia_extract.common.errors import UsageError
from torch import Tensor, nn

from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature, Pooled

NEEDS_MAPS: Final = True


@dataclass(frozen=True)
class Options:
    """Settings of the pooling `att`."""

    kernel: int = 7
    """Side of the gate's convolution in cells, odd; the larger, the wider the surroundings that decide a cell's attention."""


class SpatialGate(nn.Module):
    """CBAM's spatial gate: attention in (0, 1) for each cell, from its largest and its mean channel, and from further planes.

    Args:
        kernel: side of the convolution in cells, odd.
        further: number of planes besides these two.
    """

    def __init__(self, kernel: int, further: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 + further, 1, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(1, eps=1e-5, momentum=0.01)
        )

    def forward(self, maps: Tensor, *further: Tensor) -> Tensor:
        """Maps [N, C, H, W] and further planes [N, H, W] → attention [N, H, W]."""
        planes = [maps.amax(1), maps.mean(1), *further]  # [N, H, W] each
        out: Tensor = torch.sigmoid(self.layers(torch.stack(planes, dim=1)))[:, 0]  # [N, 2 + further, H, W] → [N, H, W]
        return out


class Attention(nn.Module):
    """Gate the cells of each of `modalities`, which have maps, and average them; vectors stay as they are."""

    def __init__(self, modalities: tuple[str, ...], kernel: int = 7) -> None:
        super().__init__()
        self.gates = nn.ModuleDict({m: SpatialGate(kernel) for m in modalities})

    def forward(self, features: Mapping[str, Feature]) -> Pooled:
        """{modality: maps [N, C, H, W] or vectors [N, C]} → {modality: [N, C]}."""
        vectors = {m: f.average() for m, f in features.items() if m not in self.gates}
        vectors |= {m: gated_average(features[m], gate(features[m].dense())) for m, gate in self.gates.items()}
        return Pooled({m: vectors[m] for m in features})


def gated_average(feature: Feature, attention: Tensor) -> Tensor:
    """mean_i A(i) F̂(·, i): maps of a feature and attention [N, H, W] → vectors [N, C]."""
    return feature.pool(attention / (attention.shape[1] * attention.shape[2]))


def check_kernel(part: str, kernel: int) -> None:
    """Raise UsageError for an even kernel: it has no middle cell. `part` is the part's name, for the message."""
    if kernel % 2 == 0:
        raise UsageError(f"--set {part}.kernel={kernel}: must be odd, such as 7")


def build(sizes: Sizes, options: Options) -> nn.Module:
    """The pooling for modalities of these sizes. Raises UsageError for an even kernel."""
    check_kernel("att", options.kernel)
    return Attention(tuple(sizes.grids), options.kernel)
