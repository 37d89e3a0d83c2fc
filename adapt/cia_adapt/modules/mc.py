"""MC, mutual complementarity: each modality is refined by gates that see it and a second one.

Yang, Huang, Sugano and Sato, "Interact before Align", CVPR 2022. RECONSTRUCTED (design A of the project's method notes): the
public supplement fixes input shapes, the bottleneck ratio 16 and that MC comes before SC, not its inside.

    z_m = mean over H×W of F_m;   g_{r←s} = 2σ(W₂ ReLU(W₁ [z_r; z_s] + b₁) + b₂) − 1, in (−1, 1)
    recalibrate (default)  F̂_r = F_r ⊙ (1 + mean_s g_{r←s})
    inject_vec             F̂_r = F_r + mean_s g_{r←s} ⊙ z_s
    inject_map             F̂_r = F_r + mean_s g_{r←s} ⊙ F_s

W₂ and b₂ start at zero, so that MC starts as the identity. The weights serve source and target alike; no domain label enters.
"""

from collections.abc import Sequence
from typing import Final

import torch
from torch import Tensor, nn

from cia_adapt.modules.pooling import average_pool

MODES: Final = ("recalibrate", "inject_vec", "inject_map")


class MutualComplementarity(nn.Module):
    """Refine maps [B, C, H, W] and vectors [B, C] of any two or more modalities; shapes are kept.

    Args:
        modalities: their names; every ordered pair has a gate of its own.
        channels: C, equal in all modalities.
        ratio: the bottleneck of a gate is 2C/ratio wide.
        mode: one of `MODES`; inject_map needs maps on both sides.

    >>> mc = MutualComplementarity(["rgb", "flow"])
    >>> sum(p.numel() for p in mc.parameters())
    788736
    """

    def __init__(self, modalities: Sequence[str], channels: int = 1024, ratio: int = 16, mode: str = "recalibrate") -> None:
        super().__init__()
        if len(modalities) < 2:
            raise ValueError(f"MC exchanges between modalities and needs two, got {list(modalities)}")
        if mode not in MODES:
            raise ValueError(f"unknown MC mode {mode!r}, choose from {', '.join(MODES)}")
        self.modalities, self.mode = tuple(modalities), mode
        hidden = 2 * channels // ratio
        self.gates = nn.ModuleDict()
        for receiver in modalities:
            for sender in modalities:
                if sender != receiver:
                    last = nn.Linear(hidden, channels)
                    nn.init.zeros_(last.weight)
                    nn.init.zeros_(last.bias)
                    gate = nn.Sequential(nn.Linear(2 * channels, hidden), nn.ReLU(), last)
                    self.gates[f"{receiver}_from_{sender}"] = gate

    def forward(self, features: dict[str, Tensor]) -> dict[str, Tensor]:
        squeezed = {m: average_pool(features[m]) if features[m].ndim == 4 else features[m] for m in self.modalities}
        return {m: self._refine(m, features, squeezed) for m in self.modalities}

    def gate(self, receiver: str, sender: str, squeezed: dict[str, Tensor]) -> Tensor:
        """g_{receiver←sender} in (−1, 1), [B, C]."""
        pair = torch.cat([squeezed[receiver], squeezed[sender]], dim=1)  # [B, 2C]
        return 2 * torch.sigmoid(self.gates[f"{receiver}_from_{sender}"](pair)) - 1

    def _refine(self, receiver: str, features: dict[str, Tensor], squeezed: dict[str, Tensor]) -> Tensor:
        feature = features[receiver]
        senders = [m for m in self.modalities if m != receiver]
        total = torch.zeros((), dtype=feature.dtype, device=feature.device)
        for sender in senders:
            gate = _as(self.gate(receiver, sender, squeezed), feature)
            if self.mode == "inject_vec":
                gate = gate * _as(squeezed[sender], feature)
            elif self.mode == "inject_map":
                gate = gate * features[sender]
            total = total + gate / len(senders)
        return feature * (1 + total) if self.mode == "recalibrate" else feature + total


def _as(vector: Tensor, feature: Tensor) -> Tensor:
    """[B, C] → [B, C, 1, 1] where the feature is a map."""
    return vector[:, :, None, None] if feature.ndim == 4 else vector
