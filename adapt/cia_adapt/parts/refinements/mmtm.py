"""MMTM, multimodal transfer module: one squeeze of all modalities, an excitation of each.

Joze, Shaban, Iuzzolino and Koishida, CVPR 2020, https://arxiv.org/abs/1911.08670 (eq. 2-5), numbers as in the authors' code:

    e = ReLU(W [s_A; s_B] + b), 2(C_A + C_B)/ratio wide;   Â = A ⊙ σ(W_A e + b_A)

The code has the plain σ, so that modalities start at about half their size; `doubled` is 2σ. Feature-level: one unit over the
last maps, where the original has several between the blocks of both networks.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from cia_extract.common.errors import UsageError
from torch import nn

from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature
from cia_adapt.parts.registry import check_positive, check_several


@dataclass(frozen=True)
class Options:
    """MMTM's settings."""

    ratio: int = 4
    """Of the squeeze: 2 ΣC / ratio wide."""
    doubled: bool = False
    """Gates 2σ in (0, 2) instead of σ in (0, 1)."""


class MultimodalTransfer(nn.Module):
    """Gate the channels of two or more modalities, maps or vectors. Raises UsageError for a single one.

    >>> mmtm = MultimodalTransfer({"rgb": 1024, "flow": 1024}, Options(ratio=16))
    >>> sum(p.numel() for p in mmtm.parameters())
    1050880
    """

    def __init__(self, channels: Mapping[str, int], options: Options = Options()) -> None:
        super().__init__()
        check_positive("mmtm", options, "ratio")
        check_several("MMTM", channels)
        total = sum(channels.values())
        width = int(2 * total / options.ratio)
        if width < 1:
            raise UsageError(f"--set mmtm.ratio={options.ratio}: nothing is left of {total} channels")
        self.scale = 2.0 if options.doubled else 1.0
        self.squeeze = nn.Linear(total, width)
        self.excite = nn.ModuleDict({m: nn.Linear(width, c) for m, c in channels.items()})

    def forward(self, features: Mapping[str, Feature]) -> dict[str, Feature]:
        joint = torch.relu(self.squeeze(torch.cat([features[m].average() for m in self.excite], dim=1)))  # [N, width]
        return {m: features[m].times(self.scale * torch.sigmoid(layer(joint))) for m, layer in self.excite.items()}


def build(sizes: Sizes, options: Options) -> nn.Module:
    return MultimodalTransfer(sizes.channels, options)
