"""Optical flow between neighbouring frames and its 8-bit form (`extraction.md` §1). Runs in worker processes, without torch."""

from collections.abc import Iterable
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt

Algorithm = Literal["tvl1", "dis"]
ALGORITHMS: Final[tuple[str, ...]] = get_args(Algorithm)
BOUND_PX: Final = 20.0  # motion beyond ±20 px is truncated, as for DeepMind's I3D


def quantise(flow: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """Flow in px → uint8, `uint8(clamp((v + 20) / 40, 0, 1) · 255)`, truncated: MediaPipe's quantiser.

    >>> quantise(np.array([-25, -20, 0, 20], np.float32)).tolist()
    [0, 0, 127, 255]
    """
    scaled = np.clip((flow + BOUND_PX) / (2 * BOUND_PX), 0, 1) * 255
    return scaled.astype(np.uint8)


def dequantise(values: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
    """uint8 → px, the inverse up to one step of 40/255 px: (x/255 − ½) · 40."""
    return (values.astype(np.float32) / np.float32(255) - np.float32(0.5)) * np.float32(2 * BOUND_PX)


def estimator(algorithm: str) -> Any:
    """A new estimator with OpenCV's own parameters; `calc(first, second, None)` returns [H, W, 2] float32 px, (x, y).

    Never share one: `calc` of TV-L1 lowers `nscales` for good when it meets a small image, and is not thread-safe.
    """
    import cv2

    if algorithm == "tvl1":
        return cv2.optflow.createOptFlow_DualTVL1()
    if algorithm == "dis":
        return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    raise ValueError(f"unknown flow algorithm {algorithm!r}, choose from {', '.join(ALGORITHMS)}")


def pairs(grey: dict[int, npt.NDArray[np.uint8]], wanted: Iterable[int], algorithm: str) -> dict[int, npt.NDArray[np.uint8]]:
    """Quantised forward flow of each wanted pair, {t: [H, W, 2] uint8 from frame t to frame t+1}.

    `grey` holds the scaled frames, {t: [H, W] uint8}. Where frame t+1 does not exist (a clip of one frame) there is no
    motion to see, and the flow is zero.
    """
    method = estimator(algorithm)
    flows = {}
    for t in wanted:
        first, second = grey[t], grey.get(t + 1)
        motion = np.zeros((*first.shape, 2), np.float32) if second is None else method.calc(first, second, None)
        flows[t] = quantise(motion)
    return flows
