"""Optical flow between frames of a clip, and its 8-bit form. Runs in worker processes.

The rules are those of Kinetics-I3D's authors (https://github.com/google-deepmind/kinetics-i3d, and MediaPipe's graph
tvl1_flow_and_rgb_from_file in https://github.com/google-ai-edge/mediapipe): TV-L1 on scaled grey frames, from each frame to
the next, cut at ±20 px. EPIC-KITCHENS' flow is from frame 2t to 2t + 6 at ±25 px (2018) or from frame to frame at ±8 px
(2020): https://github.com/dl-container-registry/furnari-flow and the annotations' READMEs.

OpenCV or torch computes TV-L1 in the worker, or torch on the device, in batches over clips.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cia_extract import recipes
from cia_extract.clips.picture import Pixels
from cia_extract.common.errors import UsageError

FLOW_BY: Final = ("auto", "opencv", "torch")
"""The values of `--flow-by`."""


def levels(flow: Any, bound: float, quantiser: str) -> Any:
    """Flow in px, cut at ±bound, on the scale 0 … 255 of uint8, to which it is cast next; NumPy's arrays and torch's tensors.

    Each quantiser in use differs from the others by up to 1/255 of full scale. "floor" (MediaPipe, mmaction2): (v + b)/2b · 255,
    which the cast rounds down; "round" (denseflow, furnari-flow): the same, rounded; "round128" (video_features):
    128 + 255/2b · v rounded, where 256 is cut to 255.
    """
    if quantiser == "round128":
        return (128 + 255 / (2 * bound) * flow.clip(-bound, bound)).round().clip(0, 255)
    scaled = ((flow + bound) / (2 * bound)).clip(0, 1) * 255
    if quantiser == "round":
        return scaled.round()
    if quantiser == "floor":
        return scaled
    raise ValueError(f"unknown quantiser {quantiser!r}")


def quantise(flow: npt.NDArray[np.float32], bound: float = 20.0, quantiser: str = "floor") -> Pixels:
    """Flow in px as uint8, by `levels`.

    >>> [quantise(np.array([-25, -20, 0, 20], np.float32), 20, q).tolist() for q in ("floor", "round", "round128")]
    [[0, 0, 127, 255], [0, 0, 128, 255], [0, 0, 128, 255]]
    """
    return np.asarray(levels(flow, bound, quantiser), dtype=np.uint8)


def dequantise(values: Pixels, bound: float = 20.0) -> npt.NDArray[np.float32]:
    """uint8 → flow in px, (x/255 − ½) · 2b: the inverse of `quantise` up to one step of 2b/255 px."""
    return (values.astype(np.float32) / np.float32(255) - np.float32(0.5)) * np.float32(2 * bound)


def count(n_frames: int, rule: recipes.Flow) -> int:
    """Number of flows in a clip of `n_frames`, at least 1: flow i is from frame stride·i to frame stride·(i + dilation).

    >>> from cia_extract.recipes import load
    >>> count(50, load("kinetics").flow), count(60, load("tbn-epic55").flow), count(1, load("kinetics").flow)
    (49, 27, 1)
    """
    return max((n_frames - 1) // rule.stride - rule.dilation + 1, 1)


def frame_pair(index: int, rule: recipes.Flow) -> tuple[int, int]:
    """(first, second): the frames between which flow `index` is computed."""
    return rule.stride * index, rule.stride * (index + rule.dilation)


def choose(request: str, rule: recipes.Flow, device: str, begun_by: str = "", deterministic: bool = False) -> str:
    """What computes the flow, "opencv", "torch" or "device", by `request` (one of `FLOW_BY`) and the type of the device.

    On a CPU, `auto` goes on with the implementation that began the feature file (`begun_by`, an `implementation`). In a new file
    torch computes TV-L1; with `deterministic`, OpenCV does, the reference. Raises UsageError for an impossible request.

    >>> tvl1, dis = (recipes.load("kinetics", {"flow.algorithm": name}).flow for name in ("tvl1", "dis"))
    >>> choose("auto", tvl1, "cuda"), choose("auto", tvl1, "cpu"), choose("auto", dis, "cpu")
    ('device', 'torch', 'opencv')
    >>> choose("auto", tvl1, "cpu", begun_by="opencv 5.0.0"), choose("auto", tvl1, "cpu", deterministic=True)
    ('opencv', 'opencv')
    """
    if request not in FLOW_BY:
        raise UsageError(f"--flow-by {request}: unknown, choose from {', '.join(FLOW_BY)}")
    if rule.algorithm != "tvl1":
        if request == "torch":
            raise UsageError(f"--flow-by torch: computes only TV-L1, not {rule.algorithm}; leave it out, or use --flow tvl1")
        return "opencv"
    if request == "auto" and device == "cpu":
        request = begun_by.partition(" ")[0] or ("opencv" if deterministic else "torch")
    return "opencv" if request == "opencv" else "torch" if device == "cpu" else "device"


def implementation(by: str = "opencv") -> str:
    """The name, with version, of what computes flow, as the feature file records it.

    OpenCV 5's TV-L1 warps exactly, OpenCV 4's on a grid of 1/32 px, so their numbers differ.
    """
    import cv2

    return {"opencv": f"opencv {cv2.__version__}", "torch": f"torch TV-L1 beside opencv {cv2.__version__}"}.get(by, "torch TV-L1")


def estimator(rule: recipes.Flow, by: str = "opencv") -> Any:
    """A new estimator with OpenCV's default parameters; `calc(first, second, None)` returns [H, W, 2] float32 px, (x, y).

    Do not share one: `calc` of TV-L1 lowers `nscales` for good at a small image, and is not thread-safe.
    """
    import cv2

    if (rule.algorithm, by) == ("tvl1", "torch"):
        from cia_extract.clips.flow.tvl1_pair import Estimator

        return Estimator(rule.median)
    if rule.algorithm == "tvl1":
        method = cv2.optflow.createOptFlow_DualTVL1()
        if rule.median != method.getMedianFiltering():
            method.setMedianFiltering(max(rule.median, 1))  # 1: no filter
        return method
    if rule.algorithm == "dis":
        return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    raise ValueError(f"unknown flow algorithm {rule.algorithm!r}")


def quantised_flows(
    grey: dict[int, Pixels],
    indices: Iterable[int],
    rule: recipes.Flow,
    beat: Callable[[], None] = lambda: None,
    by: str = "opencv",
) -> dict[int, Pixels]:
    """Quantised forward flow at each of `indices`: {index: [H, W, 2] uint8}.

    `grey` holds the scaled frames, {frame: [H, W] uint8}. If a flow's second frame does not exist (in a clip shorter than the
    rule's distance), the flow is zero. `beat` is called after each flow.
    """
    method = estimator(rule, by)
    flows = {}
    for index in indices:
        first, second = (grey.get(t) for t in frame_pair(index, rule))
        assert first is not None
        motion = np.zeros((*first.shape, 2), np.float32) if second is None else method.calc(first, second, None)
        flows[index] = quantise(motion, rule.bound, rule.quantiser)
        beat()
    return flows
