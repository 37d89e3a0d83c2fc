"""SC, spatial consensus: one map of weights, from what two modalities agree on, pools both.

Yang, Huang, Sugano and Sato, "Interact before Align", CVPR 2022; k = 3 scales (supplement §1, Table 2). RECONSTRUCTED: the
supplement says that SC makes one shared map from correlations at several scales and re-weights locations, not how.

    u_m = θ_m(F̂_m) / ‖·‖ over channels, θ_m a 1×1 convolution to half the channels (or the identity)
    c_κ(i) = cos(P_κ u_a (i), P_κ u_b (i)), κ = 1 … k, P_κ the κ×κ box mean over valid cells
    S = softmax over cells of Σ_κ c_κ / (k τ);   f_m = Σ_i S(i) F̂_m(·, i)

A uniform S is average pooling. S does not change when the modalities change places together with their θ.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class SpatialConsensus(nn.Module):
    """Pool the maps of two modalities with one consensus map.

    Args:
        modalities: the two that have maps.
        channels: C of the maps.
        embedding: channels of θ; 0 for the identity (no parameters).
        scales: k.
        temperature: τ; the smaller, the sharper the map.

    >>> sum(p.numel() for p in SpatialConsensus(("rgb", "flow")).parameters())
    1049600
    """

    def __init__(
        self,
        modalities: tuple[str, str],
        channels: int = 1024,
        embedding: int = 512,
        scales: int = 3,
        temperature: float = 0.1,
    ) -> None:
        super().__init__()
        if len(modalities) != 2:
            raise ValueError(f"SC is a consensus of two modalities with maps, got {list(modalities)}")
        self.modalities, self.scales, self.temperature = modalities, scales, temperature
        self.embed = nn.ModuleDict(
            {m: nn.Conv2d(channels, embedding, 1) if embedding else nn.Identity() for m in modalities}
        )

    def forward(self, features: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """{modality: [B, C, H, W]} → ({modality: [B, C]}, S [B, H, W])."""
        consensus = self.consensus(features)
        return {m: weighted_pool(features[m], consensus) for m in self.modalities}, consensus

    def consensus(self, features: dict[str, Tensor]) -> Tensor:
        """S [B, H, W], non-negative with sum 1."""
        first, second = (F.normalize(self.embed[m](features[m]), dim=1) for m in self.modalities)
        total = torch.stack([correlation(first, second, scale) for scale in range(1, self.scales + 1)]).sum(0)
        logits = total / (self.scales * self.temperature)
        return logits.flatten(1).softmax(dim=1).view_as(logits)


def correlation(first: Tensor, second: Tensor, scale: int) -> Tensor:
    """Cosine in [−1, 1] between the scale×scale box means of two maps, [B, E, H, W] twice → [B, H, W]."""
    return F.cosine_similarity(box_mean(first, scale), box_mean(second, scale), dim=1)


def box_mean(maps: Tensor, size: int) -> Tensor:
    """Mean over size×size cells around each, stride 1, same size out; cells outside are not counted.

    An even box reaches one cell further to the right and to the bottom.

    >>> box_mean(torch.tensor([[[[1.0, 2.0, 6.0]]]]), 2)
    tensor([[[[1.5000, 4.0000, 6.0000]]]])
    """
    if size == 1:
        return maps
    front, back = (size - 1) // 2, size // 2
    padded = F.pad(maps, (front, back, front, back))
    inside = F.pad(torch.ones_like(maps[:1, :1]), (front, back, front, back))
    return F.avg_pool2d(padded, size, stride=1) / F.avg_pool2d(inside, size, stride=1)


def weighted_pool(maps: Tensor, weights: Tensor) -> Tensor:
    """Σ_i S(i) F(·, i): [B, C, H, W] and [B, H, W] → [B, C]."""
    return torch.einsum("bchw,bhw->bc", maps, weights)
