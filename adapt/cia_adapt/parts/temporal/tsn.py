"""TSN: the mean over segments. Wang et al., "Temporal Segment Networks", ECCV 2016, https://arxiv.org/abs/1608.00859."""

from dataclasses import dataclass

from torch import Tensor, nn


@dataclass(frozen=True)
class Options:
    """The temporal part `tsn` has no settings."""


class SegmentMean(nn.Module):
    """The mean over a clip's frames with D = `width` features."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.width = width

    def forward(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Frames [B, S, D] → (clip [B, D], no domain logits)."""
        return frames.mean(dim=1), {}


def build(width: int, segments: int, options: Options) -> nn.Module:
    """The part for frames with `width` features, however many there are."""
    return SegmentMean(width)
