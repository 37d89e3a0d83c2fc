"""Features of one modality whose gates are applied late, and spatial pooling. Fastest on channels_last maps.

Gates of channels commute with weighted pooling, Σ_i S(i) (g ⊙ F(·, i) + b) = g ⊙ Σ_i S(i) F(·, i) + b Σ S. So refinements leave
the maps alone, and a refined map is computed only where a part needs one (`dense`, and `gram` chunk by chunk).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import combinations_with_replacement
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

CHUNK = 4_900_000  # bytes of one modality's refined maps that `gram` holds at a time: about what the caches take


@dataclass(frozen=True)
class Feature:
    """One modality's features F̂ = gain ⊙ data + shift, not yet multiplied out.

    Args:
        data: maps [N, C, H, W], channels_last, float32 or 16 bits under autocast; or vectors [N, C].
        gain: [N, C]; None stands for 1.
        shift: [N, C]; None stands for 0.
    """

    data: Tensor
    gain: Tensor | None = None
    shift: Tensor | None = None

    @property
    def is_map(self) -> bool:
        """Whether `data` are maps rather than vectors."""
        return self.data.ndim == 4

    def times(self, gate: Tensor) -> "Feature":
        """gate [N, C] ⊙ F̂, in every cell."""
        shift = None if self.shift is None else self.shift * gate
        return replace(self, gain=gate if self.gain is None else self.gain * gate, shift=shift)

    def plus(self, vector: Tensor) -> "Feature":
        """F̂ + vector [N, C], in every cell."""
        return replace(self, shift=vector if self.shift is None else self.shift + vector)

    def pool(self, weights: Tensor) -> Tensor:
        """Σ_i S(i) F̂(·, i), maps pooled with the weights S [N, H, W] of their cells → [N, C]."""
        return self._gated(weighted_pool(self.data, weights), weights.flatten(1).sum(1, keepdim=True))

    def average(self) -> Tensor:
        """F̂ as vectors [N, C]: maps averaged over their cells, vectors as they are."""
        return self._gated(average_pool(self.data) if self.is_map else self.data, None)

    def dense(self) -> Tensor:
        """F̂ multiplied out, in the shape of `data`."""
        if not self.is_map:
            return self.average()
        gain, shift = (
            None if x is None else x[:, :, None, None].to(self.data.dtype) for x in (self.gain, self.shift)
        )  # [N, C, 1, 1]
        out = self.data if gain is None else self.data * gain
        return out if shift is None else out + shift

    def _gated(self, pooled: Tensor, total: Tensor | None) -> Tensor:
        """Gain and shift on pooled data [N, C]; `total` [N, 1] is the weights' sum over cells, None for 1."""
        pooled = pooled if self.gain is None else pooled * self.gain
        if self.shift is None:
            return pooled
        return pooled + (self.shift if total is None else self.shift * total)


@dataclass(frozen=True)
class Pooled:
    """What a spatial pooling gives."""

    vectors: Mapping[str, Tensor]
    """{modality: [N, C]}."""
    weights: Tensor | None = None
    """SC's consensus maps [N, H, W], which weigh the cells of all modalities; None of the other poolings."""
    domain_logits: Mapping[str, Tensor] = field(default_factory=dict)
    """{level: [N, …, 2]} of the discriminators inside the part, behind their gradient reversal."""


def gram(features: Sequence[Feature], layers: Sequence[nn.Linear | None]) -> dict[tuple[int, int], Tensor]:
    """All products ⟨u_m(i), u_n(j)⟩ of the cells of the modalities' maps [N, C, H, W], u = θ(F̂) with the modality's layer θ.

    A layer of None leaves the cells as they are. Returns {(m, n), m ≤ n: [N, HW, HW]}. Refined maps are computed for some frames
    at a time, so that they stay in the caches, and again for the gradient. Features as read from the file get no gradient: they
    are constants.
    """
    dtype = _autocast_dtype(features[0].data)
    flat: list[Tensor | None] = []
    for feature, layer in zip(features, layers, strict=True):
        weights = (None, None) if layer is None else (layer.weight, layer.bias)
        flat += [feature.data, feature.gain, feature.shift, *weights]
    pairs = list(combinations_with_replacement(range(len(features)), 2))
    return dict(zip(pairs, _Gram.apply(dtype, *flat), strict=True))


class _Gram(torch.autograd.Function):
    """U_m U_nᵀ of U = θ(gain ⊙ data + shift); arguments come in fives a modality: data, gain, shift, weight [E, C], bias."""

    @staticmethod
    def forward(ctx: Any, dtype: torch.dtype | None, *flat: Tensor | None) -> tuple[Tensor, ...]:
        modalities = _fives(flat)
        with torch.autocast(modalities[0].data.device.type, enabled=False):  # `dtype` says what is rounded, and nothing else is
            embedded, products = _embed(modalities, dtype)
        ctx.save_for_backward(*embedded, *flat)
        ctx.dtype = dtype
        return products

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor) -> tuple[Tensor | None, ...]:
        count = len(ctx.saved_tensors) // 6
        embedded, flat = ctx.saved_tensors[:count], ctx.saved_tensors[count:]
        modalities = _fives(flat)
        results = [modality.zeros() for modality in modalities]
        # Features as read from the file need no gradient; maps that a refinement computed do.
        to_data = [torch.empty_like(x.data) if ctx.needs_input_grad[1 + 5 * m] else None for m, x in enumerate(modalities)]
        pairs = list(combinations_with_replacement(range(count), 2))
        for part in _chunks(modalities[0].data):
            to_products = {pair: gradient[part] for pair, gradient in zip(pairs, gradients, strict=True)}
            embedded_part = [u[part] for u in embedded]
            for m, (modality, result, to_maps) in enumerate(zip(modalities, results, to_data, strict=True)):
                outer = _outer(m, to_products, embedded_part)
                inner = modality.accumulate(result, part, outer, ctx.dtype, to_maps is not None)
                if to_maps is not None and inner is not None:
                    cells(to_maps[part]).copy_(inner if modality.gain is None else inner * modality.gain[part, None])
        return (None, *(x for to_maps, result in zip(to_data, results, strict=True) for x in (to_maps, *result)))


class _Embedding(NamedTuple):
    """One modality's arguments of `_Gram`."""

    data: Tensor
    gain: Tensor | None
    shift: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    def refined(self, part: slice) -> Tensor:
        """Some frames' refined maps, [n, HW, C]."""
        gain, shift = (None if x is None else x[part] for x in (self.gain, self.shift))
        return cells(Feature(self.data[part], gain, shift).dense())

    def embedding(self, dtype: torch.dtype | None) -> tuple[Tensor | None, Tensor | None]:
        """θ's weight [C, E] and bias [E] as `dtype`, or as they are where it is None; (None, None) without θ."""
        if self.weight is None:
            return None, None
        # Twice as fast here as with the transposed view that a linear layer takes.
        weight = self.weight.T.to(dtype or self.weight.dtype).contiguous()
        return weight, None if self.bias is None else self.bias.to(weight.dtype)

    def embed(self, part: slice, weight: Tensor | None, bias: Tensor | None, out: Tensor) -> None:
        """Write θ of some frames' refined maps into `out` [n, HW, E]."""
        if weight is None:
            out.copy_(self.refined(part))
            return
        refined, flat = self.refined(part).flatten(0, 1).to(weight.dtype), out.flatten(0, 1)
        if bias is None:
            torch.mm(refined, weight, out=flat)
        else:
            torch.addmm(bias, refined, weight, out=flat)

    def zeros(self) -> list[Tensor | None]:
        """Zeros in which the gradients of gain, shift, weight and bias are summed up; None for what is absent."""
        return [None if x is None else torch.zeros_like(x) for x in self[1:]]

    def accumulate(
        self, results: list[Tensor | None], part: slice, outer: Tensor, dtype: torch.dtype | None, with_maps: bool
    ) -> Tensor | None:
        """Add to `results` what the gradient `outer` [n, HW, E] of some frames' embeddings gives.

        Returns the gradient of these frames' refined maps [n, HW, C] where `with_maps` asks for it.
        """
        to_gain, to_shift, to_weight, to_bias = results
        if to_bias is not None:
            to_bias += outer.flatten(0, 1).sum(0)
        weight, flat = self.weight, outer.flatten(0, 1)
        if weight is not None:
            weight, flat = weight.to(dtype or weight.dtype), flat.to(dtype or flat.dtype)
        inner = None
        if to_gain is not None or to_shift is not None or with_maps:
            inner = outer if weight is None else (flat @ weight).unflatten(0, outer.shape[:2])  # [n, HW, C]
            if to_shift is not None:
                to_shift[part] = inner.sum(1)
            if to_gain is not None:
                data = cells(self.data[part])
                to_gain[part] = (inner * data if with_maps else inner.mul_(data)).sum(1)
        if to_weight is not None:
            refined = self.refined(part).flatten(0, 1).to(flat.dtype)
            if dtype is None:
                to_weight.addmm_(flat.T, refined)
            else:
                to_weight += flat.T @ refined
        return inner if with_maps else None


def _embed(modalities: Sequence[_Embedding], dtype: torch.dtype | None) -> tuple[list[Tensor], tuple[Tensor, ...]]:
    """U of each modality [N, HW, E], and the products [N, HW, HW] of each pair, computed while the cells are in the caches.

    Products are never of 16 bits: cosines near 1 differ by less than 16 bits can tell.
    """
    count, size = len(modalities[0].data), modalities[0].data.shape[2] * modalities[0].data.shape[3]
    pairs = list(combinations_with_replacement(range(len(modalities)), 2))
    thetas = [modality.embedding(dtype) for modality in modalities]
    likes = [x.data if weight is None else weight for x, (weight, _) in zip(modalities, thetas, strict=True)]  # [N, C, …], [C, E]
    embedded = [like.new_empty(count, size, like.shape[1]) for like in likes]
    products = tuple(_exact(embedded[0][:0]).new_empty(count, size, size) for _ in pairs)
    for part in _chunks(modalities[0].data):
        for modality, (weight, bias), u in zip(modalities, thetas, embedded, strict=True):
            modality.embed(part, weight, bias, u[part])
        exact = [_exact(u[part]) for u in embedded]
        for product, (m, n) in zip(products, pairs, strict=True):
            torch.bmm(exact[m], exact[n].transpose(1, 2), out=product[part])
    return embedded, products


def _outer(m: int, gradients: Mapping[tuple[int, int], Tensor], embedded: Sequence[Tensor]) -> Tensor:
    """Gradient of modality m's embeddings [n, HW, E] from the products' gradients {(m, n): [n, HW, HW]}."""
    first, *others = (_between(gradients, m, n).to(embedded[n].dtype) for n in range(len(embedded)))
    out = torch.bmm(first, embedded[0])
    for between, u in zip(others, embedded[1:], strict=True):
        out.baddbmm_(between, u)
    return out


def _between(gradients: Mapping[tuple[int, int], Tensor], m: int, n: int) -> Tensor:
    """The matrix [n, HW, HW] that takes the cells of modality n to the gradient of modality m's cells."""
    if m == n:
        return gradients[m, m] + gradients[m, m].transpose(1, 2)
    return gradients[m, n] if m < n else gradients[n, m].transpose(1, 2)


def _exact(x: Tensor) -> Tensor:
    """x, as float32 where it has 16 bits."""
    return x.float() if x.element_size() == 2 else x


def _autocast_dtype(like: Tensor) -> torch.dtype | None:
    """The type that autocast rounds to on the device of `like`; None where autocast is off."""
    device = like.device.type
    return torch.get_autocast_dtype(device) if torch.is_autocast_enabled(device) else None


def _fives(flat: Sequence[Tensor | None]) -> list[_Embedding]:
    """The flat arguments of `_Gram` by modality."""
    return [_Embedding(*flat[first : first + 5]) for first in range(0, len(flat), 5)]  # type: ignore[arg-type]


def _chunks(maps: Tensor) -> list[slice]:
    """Slices of the frames of maps [N, C, H, W], each of at most `CHUNK` bytes, one frame at least."""
    frames = max(1, CHUNK // (maps[0].numel() * maps.element_size())) if len(maps) else 1
    return [slice(first, min(first + frames, len(maps))) for first in range(0, len(maps), frames)]


def cells(maps: Tensor) -> Tensor:
    """Maps [N, C, H, W] → their cells [N, HW, C]; a view, contiguous for channels_last maps."""
    return maps.flatten(2).transpose(1, 2)


def weighted_pool(maps: Tensor, weights: Tensor) -> Tensor:
    """Σ_i S(i) F(·, i): maps [N, C, H, W] and the weights S of their cells [N, H, W] → vectors [N, C]."""
    return (weights.flatten(1).unsqueeze(1) @ cells(maps)).squeeze(1)


def average_pool(maps: Tensor) -> Tensor:
    """Mean over cells, maps [N, C, H, W] → vectors [N, C].

    A matrix product, since torch's mean over the cells of channels_last maps is several times slower.
    """
    height, width = maps.shape[2:]
    return weighted_pool(maps, maps.new_full((len(maps), height, width), 1 / (height * width)))


def to_float(features: Tensor) -> Tensor:
    """Stored features in the type to compute with.

    Vectors become float32. Maps [N, C, H, W] become float32, or under autocast its 16 bits, so that no product rounds them anew;
    they are laid out channels_last, as the tiers give them.
    """
    if features.ndim < 4:
        return features.float()
    return features.to(_autocast_dtype(features) or torch.float32, memory_format=torch.channels_last)
