import csv
import os
import shutil
import signal
import time
from dataclasses import replace
from fractions import Fraction
from pathlib import Path

import numpy as np
import pytest
import torch
from cia_extract import clips, features, recipes
from cia_extract.clips import job as clips_job
from cia_extract.clips import picture, preparation, workers
from cia_extract.clips.flow import methods
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.outcomes import ClipError
from cia_extract.datasets import class_folders, manifest
from cia_extract.extraction import clips_to_rows, pipeline
from cia_extract.extraction import settings as extraction_settings
from cia_extract.networks import engines, weights
from cia_extract.networks.i3d import I3D

from tests.extract.clips.test_video import encode
from tests.extract.extraction.test_flow_batches import moving
from tests.faults.odd_clips import film


def recipe(frames: int = 2, flow: str = "dis", name: str = "kinetics", **changes) -> recipes.Recipe:
    return recipes.load(name, {"sampling.frames": frames, "flow.algorithm": flow} | changes)


def settings(root: Path, names: list[str], **changes) -> extraction_settings.Settings:
    rows = [{"clip": Path(n).stem, "path": n, "label": Path(n).parent.name, "split": "train"} for n in names]
    values = {"recipe": recipe(changes.pop("frames", 2)), "workers": 2, "engine": "eager"} | changes
    return extraction_settings.Settings(dataset="real", manifest=manifest.check("test", rows), root=root, **values)


REAL = [
    "ucf101/PushUps/v_PushUps_g01_c01.avi",
    "hmdb51/wave/TrumanShow_wave_f_nm_np1_fr_med_26.avi",
    "hmdb51/wave/RATRACE_wave_f_nm_np1_fr_goo_37.avi",
    "hmdb51/golf/Golf_Tips_-_Hit_The_Driver_300+_Yards!!!_golf_f_nm_np1_fr_med_0.avi",
]


def test_real_clips_through_both_modalities_with_a_truncated_one(shared, tmp_path, kinetics):
    """UCF and HMDB clips with the real network. The truncated copy is recorded as failed; the rest completes."""
    for name in REAL:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(shared / "clips" / name, tmp_path / name)
    cut = tmp_path / "ucf101/PushUps/cut.avi"
    cut.write_bytes((tmp_path / REAL[0]).read_bytes()[:60_000])
    names = [*REAL[:1], "ucf101/PushUps/cut.avi", *REAL[1:]]
    said: list[str] = []
    chosen = settings(tmp_path, names, out=tmp_path / "f.h5")
    summary = pipeline.extract(chosen, said.append)
    assert summary.done == 4 and list(summary.failed) == ["cut"] and "truncated" in summary.failed["cut"]
    assert any("flow weights: rgb_scratch-inflated" in line and "never trained on flow" in line for line in said)
    with (tmp_path / "f.failed.csv").open() as file:
        failed = list(csv.DictReader(file))
    assert [(row["clip"], row["modality"], row["outcome"]) for row in failed] == [
        ("cut", "rgb", "partial decode"),
        ("cut", "flow", "partial decode"),
    ]
    assert "/56 frames could be decoded" in failed[0]["message"]
    assert summary.outcomes["rgb"] == {"ok": 4, "partial decode": 1}

    dataset = features.open_features(tmp_path / "f.h5")["real"]
    assert dataset.array("status").tolist() == [[1, 1], [2, 2], [1, 1], [1, 1], [1, 1]]
    assert dataset.array("clips/n_frames").tolist() == [56, 0, 48, 72, 89]
    assert dataset.array("clips/indices")[0].tolist() == [14, 42]
    assert dataset.provenance["weights"]["flow"]["name"] == "rgb_scratch-inflated"
    assert not dataset.damaged_rows("rgb") and not dataset.damaged_rows("flow")

    # A plain loop over the same clip: every frame resized, cropped and scaled, the unfolded network, one window at a time.
    model = weights.build("i3d", "rgb", kinetics)
    frames = [picture.centre_crop(picture.resize(f.image, recipe().picture)) for f in clips.decode(tmp_path / REAL[0])]
    for position, centre in enumerate((14, 42)):
        window = np.stack([frames[min(max(t, 0), 55)] for t in range(centre - 8, centre + 8)])
        with torch.inference_mode():
            plain = model(torch.from_numpy(window / 127.5 - 1).float().permute(3, 0, 1, 2)[None]).mean(2)[0].numpy()
        stored = dataset.array("rgb/maps")[0, position].astype(np.float32)
        assert np.abs(stored - plain).max() <= 1e-3 * max(1, plain.max())  # float16
        np.testing.assert_allclose(dataset.array("rgb/pooled")[0, position], plain.mean((1, 2)), atol=1e-5)

    # A second run has nothing to do; a retry after mending takes up the failed clip only.
    again = pipeline.extract(chosen, said.append)
    assert again.extracted_now == 0 and "truncated" in again.failed["cut"]
    shutil.copy(tmp_path / REAL[0], cut)
    retried = pipeline.extract(settings(tmp_path, names, out=tmp_path / "f.h5", retry_failed=True), said.append)
    assert retried.extracted_now == 1 and not retried.failed and retried.done == 5
    assert not (tmp_path / "f.failed.csv").exists()
    rows = features.open_features(tmp_path / "f.h5")["real"].array("flow/maps")
    np.testing.assert_array_equal(rows[0], rows[1])


@pytest.mark.slow
def test_every_real_clip_goes_through_both_modalities(shared, tmp_path):
    """All UCF101 and HMDB51 samples, the HMDB clip with broken metadata among them."""
    made = class_folders.read(shared / "clips/ucf101").manifest.columns["path"]
    names = [f"ucf101/{p}" for p in made]
    names += [f"hmdb51/{p}" for p in class_folders.read(shared / "clips/hmdb51").manifest.columns["path"]]
    chosen = settings(shared / "clips", names, out=tmp_path / "f.h5", frames=1)
    summary = pipeline.extract(chosen, print)
    assert summary.done == len(names) == 47 and not summary.failed
    dataset = features.open_features(tmp_path / "f.h5")["real"]
    assert not dataset.damaged_rows("rgb") and not dataset.damaged_rows("flow")
    assert (dataset.array("rgb/pooled").max(axis=2) > 0.5).all()


def job(path: Path, **changes) -> clips_job.ClipJob:
    values = {"modalities": ("rgb", "flow"), "recipe": recipe(changes.pop("frames", 25))}
    return clips_job.ClipJob(path, **(values | changes))


@pytest.mark.parametrize("count", [1, 5, 16, 22, 40])
def test_each_frame_is_decoded_once_and_each_pair_computed_once(tmp_path, monkeypatch, count):
    path = encode(tmp_path / "clip.mp4", count)
    decoded, pairs = [], []
    monkeypatch.setattr(picture, "resize", lambda *image, real=picture.resize: decoded.append(1) or real(*image))
    real_estimator = methods.estimator

    class Counting:
        def __init__(self, rule, by):
            self.method = real_estimator(rule, by)

        def calc(self, *arguments):
            pairs.append(1)
            return self.method.calc(*arguments)

    monkeypatch.setattr(methods, "estimator", Counting)
    prepared = preparation.prepare_clip(job(path))
    assert prepared.n_frames == count == len(decoded)
    assert len(pairs) == count - 1
    for modality, channels in (("rgb", 3), ("flow", 2)):
        windows = prepared.windows[modality]
        assert windows.images.shape[1:] == (224, 224, channels)
        assert windows.rows.shape == (25, 16) and windows.rows.max() < len(windows.images)


@pytest.mark.parametrize(("held", "most"), [("HELD_FRAMES", 10), ("HELD_BYTES", 2_000_000)])
def test_a_clip_too_long_to_hold_gives_the_same_windows(tmp_path, monkeypatch, held, most):
    path = encode(tmp_path / "clip.mp4", 60)
    whole = preparation.prepare_clip(job(path, frames=3))
    monkeypatch.setattr(preparation, held, most)
    streamed = preparation.prepare_clip(job(path, frames=3))
    for modality in ("rgb", "flow"):
        a, b = whole.windows[modality], streamed.windows[modality]
        np.testing.assert_array_equal(a.images[a.rows], b.images[b.rows])


def test_times_that_repeat_a_frame_without_end_are_refused(tmp_path, monkeypatch):
    """Frames an hour apart, read at a thousand a second: 7,200,000 of them are none of the file's."""
    path = film(tmp_path / "slow.mkv", "ffv1", rate=Fraction(1, 3600), count=3)
    monkeypatch.setattr(preparation, "MOST_FRAMES", 10_000)
    with pytest.raises(ClipError, match="has more than 10,000 frames; are its times damaged"):
        preparation.prepare_clip(replace(job(path, frames=3), rate=1000.0))


def test_identical_windows_run_once_and_their_flow_is_cached(tmp_path, monkeypatch):
    """A clip of one frame has one distinct window, whatever the number of frames asked for."""
    encode(tmp_path / "clip.mp4", 1)
    seen: list[int] = []
    monkeypatch.setattr(I3D, "forward", lambda self, x: seen.append(len(x)) or torch.ones(len(x), 1024, 2, 7, 7))
    chosen = settings(tmp_path, ["clip.mp4"], out=tmp_path / "f.h5", frames=25, weights=("random",), flow_cache=tmp_path / "flow")
    (left := tmp_path / "flow/00/.0.npz.0.part").parent.mkdir(parents=True)
    left.touch()
    os.utime(left, times=(0, 0))
    assert pipeline.extract(chosen, print).windows == 2
    assert sum(seen) == 2
    assert [file.suffix for file in (tmp_path / "flow").rglob("*.*")] == [".npz"], "what a killed process left is gone"


@pytest.mark.slow
def test_numbers_of_a_clip_do_not_depend_on_its_neighbours(tmp_path):
    """In `--deterministic`; otherwise which windows share a batch may move the last bits."""
    for index in range(3):
        encode(tmp_path / f"clip{index}.mp4", 20 + index)
    names, changes = [f"clip{i}.mp4" for i in range(3)], {"weights": ("random",), "deterministic": True}
    pipeline.extract(settings(tmp_path, names, out=tmp_path / "all.h5", **changes), print)
    pipeline.extract(settings(tmp_path, names[2:], out=tmp_path / "one.h5", workers=1, **changes), print)
    together, alone = (features.open_features(tmp_path / f"{name}.h5")["real"] for name in ("all", "one"))
    np.testing.assert_array_equal(together.array("flow/maps")[2], alone.array("flow/maps")[0])


def prepared(jobs: list[clips_job.ClipJob], **changes) -> dict[int, object]:
    return dict(workers.prepared_clips(iter(enumerate(jobs)), **({"workers": 2} | changes)))


def test_a_clip_that_crashes_its_worker_costs_that_clip_alone(tmp_path):
    """The worker of the middle clip dies as by a segmentation fault."""
    for index in range(4):
        encode(tmp_path / f"clip{index}.mp4", 20)
    results = prepared([job(tmp_path / f"clip{index}.mp4", frames=1) for index in range(4)], work=_prepare_or_die)
    assert [isinstance(results[row], DataError) for row in range(4)] == [False, False, True, False]
    assert "crashed the worker" in str(results[2])


def _prepare_or_die(one: clips_job.ClipJob, beat):
    if "clip2" in one.path.name:
        os.kill(os.getpid(), signal.SIGSEGV)
    return preparation.prepare_clip(one, beat)


def test_a_hanging_decoder_is_killed_and_a_slow_one_is_not(tmp_path):
    """Clip 1 opens a pipe that nobody writes to; clip 2 takes longer than the timeout, but goes on all the time."""
    for index in (0, 2, 3):
        encode(tmp_path / f"clip{index}.mp4", 20)
    os.mkfifo(tmp_path / "clip1.mp4")
    results = prepared([job(tmp_path / f"clip{index}.mp4", frames=1) for index in range(4)], work=_open_or_dawdle, timeout=3)
    assert [isinstance(results[row], DataError) for row in range(4)] == [False, True, False, False]
    assert results[1].outcome.name == "timeout" and "no progress for 3 s" in str(results[1])


def _open_or_dawdle(one: clips_job.ClipJob, beat):
    if "clip1" in one.path.name:
        one.path.read_bytes()
    if "clip2" in one.path.name:
        for _ in range(8):
            time.sleep(0.5)
            beat()
    return preparation.prepare_clip(one, beat)


def test_jobs_are_asked_for_a_few_ahead_only(tmp_path):
    """Memory does not grow with the list of clips: at any time few of them are in work."""
    encode(tmp_path / "clip.mp4", 3)
    asked = []
    jobs = ((asked.append(row) or row, job(tmp_path / "clip.mp4", frames=1)) for row in range(40))
    for count, (_, result) in enumerate(workers.prepared_clips(jobs, workers=2), start=1):
        assert not isinstance(result, DataError)
        time.sleep(0.02)
        assert len(asked) - count <= 2 + workers.AHEAD
    assert count == 40


@pytest.mark.parametrize("where", ["network", "engine"])
def test_a_gpu_whose_memory_is_too_small_is_one_line_that_says_what_to_lower(tmp_path, monkeypatch, where):
    """While windows run, or when the engine is tested: neither is an engine with wrong numbers."""
    moving(tmp_path / "c0", 6)

    def short(*_):
        raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB")

    if where == "network":
        monkeypatch.setattr(clips_to_rows.Batcher, "add", short)
    else:
        monkeypatch.setitem(engines._BUILDERS, "compiled", short)
    small = {"modalities": ("rgb",), "weights": ("random",), "recipe": recipe(1), "out": tmp_path / "f.h5"}
    with pytest.raises(UsageError, match="real on cpu: not enough memory; take a smaller --batch, fewer --workers"):
        pipeline.extract(settings(tmp_path, ["c0"], **small, engine="eager" if where == "network" else "compiled"), print)


def test_the_file_says_what_computed_its_flow_and_auto_goes_on_with_it(tmp_path):
    encode(tmp_path / "clip.mp4", 3)
    changes = {"recipe": recipe(1, "tvl1"), "weights": ("random",), "out": tmp_path / "f.h5", "modalities": ("flow",)}
    one = settings(tmp_path, ["clip.mp4"], **changes)
    assert pipeline.Extraction(one, print).settings.flow_by == "torch"
    pipeline.Extraction(replace(one, flow_by="opencv"), print).begin_or_continue()
    assert features.open_features(one.out)["real"].provenance["engine"]["flow_by"].startswith("opencv ")
    assert pipeline.Extraction(one, print).settings.flow_by == "opencv"
    assert pipeline.Extraction(replace(one, flow_by="torch"), print).settings.flow_by == "torch"
    pipeline.Extraction(replace(one, overwrite=True), print).begin_or_continue()
    assert features.open_features(one.out)["real"].provenance["engine"]["flow_by"] == methods.implementation("torch")


@pytest.mark.slow
def test_flow_by_torch_is_the_same_to_the_byte_in_one_worker_or_two(tmp_path):
    """Each pair alone, each worker with one thread."""
    paths = [moving(tmp_path / f"clip{i}", 4 + i) for i in range(3)]
    jobs = [job(path, recipe=recipe(1, "tvl1"), modalities=("flow",), flow_by="torch") for path in paths]
    one, two = (prepared(jobs, workers=count, work=_prepare_on_one_thread) for count in (1, 2))
    for row in range(3):
        images = one[row].windows["flow"].images
        assert images.std() > 0
        np.testing.assert_array_equal(images, two[row].windows["flow"].images)


def _prepare_on_one_thread(one: clips_job.ClipJob, beat):
    found = preparation.prepare_clip(one, beat)
    assert torch.get_num_threads() == 1
    return found
