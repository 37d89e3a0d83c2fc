"""TSN: the mean over segments. Wang et al., "Temporal Segment Networks", ECCV 2016, https://arxiv.org/abs/1608.00859."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Options:
    """None."""


class SegmentMean(nn.Module):
    """[B, S, D] → [B, D]."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        return frames.mean(dim=1), {}


def build(width: int, segments: int, options: Options) -> nn.Module:
    return SegmentMean(width)
