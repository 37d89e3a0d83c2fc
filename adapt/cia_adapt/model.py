"""Composition: backbone where it is trained too, refine, pool, shared layer, temporal aggregation, classifiers."""

from collections.abc import Mapping
from dataclasses import replace

import torch
from cia_extract.common.errors import UsageError
from torch import Tensor, nn
from torch.nn import functional as F

from cia_adapt import parts
from cia_adapt.config import Method
from cia_adapt.footage import Trunk
from cia_adapt.parts.interface import JOINT, Output, Sizes
from cia_adapt.parts.layers import Feature, SharedLayer, output_layer, to_float


class VideoModel(nn.Module):
    """From {modality: maps [B, S, C, H, W] or vectors [B, S, C]} to classes, by the parts that a method names.

    With a `trunk` the inputs are frames, of which it makes the maps. Others may be float16, as stored; the arithmetic is float32,
    or bfloat16 under autocast. Raises UsageError where the method does not fit the modalities.
    """

    def __init__(self, method: Method, sizes: Sizes, trunk: Trunk | None = None) -> None:
        super().__init__()
        self.trunk = trunk
        self.modalities, self.head, self.heads = tuple(sizes.channels), method.head, sizes.heads
        self.normalise = sizes.normalise and sizes.shared_features > 0
        self.refinement = _part("refinements", method.refinement, method, sizes)
        self.pooling = _pooling(method, sizes)
        widths = _streams(method.head, sizes.channels)
        shared = sizes.shared_features
        self.shared = nn.ModuleDict(
            {s: SharedLayer(width, shared, sizes.dropout, sizes.normalise) for s, width in widths.items()} if shared else {}
        )
        widths = {stream: shared or width for stream, width in widths.items()}
        temporal, chosen = (
            parts.find("temporal", method.temporal),
            parts.options("temporal", method.temporal, method.option(method.temporal)),
        )
        built = {s: temporal.build(width, sizes.segments, chosen) for s, width in widths.items()}
        videos: dict[str, int] = {s: part.width for s, part in built.items()}
        self.temporal = nn.ModuleDict(built)
        self.dropout = nn.Dropout(sizes.dropout)
        self.classifiers = nn.ModuleDict({stream: output_layer(width, sum(sizes.heads)) for stream, width in videos.items()})
        self.sizes = replace(sizes, frames=widths, videos=videos)

    def forward(self, inputs: Mapping[str, Tensor]) -> Output:
        """{modality: maps [B, S, C, H, W] or vectors [B, S, C]} → all that losses, evaluation and reports look at."""
        if self.trunk is not None:
            inputs = self.trunk(inputs)
        clips, segments = next(iter(inputs.values())).shape[:2]
        features = {m: Feature(to_float(inputs[m].flatten(0, 1))) for m in self.modalities}  # [B·S, C, H, W] or [B·S, C]
        pooled = self.pooling(self.refinement(features))
        domain_logits = {level: x.unflatten(0, (clips, segments)) for level, x in pooled.domain_logits.items()}
        vectors = {m: pooled.vectors[m].unflatten(0, (clips, segments)) for m in self.modalities}  # [B, S, C]
        if self.normalise:
            vectors = {m: F.layer_norm(v, v.shape[-1:]) for m, v in vectors.items()}
        frames = {s: torch.cat(list(vectors.values()), dim=2) if s == JOINT else vectors[s] for s in self.temporal}
        raw = frames
        if self.shared:
            both = {stream: self.shared[stream](x) for stream, x in frames.items()}  # two of [B, S, D]
            frames, raw = ({stream: pair[i] for stream, pair in both.items()} for i in range(2))
        videos: dict[str, Tensor] = {}
        latents: dict[str, Mapping[str, Tensor]] = {}
        for stream, x in frames.items():
            videos[stream], logits, *others = self.temporal[stream](x)
            if any(others):
                latents[stream] = others[0]
            domain_logits |= {f"{level}_{stream}": of_level for level, of_level in logits.items()}
        logits_of = {stream: self.classifiers[stream](self.dropout(v)) for stream, v in videos.items()}
        consensus = None if pooled.weights is None else pooled.weights.unflatten(0, (clips, segments))
        return Output(self.head, self.heads, frames, videos, logits_of, consensus, domain_logits, raw, latents)


def restored(method: Method, sizes: Sizes, state: Mapping[str, Tensor], trunk: Trunk | None = None) -> VideoModel:
    """The model of a run, with its state. A run may say any sizes: memory is taken only for those of the state.

    Raises RuntimeError where the state is of another model, UsageError as `VideoModel`.
    """
    with torch.device("meta"):
        expected = VideoModel(method, sizes).state_dict()
    if wrong := [name for name, value in expected.items() if name not in state or state[name].shape != value.shape]:
        raise RuntimeError(f"{wrong[0]} is missing or has another shape")
    model = VideoModel(method, sizes, trunk)
    model.load_state_dict(state)
    return model


def _pooling(method: Method, sizes: Sizes) -> nn.Module:
    if parts.find("poolings", method.pooling).NEEDS_MAPS and not sizes.grids:
        raise UsageError(
            f"--pooling {method.pooling}: needs maps, and of {', '.join(sizes.channels)} there are vectors only; take avg"
        )
    return _part("poolings", method.pooling, method, sizes)


def _part(kind: str, name: str, method: Method, sizes: Sizes) -> nn.Module:
    part: nn.Module = parts.find(kind, name).build(sizes, parts.options(kind, name, method.option(name)))
    return part


def _streams(head: str, channels: Mapping[str, int]) -> dict[str, int]:
    """{stream: width of its features before the shared layer}."""
    joint = {JOINT: sum(channels.values())}
    if head == "concat":
        return joint
    if head == "blend" and len(channels) < 2:
        raise UsageError(f"--head blend: blends modalities and needs two, here is {', '.join(channels)}")
    return dict(channels) | (joint if head == "blend" else {})
