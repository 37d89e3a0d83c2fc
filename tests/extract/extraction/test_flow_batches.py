"""Flow from the cache and from the device instead of from the worker: the same windows."""

from dataclasses import replace

import cv2
import numpy as np
import pytest
import torch
from cia_extract import recipes
from cia_extract.clips import flow, picture, preparation
from cia_extract.clips import job as clips_job
from cia_extract.clips.flow import cache
from cia_extract.extraction.flow_batches import DeviceFlow
from cia_extract.extraction.window_batches import Batcher
from cia_extract.networks import engines, streams, weights
from PIL import Image

from tests.extract.features.test_failures import with_sound

DIS = {"flow.algorithm": "dis"}


def job(path, name="kinetics", **changes) -> clips_job.ClipJob:
    recipe = recipes.load(name, changes.pop("knobs", {"sampling.frames": 3} | DIS))
    return clips_job.ClipJob(path, ("flow",), recipe, **changes)


def moving(folder, count, right=2):
    """A clip of pictures, 270×224, of a smooth texture that moves `right` px right and 1 px down from frame to frame."""
    scene = cv2.GaussianBlur(np.random.default_rng(1).uniform(0, 255, (260, 330)), (0, 0), 4)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    folder.mkdir(exist_ok=True)
    for t in range(count):
        Image.fromarray(scene[20 - t : 244 - t, 30 - right * t : 300 - right * t]).save(folder / f"frame_{t + 1}.png")
    return folder


def seen(windows: clips_job.Windows) -> np.ndarray:
    images = np.concatenate([windows.images, np.zeros_like(windows.images[:1])])
    return images[windows.rows]


def test_cached_flow_is_the_computed_flow_and_is_not_computed_again(tmp_path, monkeypatch):
    path = with_sound(tmp_path / "clip.mkv", 90, 0)
    plain = preparation.prepare_clip(job(path))
    first = preparation.prepare_clip(job(path, flow_cache=tmp_path / "cache"))
    asked: list[int] = []
    real = flow.quantised_flows

    def counted(grey, wanted, *rest):
        asked.extend(wanted)
        return real(grey, wanted, *rest)

    monkeypatch.setattr(preparation.methods, "quantised_flows", counted)
    second = preparation.prepare_clip(job(path, flow_cache=tmp_path / "cache"))
    assert asked == []
    for other in (first, second):
        np.testing.assert_array_equal(seen(other.windows["flow"]), seen(plain.windows["flow"]))
    wider = preparation.prepare_clip(job(path, flow_cache=tmp_path / "cache", knobs={"sampling.frames": 5} | DIS))
    lacking = len(asked)
    alone = preparation.prepare_clip(job(path, knobs={"sampling.frames": 5} | DIS))
    np.testing.assert_array_equal(seen(wider.windows["flow"]), seen(alone.windows["flow"]))
    assert 0 < lacking < len(asked) - lacking  # of what it needed, the second one only computed what was not there
    assert len(list((tmp_path / "cache").rglob("*.npz"))) == 1


def test_a_cache_of_other_settings_or_another_video_is_not_used(tmp_path):
    path = with_sound(tmp_path / "clip.mkv", 30, 0)
    one = job(path)
    others = [
        job(path, knobs={"sampling.frames": 3, "flow.bound": 10.0} | DIS),
        job(path, knobs={"sampling.frames": 3}),
        job(path, knobs={"sampling.frames": 3, "picture.resize": "opencv"} | DIS),
        job(path, start=0.2),
        job(path, rate=60.0),
        job(path, knobs={"sampling.frames": 3}, flow_by="torch"),
        job(path, knobs={"sampling.frames": 3}, flow_by="device"),
        replace(one, recipe=replace(one.recipe, version=1)),  # whose rules chose other frames
    ]
    names = {cache.path_of(tmp_path, each) for each in [one, *others]}
    assert len(names) == 9
    with_sound(path, 31, 0)
    assert cache.path_of(tmp_path, one) not in names


def test_a_damaged_or_unwritable_cache_costs_nothing_but_time(tmp_path):
    path = with_sound(tmp_path / "clip.mkv", 20, 0)
    plain = preparation.prepare_clip(job(path))
    preparation.prepare_clip(job(path, flow_cache=tmp_path / "cache"))
    (kept,) = (tmp_path / "cache").rglob("*.npz")
    kept.write_bytes(kept.read_bytes()[:1000])
    again = preparation.prepare_clip(job(path, flow_cache=tmp_path / "cache"))
    np.testing.assert_array_equal(seen(again.windows["flow"]), seen(plain.windows["flow"]))
    (tmp_path / "file").write_text("")
    warned = preparation.prepare_clip(job(path, flow_cache=tmp_path / "file"))
    assert "the flow of this clip is not cached" in warned.warning and "flow" in warned.windows


@pytest.mark.parametrize(
    ("name", "count", "right", "found"),
    [("kinetics", 4, 2, 2), ("kinetics", 1, 2, 0), ("tbn-epic55", 8, 1, 6), ("tbn-epic55", 5, 1, 0)],
)
def test_flow_on_the_device_gives_the_workers_windows(tmp_path, name, count, right, found):
    """`DeviceFlow` runs on the CPU as well. The same pairs in the same places; values as far as TV-L1's two versions agree.

    TBN's pairs are six frames apart; at 12 px TV-L1 finds no motion here, and where it does not its versions differ.
    """
    moving(tmp_path, count, right)
    knobs = {"sampling.frames": 3, "picture.short_side": 224}
    here = preparation.prepare_clip(job(tmp_path, name, knobs=knobs))
    there = preparation.prepare_clip(job(tmp_path, name, knobs=knobs, flow_by="device"))
    assert there.pairs is not None and "flow" not in there.windows
    device = DeviceFlow(recipes.load(name, knobs), torch.device("cpu"))
    ((key, _, windows),) = [*device.add(7, there.pairs), *device.flush()]
    assert key == 7
    np.testing.assert_array_equal(windows.rows, here.windows["flow"].rows)
    difference = np.abs(seen(windows).astype(int) - seen(here.windows["flow"]).astype(int))
    assert (difference <= 1).mean() > 0.99
    levels_a_px = 255 / (2 * recipes.load(name, knobs).flow.bound)
    assert abs(np.median(seen(windows)[..., 0].astype(int)) - 127.5 - found * levels_a_px) <= 1


def test_batches_of_pairs_fill_across_clips_and_leave_each_its_own(tmp_path, monkeypatch):
    from cia_extract.extraction import flow_batches

    sizes: list[int] = []

    def fake(first, second, parameters):
        """Not flow: what tells pairs apart."""
        sizes.append(len(first))
        return (
            torch.stack([first.float().mean((1, 2)), second.float().mean((1, 2))], 1)[..., None, None].expand(-1, 2, 224, 230)
            / 20
        )

    monkeypatch.setattr(flow_batches, "PAIRS", 8)
    monkeypatch.setattr(flow_batches.tvl1_batched, "flow", fake)
    random, found = np.random.default_rng(0), {}
    device = DeviceFlow(recipes.load("kinetics"), torch.device("cpu"))
    pairs = {}
    for key, count in enumerate((3, 4, 2, 5)):
        grey = random.integers(0, 255, (count + 1, 1, 1), dtype=np.uint8).repeat(224, 1).repeat(230, 2)
        rows = np.stack([np.arange(count), np.arange(count) + 1], 1).astype(np.int32)
        pairs[key] = clips_job.FramePairs(grey, rows, np.zeros((1, 16), np.int32), tuple(range(count)))
        for done, _, windows in device.add(key, pairs[key]):
            found[done] = windows
    for done, _, windows in device.flush():
        found[done] = windows
    assert sizes == [8, 1, 5] and device.computed == 14
    for key, each in pairs.items():
        means = each.grey[:, 0, 0].astype(np.float32)
        expected = flow.quantise(np.stack([means[:-1], means[1:]], 1) / 20)
        np.testing.assert_array_equal(found[key].images[:, 0, 0], expected)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("name", "stable"),
    [("ucf101/PushUps/v_PushUps_g01_c01.avi", True), ("hmdb51/wave/TrumanShow_wave_f_nm_np1_fr_med_26.avi", False)],
)
def test_i3d_sees_the_same_in_both_flows(shared, kinetics, name, stable):
    """Flow features of a window of 16 from OpenCV's TV-L1 and from torch's, on the device and in a worker: cosine ≥ 0.999.

    TV-L1 amplifies rounding. Where OpenCV's own features move by more than that when its input changes by a millionth (the
    second clip: 0.992), no other implementation can be nearer, and ours may be no farther than one and a half times as much.
    """
    recipe = recipes.load("kinetics", {"sampling.frames": 1})
    network = weights.build("i3d", "flow", weights.load("i3d", "flow", "kinetics", print)).fold()
    engine = engines.build(network, recipe, streams.example(recipe, "flow"), torch.device("cpu"), "eager")

    def features(windows: clips_job.Windows) -> np.ndarray:
        batcher = Batcher(engine, recipe, "flow")
        ((_, maps),) = [*batcher.add(0, windows), *batcher.flush()]
        pooled = maps.mean(axis=(2, 3))[0].astype(np.float64)
        return pooled / np.linalg.norm(pooled)

    one = clips_job.ClipJob(shared / "clips" / name, ("flow",), recipe)
    opencv = features(preparation.prepare_clip(one).windows["flow"])
    pairs = preparation.prepare_clip(replace(one, flow_by="device")).pairs
    device = DeviceFlow(recipe, torch.device("cpu"))
    ((_, _, windows),) = [*device.add(0, pairs), *device.flush()]
    here = preparation.prepare_clip(replace(one, flow_by="torch")).windows["flow"]
    distance = max(1 - opencv @ features(each) for each in (windows, here))
    if stable:
        assert distance <= 0.001
        return
    grey = pairs.grey.astype(np.float32) * np.float32((1 + 1e-6) / 255)  # OpenCV takes floats as 0 … 1
    method = flow.estimator(recipe.flow)
    moved = [picture.centre_crop(flow.quantise(method.calc(grey[a], grey[b], None))) for a, b in pairs.rows]
    own = 1 - opencv @ features(clips_job.Windows(np.stack(moved), pairs.windows))
    assert own > 0.001 and distance <= 1.5 * own
