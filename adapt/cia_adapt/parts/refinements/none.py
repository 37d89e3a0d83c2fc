"""No refinement: every modality stays as it was extracted."""

from collections.abc import Mapping
from dataclasses import dataclass

from torch import nn

from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature


@dataclass(frozen=True)
class Options:
    """The refinement `none` has no settings."""


class NoRefinement(nn.Module):
    """The identity on {modality: maps [N, C, H, W] or vectors [N, C]}."""

    def forward(self, features: Mapping[str, Feature]) -> Mapping[str, Feature]:
        """The features themselves."""
        return features


def build(sizes: Sizes, options: Options) -> nn.Module:
    """The identity, whatever the sizes."""
    return NoRefinement()
