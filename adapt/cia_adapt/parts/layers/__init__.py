"""What several parts share: features of maps, gradient reversal, layers, contrastive losses."""

from cia_adapt.parts.layers.gradient_reversal import GradientReversal
from cia_adapt.parts.layers.heads import SharedLayer, output_layer
from cia_adapt.parts.layers.maps import Feature, Pooled, to_float

__all__ = ["Feature", "GradientReversal", "Pooled", "SharedLayer", "output_layer", "to_float"]
