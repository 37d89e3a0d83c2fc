"""From features of S frames to one of the clip."""

from torch import Tensor


def tsn_consensus(frames: Tensor) -> Tensor:
    """[B, S, D] → [B, D], the mean over segments. Wang et al., "Temporal Segment Networks", ECCV 2016."""
    return frames.mean(dim=1)
