"""Composition: refine, pool, shared layer, temporal consensus, classifiers."""

from collections.abc import Mapping
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from cia_adapt.config import Method
from cia_adapt.modules.heads import SharedLayer, output_layer
from cia_adapt.modules.mc import MutualComplementarity
from cia_adapt.modules.pooling import average_pool, to_float
from cia_adapt.modules.sc import SpatialConsensus
from cia_adapt.modules.temporal import tsn_consensus


@dataclass(frozen=True)
class Output:
    """What one forward gives. A stream is "all" (★, concatenated modalities) or a modality (◇)."""

    frames: Mapping[str, Tensor]
    """{stream: [B, S, D]}, after the shared layer."""
    videos: Mapping[str, Tensor]
    """{stream: [B, D]}."""
    logits: Mapping[str, Tensor]
    """{stream: [B, K]}."""
    consensus: Tensor | None
    """SC's maps [B, S, H, W], where the method has SC."""

    def probabilities(self) -> Tensor:
        """[B, K]: the mean of the streams' softmaxes ("averaging the outputs from each modality classifier")."""
        return torch.stack([logits.softmax(1) for logits in self.logits.values()]).mean(0)

    def class_loss(self, labels: Tensor) -> Tensor:
        """Cross-entropy of the first len(labels) clips, mean over streams."""
        count = len(labels)
        return torch.stack([F.cross_entropy(logits[:count], labels) for logits in self.logits.values()]).mean()


class VideoModel(nn.Module):
    """From {modality: maps [B, S, C, H, W] or pooled vectors [B, S, C]} to classes, by the parts that a method names.

    Inputs may be float16, as stored; the arithmetic is float32.
    """

    def __init__(self, method: Method, modalities: tuple[str, ...], channels: int, classes: int, dropout: float) -> None:
        super().__init__()
        self.modalities = modalities
        self.mc = self.sc = None
        if method.refinement == "mc":
            self.mc = MutualComplementarity(modalities, channels, method.mc_ratio, method.mc_mode)
        if method.pooling == "sc":
            pair = (modalities[0], modalities[1])
            self.sc = SpatialConsensus(pair, channels, method.sc_embedding, method.sc_scales, method.sc_temperature)
        concatenated = method.head == "concat"
        widths = {"all": channels * len(modalities)} if concatenated else dict.fromkeys(modalities, channels)
        shared = method.shared_features
        self.shared = nn.ModuleDict({s: SharedLayer(width, shared, dropout) for s, width in widths.items()} if shared else {})
        self.streams = {stream: shared or width for stream, width in widths.items()}
        self.dropout = nn.Dropout(dropout)
        self.classifiers = nn.ModuleDict({stream: output_layer(width, classes) for stream, width in self.streams.items()})

    def forward(self, inputs: Mapping[str, Tensor]) -> Output:
        clips, segments = next(iter(inputs.values())).shape[:2]
        features = {m: to_float(inputs[m].flatten(0, 1)) for m in self.modalities}  # [B·S, C, H, W] or [B·S, C]
        if self.mc is not None:
            features = self.mc(features)
        consensus = None
        if self.sc is not None:
            features, consensus = self.sc(features)
            consensus = consensus.unflatten(0, (clips, segments))
        pooled = {m: average_pool(f) if f.ndim == 4 else f for m, f in features.items()}  # [B·S, C]
        by_stream = {"all": torch.cat(list(pooled.values()), dim=1)} if "all" in self.streams else pooled
        frames = {stream: f.unflatten(0, (clips, segments)) for stream, f in by_stream.items()}  # [B, S, D]
        if self.shared:
            frames = {stream: self.shared[stream](f) for stream, f in frames.items()}
        videos = {stream: tsn_consensus(f) for stream, f in frames.items()}
        logits = {stream: self.classifiers[stream](self.dropout(v)) for stream, v in videos.items()}
        return Output(frames, videos, logits, consensus)
