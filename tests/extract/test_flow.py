import cv2
import numpy as np
import pytest
from cia_extract import flow


def test_quantiser_equals_a_slow_loop():
    values = np.random.default_rng(0).uniform(-30, 30, 4000).astype(np.float32)
    slow = [int(min(max((float(v) + 20) / 40, 0), 1) * 255) for v in values]
    assert np.abs(flow.quantise(values).astype(int) - slow).max() <= 1  # float32 against float64 at a step's edge
    assert (flow.quantise(values) == slow).mean() > 0.999


def test_dequantise_inverts_within_one_step():
    values = np.linspace(-20, 20, 1001).astype(np.float32)
    back = flow.dequantise(flow.quantise(values))
    assert (values - back).min() >= -1e-4 and (values - back).max() <= 40 / 255 + 1e-4  # truncation: never above


def _shifted(dx: int, dy: int) -> dict[int, np.ndarray]:
    noise = cv2.GaussianBlur(np.random.default_rng(1).uniform(0, 255, (160, 200)), (0, 0), 3)
    scene = cv2.normalize(noise, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    moved = scene[20 - dy : 148 - dy, 20 - dx : 180 - dx]
    return {0: np.ascontiguousarray(scene[20:148, 20:180]), 1: np.ascontiguousarray(moved)}


@pytest.mark.parametrize("algorithm", flow.ALGORITHMS)
def test_a_shift_comes_out_as_x_then_y_forwards(algorithm):
    """The scene moves 3 px right and 2 px up: channel 0 is x, channel 1 is y (down is positive)."""
    field = flow.dequantise(flow.pairs(_shifted(3, -2), [0], algorithm)[0])[20:-20, 20:-20]
    np.testing.assert_allclose(np.median(field, axis=(0, 1)), [3, -2], atol=0.25)


def test_tvl1_has_opencvs_documented_parameters():
    method = flow.estimator("tvl1")
    assert (method.getTau(), method.getLambda(), method.getTheta()) == (0.25, 0.15, 0.3)
    assert (method.getScalesNumber(), method.getWarpingsNumber(), method.getEpsilon()) == (5, 5, 0.01)
    assert (method.getInnerIterations(), method.getOuterIterations(), method.getMedianFiltering()) == (30, 10, 5)


def test_a_small_clip_does_not_spoil_the_next_ones():
    """TV-L1's calc lowers nscales for good on images under 16 px a level: each clip needs an estimator of its own."""
    frames = _shifted(2, 0)
    before = flow.pairs(frames, [0], "tvl1")[0]
    tiny = {t: np.ascontiguousarray(image[:20, :20]) for t, image in frames.items()}
    flow.pairs(tiny, [0], "tvl1")
    np.testing.assert_array_equal(flow.pairs(frames, [0], "tvl1")[0], before)


def test_a_single_frame_has_no_motion():
    assert np.unique(flow.pairs({0: np.zeros((64, 64), np.uint8)}, [0], "dis")[0]).tolist() == [127]


def test_unknown_algorithm():
    with pytest.raises(ValueError, match="choose from tvl1, dis"):
        flow.estimator("farneback")
