"""Att: CBAM's spatial attention, one gate a modality, then average pooling.

Woo, Park, Lee and Kweon, ECCV 2018, https://arxiv.org/abs/1807.06521 (eq. 3), layers as in the authors' code:

    A = σ(BN(conv7×7([max_c F; mean_c F])));   f = mean_i A(i) F(·, i)

RECONSTRUCTED: table 2 names "spatial attention mechanisms for general purpose (Att)" and cites CBAM; that it is the spatial
gate alone, a modality each, before average pooling is our reading.
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
    """Of the gate."""

    kernel: int = 7
    """Side of the convolution, odd."""


class SpatialGate(nn.Module):
    """Attention in (0, 1) from a map's largest and mean channel, and from further planes: [N, C, H, W] → [N, H, W]."""

    def __init__(self, kernel: int, further: int = 0) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(2 + further, 1, kernel, padding=kernel // 2, bias=False), nn.BatchNorm2d(1, eps=1e-5, momentum=0.01)
        )

    def forward(self, maps: Tensor, *further: Tensor) -> Tensor:
        planes = [maps.amax(1), maps.mean(1), *further]  # [N, H, W] each
        out: Tensor = torch.sigmoid(self.layers(torch.stack(planes, dim=1)))[:, 0]
        return out


class Attention(nn.Module):
    """Gate the cells of each modality with maps and average; vectors as they are."""

    def __init__(self, modalities: tuple[str, ...], kernel: int = 7) -> None:
        super().__init__()
        self.gates = nn.ModuleDict({m: SpatialGate(kernel) for m in modalities})

    def forward(self, features: Mapping[str, Feature]) -> Pooled:
        vectors = {m: f.average() for m, f in features.items() if m not in self.gates}
        vectors |= {m: gated_average(features[m], gate(features[m].dense())) for m, gate in self.gates.items()}
        return Pooled({m: vectors[m] for m in features})


def gated_average(feature: Feature, attention: Tensor) -> Tensor:
    """mean_i A(i) F̂(·, i): [N, C]."""
    return feature.pool(attention / (attention.shape[1] * attention.shape[2]))


def check_kernel(part: str, kernel: int) -> None:
    """Raise UsageError for one that has no middle."""
    if kernel % 2 == 0:
        raise UsageError(f"--set {part}.kernel={kernel}: must be odd")


def build(sizes: Sizes, options: Options) -> nn.Module:
    check_kernel("att", options.kernel)
    return Attention(tuple(sizes.grids), options.kernel)
