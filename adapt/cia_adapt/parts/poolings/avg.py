"""Average pooling over the cells."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import nn

from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature, Pooled

NEEDS_MAPS: Final = False


@dataclass(frozen=True)
class Options:
    """The pooling `avg` has no settings."""


class AveragePooling(nn.Module):
    """The mean over the cells of each map; vectors stay as they are."""

    def forward(self, features: Mapping[str, Feature]) -> Pooled:
        """{modality: maps [N, C, H, W] or vectors [N, C]} → {modality: [N, C]}."""
        return Pooled({m: feature.average() for m, feature in features.items()})


def build(sizes: Sizes, options: Options) -> nn.Module:
    """The pooling, which is the same for all sizes."""
    return AveragePooling()
