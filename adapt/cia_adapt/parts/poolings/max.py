"""Max pooling over the cells, channel by channel."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from torch import nn

from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature, Pooled, cells

NEEDS_MAPS: Final = True


@dataclass(frozen=True)
class Options:
    """The pooling `max` has no settings."""


class MaxPooling(nn.Module):
    """The largest value of each channel over the cells of a map; vectors stay as they are."""

    def forward(self, features: Mapping[str, Feature]) -> Pooled:
        """{modality: maps [N, C, H, W] or vectors [N, C]} → {modality: [N, C]}."""
        return Pooled({m: cells(f.dense()).amax(1) if f.is_map else f.average() for m, f in features.items()})


def build(sizes: Sizes, options: Options) -> nn.Module:
    """The pooling, which is the same for all sizes."""
    return MaxPooling()
