"""SC, spatial consensus: one map of weights pools all modalities; cells weigh the more, the more the modalities agree there.

Yang, Huang, Sugano and Sato, "Interact before Align", CVPR 2022; k = 3 scales (supplement §1, Table 2). RECONSTRUCTED: the
supplement says that SC computes one shared map from correlations at several scales and re-weights locations with it, not how.

    u_m = θ_m(F̂_m) / ‖·‖ over channels, θ_m a 1×1 convolution to half the channels (or the identity)
    pool (default)  c_κ(i) = cos(P_κ u_a (i), P_κ u_b (i)), κ = 1 … k, P_κ the κ×κ box mean over valid cells
    patch           c_κ = P_κ c_1: the inner product of patches, without cross terms
    window_max      c_κ(i) = ½ max_j ⟨u_a(i), u_b(j)⟩ + ½ max_j ⟨u_a(j), u_b(i)⟩ over the κ×κ cells j around i
    S = softmax over cells of Σ_κ c_κ / (k τ);   f_m = Σ_i S(i) F̂_m(·, i)

`centre`, `standardise` and `blend` are ways to keep a map from collapsing on few cells; all are off by default.

A uniform S is average pooling. S does not depend on the order of the modalities and their θ. With three modalities that have
maps, c is the mean over their pairs.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import combinations
from typing import Annotated, Final, Literal

import torch
from cia_extract.common.errors import UsageError
from msgspec import Meta
from torch import Tensor, nn

from cia_adapt.parts.interface import Sizes
from cia_adapt.parts.layers.maps import Feature, Pooled, gram
from cia_adapt.parts.ranges import Positive, Share
from cia_adapt.parts.registry import check_grids

NEEDS_MAPS: Final = True


@dataclass(frozen=True)
class Options:
    """Settings of the pooling `sc`, spatial consensus."""

    scales: Annotated[int, Meta(ge=1, le=7)] = 3
    """k, the number of scales at which modalities are correlated, 1 to 7; scale κ compares patches of κ × κ cells."""
    embedding: int = 512
    """Channels to which θ embeds each cell before cells are compared; 0 compares the features themselves, without parameters."""
    scoring: Literal["pool", "patch", "window_max"] = "pool"
    """How patches of κ > 1 are compared: by their means (pool), cell by cell (patch), or by the best match (window_max)."""
    temperature: Positive = 0.1
    """τ, which divides the correlations before the softmax over cells; the smaller, the sharper the map."""
    learn_temperature: bool = False
    """Train log τ from `temperature` on; false keeps τ fixed."""
    centre: bool = False
    """Subtract the mean over a frame's cells from the embeddings, so that only what tells cells apart is compared."""
    standardise: float = 0.0
    """Standard deviation over cells that scores are scaled to before the softmax, in place of τ; 0: not scaled, τ as above."""
    blend: Share = 1.0
    """α of S′ = (1 − α)/HW + α·S, 0 … 1; 1 is the map alone, 0 average pooling."""
    learn_blend: bool = False
    """Train α from `blend` on; false keeps it fixed."""


class SpatialConsensus(nn.Module):
    """Pool the maps of two or more modalities with one consensus map; vectors stay as they are.

    Args:
        channels: {modality: C} of the modalities that have maps.

    Raises:
        UsageError: fewer than two modalities have maps, or without an embedding they have unlike channels.

    >>> sum(p.numel() for p in SpatialConsensus({"rgb": 1024, "flow": 1024}).parameters())
    1049600
    """

    def __init__(self, channels: Mapping[str, int], options: Options = Options()) -> None:
        super().__init__()
        if len(channels) < 2:
            have = ", ".join(channels) or "none"
            raise UsageError(f"SC is a consensus of modalities with maps and needs two, here: {have}; use --pooling avg")
        if not options.embedding and len(set(channels.values())) > 1:
            raise UsageError("--set sc.embedding=0: without an embedding the modalities need equal channels")
        self.options = options
        # A 1×1 convolution is a linear map of each cell's channels.
        self.embed = nn.ModuleDict({m: nn.Linear(c, options.embedding) for m, c in channels.items()} if options.embedding else {})
        self.modalities = tuple(channels)
        start = torch.tensor(math.log(options.temperature))
        self.log_temperature = nn.Parameter(start, requires_grad=options.learn_temperature) if options.learn_temperature else None
        self.blend = nn.Parameter(torch.tensor(options.blend)) if options.learn_blend else None

    def forward(self, features: Mapping[str, Feature]) -> Pooled:
        """{modality: maps [N, C, H, W] or vectors [N, C]} → {modality: [N, C]} and the consensus maps [N, H, W]."""
        consensus = self.consensus(features)
        pooled = {m: f.pool(consensus) if m in self.modalities else f.average() for m, f in features.items()}
        return Pooled(pooled, weights=consensus)

    def consensus(self, features: Mapping[str, Feature]) -> Tensor:
        """S [N, H, W]: non-negative, sum 1 over the cells of a frame."""
        height, width = features[self.modalities[0]].data.shape[2:]
        layers = [self.embed[m] if self.options.embedding else None for m in self.modalities]
        products = gram([features[m] for m in self.modalities], layers)  # type: ignore[arg-type]
        if self.options.centre:
            products = {pair: centred(product) for pair, product in products.items()}
        with torch.autocast(products[0, 0].device.type, enabled=False):  # cosines near 1 differ by less than bfloat16 can tell
            return self._softmax(cosines_of(products), height, width)

    def _softmax(self, cosines: Mapping[tuple[int, int], Tensor], height: int, width: int) -> Tensor:
        """Cosines {(m, n): [N, HW, HW]} → S [N, H, W]."""
        pairs = [
            correlation(cosines[a, a], cosines[a, b], cosines[b, b], self.options.scales, self.options.scoring, height, width)
            for a, b in combinations(range(len(self.modalities)), 2)
        ]  # [N, k, HW] each
        scores = torch.stack(pairs).mean(0).mean(1)  # [pairs, N, k, HW] → [N, HW]
        consensus = (self._standardised(scores) if self.options.standardise else scores * self._sharpness()).softmax(dim=1)
        return self._blended(consensus).unflatten(1, (height, width))  # [N, H, W]

    def _sharpness(self) -> float | Tensor:
        """1/τ."""
        return 1 / self.options.temperature if self.log_temperature is None else torch.exp(-self.log_temperature)

    def _standardised(self, scores: Tensor) -> Tensor:
        """Scores [N, HW] with mean 0 and the standard deviation asked for over the cells of each frame."""
        centre, spread = scores.mean(1, keepdim=True), scores.std(1, keepdim=True, correction=0)
        return self.options.standardise * (scores - centre) / spread.clamp_min(1e-6)

    def _blended(self, consensus: Tensor) -> Tensor:
        """S′ of the maps [N, HW]. A trained α is held between 0 and 1; its gradient passes as if it were not."""
        if self.blend is None and self.options.blend == 1:
            return consensus
        alpha: float | Tensor = self.options.blend
        if self.blend is not None:
            alpha = self.blend + (self.blend.clamp(0, 1) - self.blend).detach()
        return (1 - alpha) / consensus.shape[1] + alpha * consensus


def centred(products: Tensor) -> Tensor:
    """Products of cells ⟨u(i), v(j)⟩ [N, HW, HW] → those of u and v less their means over cells, H G H with H = I − 11ᵀ/HW."""
    rows = products - products.mean(2, keepdim=True)
    return rows - rows.mean(1, keepdim=True)


def cosines_of(products: Mapping[tuple[int, int], Tensor]) -> dict[tuple[int, int], Tensor]:
    """Products of cells {(m, n): [N, HW, HW]} → their cosines, in the same shape; a cell of zeros has cosine 0 to all."""
    inverse = {m: p.diagonal(dim1=1, dim2=2).clamp_min(1e-12).rsqrt() for (m, n), p in products.items() if m == n}  # [N, HW]
    # The norms' outer product by bmm: its gradient is a product too, and no sums over the cells of all frames.
    return {(m, n): p * torch.bmm(inverse[m][:, :, None], inverse[n][:, None, :]) for (m, n), p in products.items()}


def correlation(aa: Tensor, ab: Tensor, bb: Tensor, scales: int, scoring: str, height: int, width: int) -> Tensor:
    """Correlation c_κ(i) in [−1, 1] of modalities a and b at cell i and scales κ = 1 … scales, [N, scales, HW].

    Args:
        aa, ab, bb: the cosines of all cells within a, between a and b, and within b, [N, HW, HW] each.
        scoring: `Options.scoring`; the formulas are at the head of this file.
    """
    boxes = torch.stack([box_operator(scale, height, width) for scale in range(1, scales + 1)]).to(ab)  # [k, HW, HW]
    if scoring == "pool":
        ab, aa, bb = (box_products(products, boxes) for products in (ab, aa, bb))
        return ab / (aa * bb).clamp_min(1e-12).sqrt()
    if scoring == "patch":
        return torch.einsum("kij,nj->nki", boxes, ab.diagonal(dim1=1, dim2=2))
    outside = boxes == 0
    best_in_b = ab[:, None].masked_fill(outside, -torch.inf).amax(3)  # [N, k, HW]
    best_in_a = ab.transpose(1, 2)[:, None].masked_fill(outside, -torch.inf).amax(3)  # [N, k, HW]
    return (best_in_b + best_in_a) / 2


def box_products(products: Tensor, boxes: Tensor) -> Tensor:
    """⟨P_κ u (i), P_κ v (i)⟩ for each scale κ from all products G = ⟨u(j), v(l)⟩ [..., HW, HW] → [..., k, HW].

    `boxes` [k, HW, HW] are the box means A_κ (P_κ u = A_κ u). The result is the i-th diagonal element of A_κ G A_κᵀ: one small
    matrix product serves all scales, without box-filtered copies of the maps.
    """
    diagonals = torch.einsum("kij,kil->jlki", boxes, boxes).flatten(2).flatten(0, 1)  # [HW·HW, k·HW]
    return (products.flatten(-2) @ diagonals).unflatten(-1, (len(boxes), -1))


def box_operator(size: int, height: int, width: int) -> Tensor:
    """The box mean as a matrix [HW, HW]: row i averages the size × size cells around cell i that lie inside the map.

    A box of even size reaches one cell further to the right and to the bottom.

    >>> box_operator(2, 1, 3)
    tensor([[0.5000, 0.5000, 0.0000],
            [0.0000, 0.5000, 0.5000],
            [0.0000, 0.0000, 1.0000]])
    """
    front, back = (size - 1) // 2, size // 2

    def within_reach(length: int) -> Tensor:
        offset = torch.arange(length)[None, :] - torch.arange(length)[:, None]
        return ((offset >= -front) & (offset <= back)).float()  # [length, length]

    inside = torch.kron(within_reach(height), within_reach(width))  # [HW, HW]
    return inside / inside.sum(1, keepdim=True)


def build(sizes: Sizes, options: Options) -> nn.Module:
    """The pooling for modalities of these sizes. Raises UsageError for maps of unlike size and as `SpatialConsensus` does."""
    check_grids("SC", sizes.grids)
    return SpatialConsensus({m: sizes.channels[m] for m in sizes.grids}, options)
