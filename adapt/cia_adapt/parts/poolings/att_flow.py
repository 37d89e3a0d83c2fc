"""Att*: the attention of flow guides that of the other modalities.

The supplement, §6: "we use Flow attention to guide the RGB attention (Att*)". RECONSTRUCTED, after MARS (Crasto et al., CVPR
2019) and Dance with Flow (Zhao and Snoek, CVPR 2019), which it cites; gates as in `att`:

    A_flow = σ(BN(conv7×7([max_c; mean_c] F_flow)));   A_m = σ(BN(conv7×7([max_c; mean_c] F_m, A_flow)))
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from cia_extract.common.errors import UsageError
from torch import nn

from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature, Pooled
from cia_adapt.parts.poolings.att import SpatialGate, check_kernel, gated_average
from cia_adapt.parts.registry import check_grids

NEEDS_MAPS: Final = True


@dataclass(frozen=True)
class Options:
    """Settings of the pooling `att_flow`."""

    kernel: int = 7
    """Side of the gates' convolutions in cells, odd; the larger, the wider the surroundings that decide a cell's attention."""


class GuidedAttention(nn.Module):
    """Gate the cells of each of `modalities`, which have maps, and average them; vectors stay as they are.

    The attention of the modality `guide` comes first and is a further plane of the other gates. Raises UsageError where the guide
    has no maps, or no other modality has.
    """

    def __init__(self, modalities: tuple[str, ...], kernel: int = 7, guide: str = "flow") -> None:
        super().__init__()
        if guide not in modalities or len(modalities) < 2:
            raise UsageError(
                f"--pooling att_flow: {guide} guides another modality, and both need maps; "
                f"modalities with maps: {', '.join(modalities) or 'none'}"
            )
        self.guide = guide
        self.gates = nn.ModuleDict({m: SpatialGate(kernel, further=int(m != guide)) for m in modalities})

    def forward(self, features: Mapping[str, Feature]) -> Pooled:
        """{modality: maps [N, C, H, W] or vectors [N, C]} → {modality: [N, C]}."""
        vectors = {m: f.average() for m, f in features.items() if m not in self.gates}
        guiding = self.gates[self.guide](features[self.guide].dense())  # [N, H, W]
        for m, gate in self.gates.items():
            attention = guiding if m == self.guide else gate(features[m].dense(), guiding)
            vectors[m] = gated_average(features[m], attention)
        return Pooled({m: vectors[m] for m in features})


def build(sizes: Sizes, options: Options) -> nn.Module:
    """The pooling for modalities of these sizes. Raises UsageError for maps of unlike size and for an even kernel."""
    check_grids("--pooling att_flow", sizes.grids)
    check_kernel("att_flow", options.kernel)
    return GuidedAttention(tuple(sizes.grids), options.kernel)
