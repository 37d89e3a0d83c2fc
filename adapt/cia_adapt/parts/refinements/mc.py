"""MC, mutual complementarity: gates that see a modality and another one refine the channels of the first.

Yang, Huang, Sugano and Sato, "Interact before Align", CVPR 2022. RECONSTRUCTED (design A of docs/reconstruction.md): the public
supplement fixes input shapes, the bottleneck ratio r = 16 and that MC comes before SC, not its inside.

    z_m = mean over H×W of F_m;   g_{r←s} = 2σ(W₂ ReLU(W₁ x + b₁) + b₂) − 1, in (−1, 1)
    recalibrate (default)  F̂_r = F_r ⊙ (1 + mean_s g_{r←s})
    inject_vec             F̂_r = F_r + mean_s g_{r←s} ⊙ z_s
    inject_map             F̂_r = F_r + mean_s g_{r←s} ⊙ F_s     (under average pooling the same as inject_vec)

What a gate sees, x, and gives (`variant`; the letters are those of docs/reconstruction.md). At the right: the number of
parameters for two modalities of 1024 channels.
    c (default)  x = [z_r; z_s], C_r + C_s → (C_r + C_s)/r → C_r                                              788,736
    a            x = z_s, C_s → C_s/r → C_r (squeeze and excitation of the sender)                             264,320
    e            x = [z_r; z_s] → (C_r + C_s)/r → one gate for the receiver and one for the sender's evidence: 1,052,928
                 F̂_r = F_r ⊙ (1 + mean g) + mean g' ⊙ z_s (recalibrate, inject_vec) or F_s (inject_map)

W₂ and b₂ start at zero, so that MC starts as the identity. Source and target share the weights; MC sees no domain label.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from cia_extract.common.errors import UsageError
from torch import Tensor, nn

from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature
from cia_adapt.parts.ranges import Count
from cia_adapt.parts.registry import check_grids, check_several


@dataclass(frozen=True)
class Options:
    """Settings of the refinement `mc`, mutual complementarity."""

    ratio: Count = 16
    """r, by which a gate's hidden layer is narrower than its input; the larger, the fewer parameters."""
    mode: Literal["recalibrate", "inject_vec", "inject_map"] = "recalibrate"
    """What a gate does: scale the receiver's channels, or add the sender's mean vector or its maps, gated, to the receiver."""
    variant: Literal["a", "c", "e"] = "c"
    """What a gate sees: the sender (a) or both (c; e, with a second gate for the sender). Variant f is --refinement mmtm."""


class MutualComplementarity(nn.Module):
    """Refine the maps and vectors of two or more modalities; their channel counts may differ unless something is injected.

    Args:
        channels: {modality: C}; every ordered pair of modalities has a gate of its own.

    Raises:
        UsageError: there is one modality only, or modalities of unlike width are to be added.

    >>> mc = MutualComplementarity({"rgb": 1024, "flow": 1024})
    >>> sum(p.numel() for p in mc.parameters())
    788736
    """

    def __init__(self, channels: Mapping[str, int], options: Options = Options()) -> None:
        super().__init__()
        check_several("MC", channels)
        self.injects = options.mode != "recalibrate" or options.variant == "e"
        if self.injects and len(set(channels.values())) > 1:
            have = ", ".join(f"{m} {c}" for m, c in channels.items())
            raise UsageError(
                f"MC adds one modality to another and needs equal channels, here are {have}; use --set mc.mode=recalibrate"
            )
        self.channels, self.options = dict(channels), options
        self.gates = nn.ModuleDict()
        for receiver, width in channels.items():
            for sender in self._senders(receiver):
                seen = channels[sender] + (0 if options.variant == "a" else width)
                hidden = max(1, seen // options.ratio)
                last = nn.Linear(hidden, 2 * width if options.variant == "e" else width)
                nn.init.zeros_(last.weight)
                nn.init.zeros_(last.bias)
                self.gates[f"{receiver}_from_{sender}"] = nn.Sequential(nn.Linear(seen, hidden), nn.ReLU(), last)

    def forward(self, features: Mapping[str, Feature]) -> dict[str, Feature]:
        """{modality: maps [N, C, H, W] or vectors [N, C]} → the same, refined."""
        squeezed = {m: features[m].average() for m in self.channels}  # [N, C] each
        return {m: self._refine(m, features, squeezed) for m in self.channels}

    def gate(self, receiver: str, sender: str, squeezed: Mapping[str, Tensor]) -> Tensor:
        """g_{receiver←sender} in (−1, 1), [N, C], from the squeezed features {modality: [N, C]}.

        In variant e [N, 2C]: the receiver's gate, then the sender's.
        """
        seen = [squeezed[sender]] if self.options.variant == "a" else [squeezed[receiver], squeezed[sender]]
        return 2 * torch.sigmoid(self.gates[f"{receiver}_from_{sender}"](torch.cat(seen, dim=1))) - 1

    def _refine(self, receiver: str, features: Mapping[str, Feature], squeezed: Mapping[str, Tensor]) -> Feature:
        """F̂ of the receiver: scaled by its gates, or with the senders' features, gated by `evidence`, added to it."""
        feature, senders = features[receiver], self._senders(receiver)
        gates = {s: self.gate(receiver, s, squeezed) / len(senders) for s in senders}
        evidence = gates
        if self.options.variant == "e":
            own, evidence = ({s: g.chunk(2, dim=1)[half] for s, g in gates.items()} for half in (0, 1))
            feature = feature.times(1 + torch.stack(list(own.values())).sum(0))
        if not self.injects:
            return feature.times(1 + torch.stack(list(evidence.values())).sum(0))
        if self.options.mode == "inject_map" and feature.is_map and any(features[s].is_map for s in senders):
            dense = feature.dense()
            for sender, gate in evidence.items():
                sent = features[sender].times(gate)
                dense = dense + (sent.dense() if sent.is_map else sent.dense()[:, :, None, None])
            return Feature(dense)
        return feature.plus(sum((gate * squeezed[s] for s, gate in evidence.items()), torch.zeros_like(squeezed[receiver])))

    def _senders(self, receiver: str) -> list[str]:
        return [m for m in self.channels if m != receiver]


def build(sizes: Sizes, options: Options) -> nn.Module:
    """The refinement for modalities of these sizes. Raises UsageError where they do not allow it."""
    if options.mode == "inject_map":
        check_grids("MC", sizes.grids)
    return MutualComplementarity(sizes.channels, options)
