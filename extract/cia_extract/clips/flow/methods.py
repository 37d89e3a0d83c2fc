"""Optical flow between frames of a clip and its 8-bit form. Runs in worker processes.

As Kinetics-I3D's authors made theirs (https://github.com/google-deepmind/kinetics-i3d, and MediaPipe's graph
tvl1_flow_and_rgb_from_file in https://github.com/google-ai-edge/mediapipe): TV-L1 on grey frames that are scaled already, from
each frame to the next, cut at ±20 px. EPIC-KITCHENS' is from frame 2t to 2t + 6 at ±25 px (2018) or from frame to frame at ±8 px
(2020): https://github.com/dl-container-registry/furnari-flow and the annotations' READMEs.

TV-L1 can be computed "by" OpenCV or torch here, or on the device, by torch in batches over clips (`tvl1_batched`).
"""

from collections.abc import Callable, Iterable
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cia_extract import recipes
from cia_extract.clips.picture import Pixels
from cia_extract.common.errors import UsageError

ASKED: Final = ("auto", "opencv", "torch")


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
    """uint8 → px, the inverse up to one step of 2b/255 px: (x/255 − ½) · 2b."""
    return (values.astype(np.float32) / np.float32(255) - np.float32(0.5)) * np.float32(2 * bound)


def count(n_frames: int, rule: recipes.Flow) -> int:
    """Flows that can be computed in a clip: flow i is from frame stride·i to frame stride·(i + dilation). At least 1.

    >>> from cia_extract.recipes import load
    >>> count(50, load("kinetics").flow), count(60, load("tbn-epic55").flow), count(1, load("kinetics").flow)
    (49, 27, 1)
    """
    return max((n_frames - 1) // rule.stride - rule.dilation + 1, 1)


def frame_pair(index: int, rule: recipes.Flow) -> tuple[int, int]:
    """The frames that flow `index` leads from and to."""
    return rule.stride * index, rule.stride * (index + rule.dilation)


def choose(asked: str, rule: recipes.Flow, device: str, begun_by: str = "", deterministic: bool = False) -> str:
    """What computes the flow, "opencv", "torch" or "device", from what was `asked` (`ASKED`) and the device's type.

    On a CPU `auto` goes on with what the file was begun by (`begun_by`, an `implementation`); in a new one torch computes TV-L1,
    or OpenCV, the reference, with `deterministic`. Raises UsageError.

    >>> tvl1, dis = (recipes.load("kinetics", {"flow.algorithm": name}).flow for name in ("tvl1", "dis"))
    >>> choose("auto", tvl1, "cuda"), choose("auto", tvl1, "cpu"), choose("auto", dis, "cpu")
    ('device', 'torch', 'opencv')
    >>> choose("auto", tvl1, "cpu", begun_by="opencv 5.0.0"), choose("auto", tvl1, "cpu", deterministic=True)
    ('opencv', 'opencv')
    """
    if asked not in ASKED:
        raise UsageError(f"--flow-by {asked}: unknown, choose from {', '.join(ASKED)}")
    if rule.algorithm != "tvl1":
        if asked == "torch":
            raise UsageError(f"--flow-by torch: computes TV-L1, not {rule.algorithm}; leave it out, or use --flow tvl1")
        return "opencv"
    if asked == "auto" and device == "cpu":
        asked = begun_by.partition(" ")[0] or ("opencv" if deterministic else "torch")
    return "opencv" if asked == "opencv" else "torch" if device == "cpu" else "device"


def implementation(by: str = "opencv") -> str:
    """Its name for the record. OpenCV 5's TV-L1 warps exactly, 4's on a grid of 1/32 px: not the same numbers."""
    import cv2

    return {"opencv": f"opencv {cv2.__version__}", "torch": f"torch TV-L1 beside opencv {cv2.__version__}"}.get(by, "torch TV-L1")


def estimator(rule: recipes.Flow, by: str = "opencv") -> Any:
    """A new estimator with OpenCV's own parameters; `calc(first, second, None)` returns [H, W, 2] float32 px, (x, y).

    Never share one: `calc` of TV-L1 lowers `nscales` for good when it meets a small image, and is not thread-safe.
    """
    import cv2

    if (rule.algorithm, by) == ("tvl1", "torch"):
        from cia_extract.clips.flow.tvl1_pair import Estimator

        return Estimator(rule.median)
    if rule.algorithm == "tvl1":
        method = cv2.optflow.createOptFlow_DualTVL1()
        if rule.median != method.getMedianFiltering():
            method.setMedianFiltering(max(rule.median, 1))  # 1: none
        return method
    if rule.algorithm == "dis":
        return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
    raise ValueError(f"unknown flow algorithm {rule.algorithm!r}")


def quantised_flows(
    grey: dict[int, Pixels],
    wanted: Iterable[int],
    rule: recipes.Flow,
    beat: Callable[[], None] = lambda: None,
    by: str = "opencv",
) -> dict[int, Pixels]:
    """Quantised forward flow of each wanted index, {i: [H, W, 2] uint8}.

    `grey` holds the scaled frames, {t: [H, W] uint8}. Where a second frame does not exist (a clip shorter than the rule's
    distance) there is no motion to see, and the flow is zero. `beat` is called after each.
    """
    method = estimator(rule, by)
    flows = {}
    for index in wanted:
        first, second = (grey.get(t) for t in frame_pair(index, rule))
        assert first is not None
        motion = np.zeros((*first.shape, 2), np.float32) if second is None else method.calc(first, second, None)
        flows[index] = quantise(motion, rule.bound, rule.quantiser)
        beat()
    return flows
