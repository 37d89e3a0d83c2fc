"""Features of one modality with gates that wait, and spatial pooling. Fastest on channels_last maps.

Gates of channels commute with weighted pooling, Σ_i S(i) (g ⊙ F(·, i) + b) = g ⊙ Σ_i S(i) F(·, i) + b Σ S: so refinements do
not touch the maps, and a refined map is made only where a part cannot do without (`dense`, and `embed` chunk by chunk).
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

CHUNK = 64  # frames whose refined maps exist at a time in `embed`: 13 MB, about what a cache holds


@dataclass(frozen=True)
class Feature:
    """F̂ = gain ⊙ data + shift.

    data: maps [N, C, H, W] float32, channels_last, or vectors [N, C]; gain, shift: [N, C], None for 1 and 0.
    """

    data: Tensor
    gain: Tensor | None = None
    shift: Tensor | None = None

    @property
    def is_map(self) -> bool:
        return self.data.ndim == 4

    def times(self, gate: Tensor) -> "Feature":
        """gate [N, C] ⊙ F̂."""
        shift = None if self.shift is None else self.shift * gate
        return replace(self, gain=gate if self.gain is None else self.gain * gate, shift=shift)

    def plus(self, vector: Tensor) -> "Feature":
        """F̂ + vector [N, C], in every cell."""
        return replace(self, shift=vector if self.shift is None else self.shift + vector)

    def pool(self, weights: Tensor) -> Tensor:
        """Σ_i S(i) F̂(·, i): weights [N, H, W] → [N, C]."""
        return self._gated(weighted_pool(self.data, weights), weights.flatten(1).sum(1, keepdim=True))

    def average(self) -> Tensor:
        """[N, C]: the mean over cells, or the vectors themselves."""
        return self._gated(average_pool(self.data) if self.is_map else self.data, None)

    def dense(self) -> Tensor:
        """F̂ with the shape of `data`."""
        if not self.is_map:
            return self.average()
        out = self.data if self.gain is None else self.data * self.gain[:, :, None, None]
        return out if self.shift is None else out + self.shift[:, :, None, None]

    def embed(self, weight: Tensor, bias: Tensor | None) -> Tensor:
        """A 1×1 convolution of F̂: weight [E, C] → [N, HW, E]. F̂ is made `CHUNK` frames at a time, and again for the gradient."""
        dtype = torch.get_autocast_dtype("cpu" if self.data.device.type == "cpu" else "cuda") if _autocast(self.data) else None
        out: Tensor = _Embed.apply(self.data, self.gain, self.shift, weight, bias, dtype)
        return out

    def _gated(self, pooled: Tensor, total: Tensor | None) -> Tensor:
        pooled = pooled if self.gain is None else pooled * self.gain
        if self.shift is None:
            return pooled
        return pooled + (self.shift if total is None else self.shift * total)


@dataclass(frozen=True)
class Pooled:
    """What spatial pooling gives: vectors {modality: [N, C]}, and for some parts more."""

    vectors: Mapping[str, Tensor]
    weights: Tensor | None = None
    """One map of weights for all modalities [N, H, W] (SC)."""
    domain_logits: Mapping[str, Tensor] = field(default_factory=dict)
    """{level: [N, …, 2]} of discriminators inside the part, behind their gradient reversal."""


class _Embed(torch.autograd.Function):
    """Linear map of every cell of gain ⊙ data + shift. No gradient goes to `data`: features are constants."""

    @staticmethod
    def forward(
        ctx: Any,
        data: Tensor,
        gain: Tensor | None,
        shift: Tensor | None,
        weight: Tensor,
        bias: Tensor | None,
        dtype: torch.dtype | None,
    ) -> Tensor:
        ctx.save_for_backward(data, gain, shift, weight)
        ctx.dtype, ctx.has_bias = dtype, bias is not None
        kernel = weight[:, :, None, None].to(dtype or weight.dtype)
        offset = None if bias is None else bias.to(kernel.dtype)
        out = data.new_empty(len(data), data.shape[2] * data.shape[3], len(weight))
        for part in _chunks(len(data)):
            out[part] = cells(F.conv2d(_gate(data, gain, shift, part).to(kernel.dtype), kernel, offset)).float()
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        data, gain, shift, weight = ctx.saved_tensors
        height, width = data.shape[2:]
        kernel = weight[:, :, None, None].to(ctx.dtype or weight.dtype)
        to_weight = torch.zeros_like(weight)
        to_gain = None if gain is None else torch.empty_like(gain)
        to_shift = None if shift is None else torch.empty_like(shift)
        wants_input = to_gain is not None or to_shift is not None
        for part in _chunks(len(data)):
            outer = gradient[part].to(kernel.dtype).unflatten(1, (height, width)).permute(0, 3, 1, 2)  # [n, E, H, W]
            inner = _gate(data, gain, shift, part).to(kernel.dtype)
            to_inner, to_kernel, _ = torch.ops.aten.convolution_backward(
                outer, inner, kernel, None, [1, 1], [0, 0], [1, 1], False, [0, 0], 1, [wants_input, True, False]
            )
            to_weight += to_kernel[:, :, 0, 0]
            if to_shift is not None:
                to_shift[part] = cells(to_inner).sum(1)
            if to_gain is not None:
                to_gain[part] = (cells(to_inner).float() * cells(data[part])).sum(1)
        to_bias = gradient.sum((0, 1)) if ctx.has_bias else None
        return None, to_gain, to_shift, to_weight, to_bias, None


def _chunks(count: int) -> list[slice]:
    return [slice(first, min(first + CHUNK, count)) for first in range(0, count, CHUNK)]


def _gate(data: Tensor, gain: Tensor | None, shift: Tensor | None, part: slice) -> Tensor:
    return Feature(data[part], None if gain is None else gain[part], None if shift is None else shift[part]).dense()


def _autocast(data: Tensor) -> bool:
    return torch.is_autocast_enabled(data.device.type)


def cells(maps: Tensor) -> Tensor:
    """[N, C, H, W] → [N, HW, C]; a view of a channels_last tensor."""
    return maps.flatten(2).transpose(1, 2)


def weighted_pool(maps: Tensor, weights: Tensor) -> Tensor:
    """Σ_i S(i) F(·, i): [N, C, H, W] and [N, H, W] → [N, C]."""
    return (weights.flatten(1).unsqueeze(1) @ cells(maps)).squeeze(1)


def average_pool(maps: Tensor) -> Tensor:
    """[N, C, H, W] → [N, C]. A product, since torch's mean over the cells of channels_last maps is several times slower."""
    height, width = maps.shape[2:]
    return weighted_pool(maps, maps.new_full((len(maps), height, width), 1 / (height * width)))


def to_float(features: Tensor) -> Tensor:
    """float32; maps [N, C, H, W] get the channels of a cell side by side, first in their own 16 bits: half the bytes to move."""
    if features.ndim < 4:
        return features.float()
    return features.permute(0, 2, 3, 1).contiguous().float().permute(0, 3, 1, 2)
