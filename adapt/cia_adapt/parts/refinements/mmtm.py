"""MMTM, multimodal transfer module: one joint squeeze of all modalities, one excitation for each.

Joze, Shaban, Iuzzolino and Koishida, CVPR 2020, https://arxiv.org/abs/1911.08670 (eq. 2-5), numbers as in the authors' code:

    e = ReLU(W [s_A; s_B] + b), 2(C_A + C_B)/ratio wide;   Â = A ⊙ σ(W_A e + b_A)

The authors' code has the plain σ, so that features start at about half their size; `doubled` is 2σ. Feature-level: one unit over
the last maps, where the original has several between the blocks of both networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from cia_extract.common.errors import UsageError
from torch import nn

from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature
from cia_adapt.parts.ranges import Count
from cia_adapt.parts.registry import check_several


@dataclass(frozen=True)
class Options:
    """Settings of the refinement `mmtm`, the multimodal transfer module."""

    ratio: Count = 4
    """The joint layer has 2 ΣC / ratio units, ΣC the channels of all modalities; the larger, the fewer parameters."""
    doubled: bool = False
    """Gates 2σ in (0, 2), which start near 1, instead of σ in (0, 1), which start near ½."""


class MultimodalTransfer(nn.Module):
    """Gate the channels of two or more modalities, maps or vectors.

    Args:
        channels: {modality: C}.

    Raises:
        UsageError: there is one modality only, or `ratio` leaves the joint layer no unit.

    >>> mmtm = MultimodalTransfer({"rgb": 1024, "flow": 1024}, Options(ratio=16))
    >>> sum(p.numel() for p in mmtm.parameters())
    1050880
    """

    def __init__(self, channels: Mapping[str, int], options: Options = Options()) -> None:
        super().__init__()
        check_several("MMTM", channels)
        total = sum(channels.values())
        width = int(2 * total / options.ratio)
        if width < 1:
            raise UsageError(f"--set mmtm.ratio={options.ratio}: too large, nothing is left of {total} channels")
        self.scale = 2.0 if options.doubled else 1.0
        self.squeeze = nn.Linear(total, width)
        self.excite = nn.ModuleDict({m: nn.Linear(width, c) for m, c in channels.items()})

    def forward(self, features: Mapping[str, Feature]) -> dict[str, Feature]:
        """{modality: maps [N, C, H, W] or vectors [N, C]} → the same, gated."""
        joint = torch.relu(self.squeeze(torch.cat([features[m].average() for m in self.excite], dim=1)))  # [N, width]
        return {m: features[m].times(self.scale * torch.sigmoid(layer(joint))) for m, layer in self.excite.items()}


def build(sizes: Sizes, options: Options) -> nn.Module:
    """The refinement for modalities of these sizes. Raises UsageError where they do not allow it."""
    return MultimodalTransfer(sizes.channels, options)
