"""The traps that others fell into when they made features. Most are tested where they belong:

| trap | test |
|---|---|
| eps 1e-5; BN eps folding; padding=1 | test_i3d (golden activations, folding, SAME padding), test_bninception, test_recipes |
| Mixed_5b Branch_2's name | test_checkpoints |
| TBN means in RGB order | test_recipes::test_scaling |
| flow x/y order | test_flow::test_a_shift_comes_out_as_x_then_y_forwards, test_engines::test_flow_stacks_are_x0_y0_x1_y1 |
| unclamped 256; bound 20/25/8 | test_flow::test_every_quantiser_equals_a_slow_loop, test_bounds_of_recipes_are_not_mixed |
| PIL vs non-antialiased 1080 → 256 | test_preprocess::test_other_recipes_resize_as_they_say |
| +1 index base; float num_frames; negative tick | test_frame_folder, test_sampling::test_tbn_stacks_start_inside_the_clip |
| stft 'reflect' default; 44000 Hz | test_audio |
| frame threads without flush | test_video::test_frames_come_in_presentation_order_and_none_is_lost |
| stem collisions | test_manifest |
| nscales lowered for later videos | test_flow::test_a_small_clip_does_not_spoil_the_next_ones |

The others are here.
"""

import json
import os
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import h5py
import numpy as np
import pytest
from cia_extract import features, recipes
from cia_extract.clips import flow, preparation, workers
from cia_extract.clips import job as clips_job
from cia_extract.common.outcomes import ClipError
from PIL import Image

from tests.conftest import make_dataset
from tests.extract.cli.test_application import cia_extract
from tests.extract.clips.test_video import encode


def test_rgb_fed_to_a_bgr_net(tmp_path):
    """TBN's networks are Caffe's: blue first. I3D's are not."""
    Image.new("RGB", (320, 256), (200, 100, 50)).save(tmp_path / "frame_1.png")
    for name, expected in (("tbn-epic55", [50, 100, 200]), ("kinetics", [200, 100, 50])):
        task = clips_job.ClipJob(tmp_path, ("rgb",), recipes.load(name))
        assert preparation.prepare_clip(task).windows["rgb"].images[0, 0, 0].tolist() == expected


def test_flow_on_unscaled_frames(tmp_path):
    """Frames of 128 px are scaled to 256 first: a shift of 2 px of the clip is a flow of 4 px, not of 2."""
    scene = cv2.GaussianBlur(np.random.default_rng(1).uniform(0, 255, (140, 190)), (0, 0), 2)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    for t in range(2):
        Image.fromarray(scene[:128, 10 - 2 * t : 180 - 2 * t]).save(tmp_path / f"frame_{t + 1}.png")
    rule = recipes.load("kinetics", {"sampling.frames": 1, "flow.algorithm": "dis"})
    images = preparation.prepare_clip(clips_job.ClipJob(tmp_path, ("flow",), rule)).windows["flow"].images
    assert np.median(flow.dequantise(images)[..., 0]) == pytest.approx(4, abs=0.3)


def test_one_tvl1_object_in_several_threads():
    """Each call makes its own estimator: four threads get what one gets."""
    rule = recipes.load("kinetics").flow
    random = np.random.default_rng(0)
    scenes = [cv2.GaussianBlur(random.integers(0, 255, (64, 96), dtype=np.uint8), (0, 0), 2) for _ in range(4)]
    pairs = [{0: scene, 1: np.roll(scene, 2, axis=1)} for scene in scenes]
    alone = [flow.quantised_flows(pair, [0], rule)[0] for pair in pairs]
    with ThreadPoolExecutor(4) as pool:
        for expected, flow_of_pair in zip(
            alone, pool.map(lambda pair: flow.quantised_flows(pair, [0], rule)[0], pairs), strict=True
        ):
            np.testing.assert_array_equal(flow_of_pair, expected)


def test_h5_handle_across_fork(tmp_path):
    """Workers are started afresh: none of them holds the feature file, open here in two ways, nor a lock on it."""
    make_dataset(tmp_path / "f.h5", "d", seed=0, clips_per_class=1)
    encode(tmp_path / "clip.mp4", 3)
    task = clips_job.ClipJob(tmp_path / "clip.mp4", ("rgb",), recipes.load("kinetics"))
    with h5py.File(tmp_path / "f.h5", "r", locking=False), (tmp_path / "f.h5").open("r+b"):
        ((_, result),) = workers.prepared_clips(iter([(0, task)]), workers=1, work=_open_files)
    assert isinstance(result, ClipError) and "clip.mp4" not in str(result)
    assert json.loads(str(result)) and not [name for name in json.loads(str(result)) if name.endswith(".h5")]


def _open_files(job: clips_job.ClipJob, beat):
    raise ClipError(json.dumps([os.readlink(f"/proc/self/fd/{fd}") for fd in os.listdir("/proc/self/fd") if _is_open(fd)]))


def _is_open(fd: str) -> bool:
    return Path(f"/proc/self/fd/{fd}").is_symlink()


def test_tolist_float64(tmp_path):
    """Features are stored as float16 maps and float32 vectors, never as Python's doubles."""
    dataset = make_dataset(tmp_path / "f.h5", "d", seed=0, clips_per_class=1)
    kinds = {name: region.dtype.name for name, region in dataset.regions.items() if "/maps" in name or "/pooled" in name}
    assert kinds == {f"{m}/{n}": k for m in ("rgb", "flow") for n, k in (("maps", "float16"), ("pooled", "float32"))}


def test_broken_output_is_detected_and_redone(tmp_path):
    """A row is done when it says so, after its bytes; one whose bytes were damaged since is found, and done again."""
    (tmp_path / "clips" / "run").mkdir(parents=True)
    for index in range(3):
        encode(tmp_path / "clips" / "run" / f"{index}.mp4", 5 + index)
    cia_extract("manifest", "--from-folders", tmp_path / "clips")
    out = tmp_path / "f.h5"
    line = ["--dataset", "d", "--root", tmp_path / "clips", "--out", out, "--backbone", "tbn", "--modality", "rgb"]
    line += ["--weights", "random", "--frames", "2", "--deterministic", "--json"]
    assert json.loads(cia_extract(*line).stdout)["extracted_now"] == 3
    region = features.open_features(out)["d"].regions["rgb/maps"]
    healthy = out.read_bytes()
    with out.open("r+b") as file:
        file.seek(region.row_offset(1) + 1000)
        file.write(b"\x3c\x3c")
    assert cia_extract("verify", out).returncode == 3
    again = cia_extract("verify", "--redo", out)
    assert again.returncode == 0 and "1 of 3 rows are to be done again" in again.stdout
    assert json.loads(cia_extract(*line).stdout)["extracted_now"] == 1
    assert cia_extract("verify", out).returncode == 0 and out.read_bytes() == healthy
