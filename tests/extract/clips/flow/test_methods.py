import cv2
import numpy as np
import pytest
from cia_extract import recipes
from cia_extract.clips import flow
from cia_extract.common.errors import UsageError

KINETICS = recipes.load("kinetics").flow
DIS = recipes.load("kinetics", {"flow.algorithm": "dis"}).flow


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


@pytest.mark.parametrize(("rule", "by"), [(KINETICS, "opencv"), (KINETICS, "torch"), (DIS, "opencv")])
def test_a_shift_comes_out_as_x_then_y_forwards(rule, by):
    """The scene moves 3 px right and 2 px up: channel 0 is x, channel 1 is y (down is positive)."""
    field = flow.dequantise(flow.quantised_flows(_shifted(3, -2), [0], rule, by=by)[0])[20:-20, 20:-20]
    np.testing.assert_allclose(np.median(field, axis=(0, 1)), [3, -2], atol=0.25)


def test_tvl1_has_opencvs_documented_parameters():
    method = flow.estimator(KINETICS)
    assert (method.getTau(), method.getLambda(), method.getTheta()) == (0.25, 0.15, 0.3)
    assert (method.getScalesNumber(), method.getWarpingsNumber(), method.getEpsilon()) == (5, 5, 0.01)
    assert (method.getInnerIterations(), method.getOuterIterations(), method.getMedianFiltering()) == (30, 10, 5)


def test_a_small_clip_does_not_spoil_the_next_ones():
    """TV-L1's calc lowers nscales for good on images under 16 px a level: each clip needs an estimator of its own."""
    frames = _shifted(2, 0)
    before = flow.quantised_flows(frames, [0], KINETICS)[0]
    tiny = {t: np.ascontiguousarray(image[:20, :20]) for t, image in frames.items()}
    flow.quantised_flows(tiny, [0], KINETICS)
    np.testing.assert_array_equal(flow.quantised_flows(frames, [0], KINETICS)[0], before)


def test_a_single_frame_has_no_motion():
    assert np.unique(flow.quantised_flows({0: np.zeros((64, 64), np.uint8)}, [0], DIS)[0]).tolist() == [127]


@pytest.mark.parametrize(
    ("quantiser", "slow"),
    [
        ("floor", lambda v, b: int(min(max((v + b) / (2 * b), 0), 1) * 255)),
        ("round", lambda v, b: round(min(max((v + b) / (2 * b), 0), 1) * 255)),
        ("round128", lambda v, b: min(round(128 + 255 / (2 * b) * min(max(v, -b), b)), 255)),
    ],
)
@pytest.mark.parametrize("bound", [8.0, 20.0, 25.0])
def test_every_quantiser_equals_a_slow_loop(quantiser, slow, bound):
    """At ±bound exactly, unclamped formulas give 256: a byte would wrap to 0."""
    values = np.concatenate(
        [[-bound, bound, 99, -99, 0], np.random.default_rng(2).uniform(-0.99 * bound, 0.99 * bound, 3000)]
    ).astype(np.float32)
    quantised = flow.quantise(values, bound, quantiser)
    expected = np.array([slow(float(v), bound) for v in values])
    assert quantised[:4].tolist() == [0, 255, 255, 0]
    assert np.abs(quantised - expected).max() <= 1 and (quantised[4:] == expected[4:]).mean() > 0.998


def test_bounds_of_recipes_are_not_mixed():
    """4 px are 153 of 255 at ±20, 147 at ±25, 191 at ±8: bytes of one bound mean another motion under the next."""
    motion = np.full(1, 4.0, np.float32)
    assert [int(flow.quantise(motion, bound)[0]) for bound in (20, 25, 8)] == [153, 147, 191]
    bounds = {name: recipes.load(name).flow.bound for name in recipes.NAMES}
    assert bounds == {
        "kinetics": 20,
        "transvae": 20,
        "video_features": 20,
        "mmsada": 25,
        "tbn-epic55": 25,
        "tbn-epic100": 8,
    }


def test_epic_flow_spans_its_stride_and_dilation():
    """furnari-flow with -s 2 -d 3: flow t leads from frame 2t to frame 2t + 6."""
    rule = recipes.load("tbn-epic55").flow
    assert [flow.frame_pair(t, rule) for t in (0, 1, 26)] == [(0, 6), (2, 8), (52, 58)]
    assert flow.count(60, rule) == 27 and flow.frame_pair(26, rule)[1] < 60 <= flow.frame_pair(27, rule)[1]


@pytest.mark.parametrize(
    ("flow_by", "rule", "device", "begun_by", "deterministic", "expected"),
    [
        ("auto", KINETICS, "cpu", "", False, "torch"),
        ("auto", KINETICS, "cpu", "", True, "opencv"),
        ("auto", KINETICS, "cpu", flow.implementation("opencv"), False, "opencv"),
        ("auto", KINETICS, "cpu", flow.implementation("torch"), True, "torch"),
        ("auto", KINETICS, "cpu", flow.implementation("device"), False, "torch"),
        ("auto", KINETICS, "cuda", "", True, "device"),
        ("auto", DIS, "cpu", "", False, "opencv"),
        ("auto", DIS, "cuda", "", False, "opencv"),
        ("opencv", KINETICS, "cpu", flow.implementation("torch"), False, "opencv"),
        ("opencv", KINETICS, "cuda", "", False, "opencv"),
        ("torch", KINETICS, "cpu", flow.implementation("opencv"), True, "torch"),
        ("torch", KINETICS, "cuda", "", False, "device"),
    ],
)
def test_choose_says_what_computes_flow(flow_by, rule, device, begun_by, deterministic, expected):
    assert flow.choose(flow_by, rule, device, begun_by, deterministic) == expected


@pytest.mark.parametrize(
    ("flow_by", "rule", "message"),
    [
        ("gpu", KINETICS, "--flow-by gpu: unknown, choose from auto, opencv, torch"),
        ("torch", DIS, "only TV-L1, not dis"),
    ],
)
def test_choose_refuses_impossible_requests(flow_by, rule, message):
    with pytest.raises(UsageError, match=message):
        flow.choose(flow_by, rule, "cpu")


def test_median_filter_of_a_recipe_is_set():
    rule = recipes.load("tbn-epic55").flow
    assert flow.estimator(rule).getMedianFiltering() == 1  # 1 px: none
    assert (
        flow.estimator(rule, "torch").parameters.median == rule.median <= 1 < flow.estimator(KINETICS, "torch").parameters.median
    )
