"""No refinement: every modality as it was extracted."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature


@dataclass(frozen=True)
class Options:
    """None."""


class NoRefinement(nn.Module):
    """The identity."""

    def forward(self, features: Mapping[str, Feature]) -> Mapping[str, Feature]:
        return features


def build(sizes: Sizes, options: Options) -> nn.Module:
    return NoRefinement()
