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

from cia_adapt.modules.pooling import cells, weighted_pool


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
        # A 1×1 convolution is a linear map of each cell's channels; as such it is one matrix product over all cells.
        self.embed = nn.ModuleDict({m: nn.Linear(channels, embedding) if embedding else nn.Identity() for m in modalities})

    def forward(self, features: dict[str, Tensor]) -> tuple[dict[str, Tensor], Tensor]:
        """{modality: [B, C, H, W]} → ({modality: [B, C]}, S [B, H, W]). Fastest on channels_last tensors."""
        consensus = self.consensus(features)
        return {m: weighted_pool(features[m], consensus) for m in self.modalities}, consensus

    def consensus(self, features: dict[str, Tensor]) -> Tensor:
        """S [B, H, W], non-negative with sum 1."""
        first, second = (self.embed[m](cells(features[m])) for m in self.modalities)  # [B, HW, E]
        height, width = features[self.modalities[0]].shape[2:]
        correlations = multi_scale_correlation(first, second, self.scales, height, width)  # [B, k, HW]
        logits = correlations.sum(1) / (self.scales * self.temperature)
        return logits.softmax(dim=1).unflatten(1, (height, width))


def multi_scale_correlation(first: Tensor, second: Tensor, scales: int, height: int, width: int) -> Tensor:
    """c_κ(i) for κ = 1 … scales: two embeddings [B, HW, E] → [B, scales, HW], cosines in [−1, 1].

    With unit vectors u and box means P_κ u = A_κ u, every product ⟨P_κ u_a (i), P_κ u_b (i)⟩ is the i-th diagonal element
    of A_κ G A_κᵀ, G the matrix of all products ⟨u_a (j), u_b (l)⟩. So three 49×49 matrices a frame and one small matrix
    product serve all scales, and no box-filtered copy of the maps is made.
    """
    boxes = torch.stack([box_operator(scale, height, width) for scale in range(1, scales + 1)]).to(first)  # [k, HW, HW]
    diagonals = torch.einsum("kij,kil->jlki", boxes, boxes).flatten(2).flatten(0, 1)  # [HW·HW, k·HW]
    norm = {id(x): torch.linalg.vector_norm(x, dim=2).clamp_min(1e-6) for x in (first, second)}  # [B, HW]

    def products(a: Tensor, b: Tensor) -> Tensor:
        unit = a @ b.transpose(1, 2) / (norm[id(a)][:, :, None] * norm[id(b)][:, None, :])  # [B, HW, HW]
        return (unit.flatten(1) @ diagonals).unflatten(1, (scales, -1))

    length = (products(first, first) * products(second, second)).clamp_min(1e-12).sqrt()
    return products(first, second) / length


def box_operator(size: int, height: int, width: int) -> Tensor:
    """[HW, HW]: row i averages the size×size cells around cell i, stride 1; cells outside are not counted.

    An even box reaches one cell further to the right and to the bottom.

    >>> box_operator(2, 1, 3)
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.5000, 0.5000],
            [0.0000, 0.0000, 1.0000]])
    """
    front, back = (size - 1) // 2, size // 2

    def reach(length: int) -> Tensor:
        offset = torch.arange(length)[None, :] - torch.arange(length)[:, None]
        return ((offset >= -front) & (offset <= back)).float()

    inside = torch.kron(reach(height), reach(width))
    return inside / inside.sum(1, keepdim=True)
