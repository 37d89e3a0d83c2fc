"""Every way of running a network gives the same numbers, and one that does not is refused before anything is extracted."""

import numpy as np
import pytest
import torch
from cia_extract import recipes
from cia_extract.clips.job import Windows
from cia_extract.common.errors import DataError, UsageError
from cia_extract.extraction.window_batches import Batcher
from cia_extract.networks import engines, streams, weights

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def networks():
    """Small-input stand-ins would not do: the real trunks, random weights."""
    return {name: weights.build(name, "rgb", weights.load(name, "rgb", "random", print)).fold() for name in ("i3d", "tbn")}


RECIPES = {"i3d": recipes.load("kinetics"), "tbn": recipes.load("tbn-epic55")}


def build(networks, name: str, engine: str, precision: str = "fp32", **changes):
    example = streams.example(RECIPES[name], "rgb")
    return engines.build(networks[name], RECIPES[name], example, CPU, engine, precision, **changes), example


@pytest.mark.parametrize("name", [pytest.param("i3d", marks=pytest.mark.slow), "tbn"])
def test_openvino_equals_eager(networks, name):
    pytest.importorskip("openvino", reason="the extra [openvino] is not installed")
    engine, example = build(networks, name, "openvino")
    eager, _ = build(networks, name, "eager")
    expected, maps = eager.run(example), engine.run(example)
    assert (engine.name, engine.batch) == ("openvino", 1)
    assert engine.cosine > 0.9999999 and (maps - expected).abs().max() <= 1e-4 * expected.abs().max()


@pytest.mark.slow
def test_compiled_equals_eager(networks):
    """TBN's trunk: I3D's takes a minute to compile (benchmarks/engines.py runs it)."""
    engine, example = build(networks, "tbn", "compiled", batch=2)
    eager, _ = build(networks, "tbn", "eager")
    expected = eager.run(example)
    assert engine.fixed and (engine.run(example.repeat(2, 1, 1, 1))[1:] - expected).abs().max() <= 1e-4 * expected.abs().max()


def test_bfloat16_is_measured_and_recorded(networks):
    engine, _ = build(networks, "tbn", "eager", "bf16")
    assert 0.999 <= engine.cosine < 1 and 1e-4 < engine.difference < 0.1
    assert engine.describe()["precision"] == "bf16" and engine.describe()["cosine_with_eager_fp32"] == round(engine.cosine, 8)


def test_an_engine_with_wrong_numbers_is_refused_or_replaced(networks, monkeypatch):
    """A library whose convolutions are wrong, as some have shipped: here one that loses the last channel."""

    def wrong(network, recipe, device, precision, batch, example):
        right = engines._eager(network, recipe, device, "fp32", batch)
        return engines.Engine(
            "compiled", precision, device, 1, False, lambda x: right.run(x) * (torch.arange(1024) < 700)[:, None, None]
        )

    monkeypatch.setitem(engines._BUILDERS, "compiled", wrong)
    with pytest.raises(DataError, match="--engine compiled --precision fp32: fails its test on this machine"):
        build(networks, "tbn", "compiled")
    said: list[str] = []
    monkeypatch.setattr(engines, "_choose", lambda device, windows: "compiled")
    engine, _ = build(networks, "tbn", "auto", say=said.append)
    assert engine.name == "eager" and "going on with eager" in said[0]


@pytest.mark.parametrize(
    ("engine", "precision", "message"),
    [
        ("onnx", "fp32", "--engine onnx: unknown"),
        ("eager", "int8", "--precision int8: unknown"),
        ("eager", "tf32", "exists on NVIDIA GPUs only"),
        ("openvino", "fp16", "does not run on CPUs|not installed"),
    ],
)
def test_impossible_engines_are_refused(engine, precision, message):
    with pytest.raises(UsageError, match=message):
        engines.check_engine(engine, precision, CPU)


def clips(lengths, seed=0):
    random = np.random.default_rng(seed)
    windows_of = {}
    for key, length in enumerate(lengths):
        images = random.integers(0, 256, (length, 224, 224, 3), dtype=np.uint8)
        windows_of[key] = Windows(images, np.arange(length, dtype=np.int32)[:, None])
    return windows_of


def described(batcher, windows_of) -> dict[int, np.ndarray]:
    maps = {}
    for key, windows in windows_of.items():
        maps |= dict(batcher.add(key, windows))
    return maps | dict(batcher.flush())


@pytest.mark.parametrize("batch", [1, 3, 4, 16])
def test_batches_fill_across_clips_and_give_each_its_own(networks, batch):
    """Clips of 1 to 5 windows: whatever the batch, every clip gets what it gets alone; only whole batches run, but the last."""
    windows_of = clips([2, 5, 1, 4])
    eager, _ = build(networks, "tbn", "eager", batch=batch)
    sizes: list[int] = []
    run = lambda x: (sizes.append(len(x)), eager.run(x))[1]  # noqa: E731
    counting = engines.Engine(**{**vars(eager), "run": run})
    together = described(Batcher(counting, RECIPES["tbn"], "rgb"), windows_of)
    assert sizes == [batch] * (12 // batch) + ([12 % batch] if 12 % batch else [])
    for key, windows in windows_of.items():
        alone = described(Batcher(engines.Engine(**{**vars(eager), "batch": 1}), RECIPES["tbn"], "rgb"), {0: windows})[0]
        np.testing.assert_allclose(together[key], alone, atol=1e-4 * alone.max())
        if batch == 1:
            np.testing.assert_array_equal(together[key], alone)


def test_a_fixed_engine_only_sees_whole_batches(networks):
    eager, _ = build(networks, "tbn", "eager", batch=4)
    sizes: list[int] = []
    fixed = engines.Engine(**{**vars(eager), "fixed": True, "run": lambda x: (sizes.append(len(x)), eager.run(x))[1]})
    maps = described(Batcher(fixed, RECIPES["tbn"], "rgb"), clips([3, 2]))
    assert sizes == [4, 4] and maps[0].shape == (3, 1024, 7, 7) and maps[1].shape == (2, 1024, 7, 7)


def test_windows_beyond_the_clip_are_zeros_after_scaling(networks):
    """Zeros after scaling are the mean colour, not black."""
    eager, _ = build(networks, "tbn", "eager", batch=1)
    seen: list[torch.Tensor] = []
    spy = engines.Engine(**{**vars(eager), "run": lambda x: (seen.append(x), torch.zeros(len(x), 1024, 7, 7))[1]})
    images = np.full((1, 224, 224, 3), 200, np.uint8)
    described(Batcher(spy, RECIPES["tbn"], "rgb"), {0: Windows(images, np.array([[0], [-1]], np.int32))})
    values = sorted(float(x.abs().max()) for x in seen)
    assert values == [0.0, 96.0]  # 200 − 104


def test_flow_stacks_are_x0_y0_x1_y1(networks):
    eager, _ = build(networks, "tbn", "eager", batch=1)
    seen: list[torch.Tensor] = []
    spy = engines.Engine(**{**vars(eager), "run": lambda x: (seen.append(x), torch.zeros(len(x), 1024, 7, 7))[1]})
    images = np.zeros((5, 224, 224, 2), np.uint8)
    images[..., 0] = np.arange(5)[:, None, None] * 2 + 128
    images[..., 1] = np.arange(5)[:, None, None] * 2 + 129
    described(Batcher(spy, RECIPES["tbn"], "flow"), {0: Windows(images, np.arange(5, dtype=np.int32)[None])})
    assert seen[0][0, :, 0, 0].tolist() == list(range(10))
