"""Optical flow between the frames of a clip: TV-L1 and DIS, their 8-bit form, and a cache of them.

`tvl1_batched`, for the GPU, is imported by name only: worker processes that compute flow by OpenCV need no torch.
"""

from cia_extract.clips.flow import cache
from cia_extract.clips.flow.methods import (
    FLOW_BY,
    Pixels,
    choose,
    count,
    dequantise,
    estimator,
    frame_pair,
    implementation,
    levels,
    quantise,
    quantised_flows,
)

__all__ = [
    "FLOW_BY",
    "Pixels",
    "cache",
    "choose",
    "count",
    "dequantise",
    "estimator",
    "frame_pair",
    "implementation",
    "levels",
    "quantise",
    "quantised_flows",
]
