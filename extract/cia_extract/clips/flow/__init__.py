"""Optical flow between the frames of a clip: TV-L1 and DIS, their 8-bit form, and a cache of them."""

from cia_extract.clips.flow import cache, tvl1_batched
from cia_extract.clips.flow.methods import (
    FLOW_BY,
    Pixels,
    choose,
    count,
    dequantise,
    estimator,
    frame_pair,
    implementation,
    pairs,
    quantise,
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
    "pairs",
    "quantise",
    "tvl1_batched",
]
