"""What became of each clip and modality: in the file, in failed.csv, in the summary; and what a retry does."""

import csv
import fcntl
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import av
import numpy as np
import pytest
from cia_extract import features, recipes
from cia_extract.cli import application
from cia_extract.cli import features as commands
from cia_extract.common import outcomes
from cia_extract.common.errors import DataError
from cia_extract.common.outcomes import ClipError, Outcome
from cia_extract.datasets import manifest
from cia_extract.extraction import pipeline
from cia_extract.extraction import settings as extraction_settings
from cia_extract.features import failures

from tests.extract.clips.test_video import encode


def with_sound(path: Path, frames: int, seconds: float, rate: int = 25) -> Path:
    """A clip of noise to see and, for `seconds`, a tone to hear."""
    random = np.random.default_rng(frames)
    with av.open(str(path), "w") as container:
        video = container.add_stream("libx264", rate=rate)
        video.width, video.height, video.pix_fmt = 64, 48, "yuv420p"
        audio = container.add_stream("pcm_s16le", rate=24_000, layout="mono") if seconds else None
        for _ in range(frames):
            image = random.integers(0, 255, (48, 64, 3), dtype=np.uint8)
            container.mux(video.encode(av.VideoFrame.from_ndarray(image, format="rgb24")))
        container.mux(video.encode())
        if audio is not None:
            tone = (np.sin(np.arange(int(seconds * 24_000)) * 0.2) * 9000).astype(np.int16)
            frame = av.AudioFrame.from_ndarray(tone[None], format="s16", layout="mono")
            frame.sample_rate = 24_000
            container.mux(audio.encode(frame))
            container.mux(audio.encode())
    return path


def settings(root: Path, names: list[str], **changes) -> extraction_settings.Settings:
    rows = [{"clip": name, "path": name, "label": "wave", "split": "train"} for name in names]
    recipe = recipes.load("tbn-epic100", {"sampling.frames": 4, "flow.algorithm": "dis"} | changes.pop("knobs", {}))
    values = {
        "dataset": "d", "manifest": manifest.check("test", rows), "root": root, "out": root / "f.h5", "recipe": recipe,
        "modalities": ("rgb", "flow", "audio"), "weights": ("random",), "engine": "eager",
    }  # fmt: skip
    return extraction_settings.Settings(**(values | changes))


@pytest.fixture
def five(tmp_path) -> extraction_settings.Settings:
    """A good clip, a short one, one with little sound, a silent one and a broken one."""
    with_sound(tmp_path / "good.mkv", 60, 2.4)
    with_sound(tmp_path / "short.mkv", 3, 2.0)
    with_sound(tmp_path / "little.mkv", 60, 0.5)
    with_sound(tmp_path / "silent.mkv", 60, 0)
    (tmp_path / "broken.mkv").write_bytes((tmp_path / "good.mkv").read_bytes()[:600])
    return settings(tmp_path, [f"{name}.mkv" for name in ("good", "short", "little", "silent", "broken")])


def test_every_outcome_is_in_the_file_in_failed_csv_and_in_the_summary(five, tmp_path):
    summary = pipeline.extract(five, print)
    assert summary.outcomes == {
        "rgb": {"ok": 3, "short": 1, "decode error": 1},
        "flow": {"ok": 3, "short": 1, "decode error": 1},
        "audio": {"ok": 2, "short": 1, "no audio": 1, "decode error": 1},
    }
    assert summary.done == 4 and list(summary.failed) == ["broken.mkv"]
    dataset = features.open_features(tmp_path / "f.h5")["d"]
    assert dataset.array("status").tolist() == [[1, 1, 1]] * 4 + [[2, 2, 2]]
    mask = dataset.array("audio/mask")
    assert mask[0].tolist() == [1] * 4 and mask[3].tolist() == [0] * 4 and 0 < 4 - mask[2].sum() <= 4
    pooled = dataset.array("audio/pooled")
    assert (pooled[3] == 0).all() and (pooled[2][mask[2] == 0] == 0).all() and (pooled[0] != 0).any()
    assert "audio/maps" not in dataset.regions and not dataset.damaged_rows("audio")
    short = [entry for entry in failures.entries(dataset, features.DONE) if entry.outcome == "short" and entry.modality == "rgb"]
    assert [(entry.clip, entry.message) for entry in short] == [("short.mkv", "3 frames, 4 are described")]
    with failures.failures_path(tmp_path / "f.h5").open() as file:
        rows = list(csv.DictReader(file))
    assert [(row["clip"], row["modality"], row["outcome"]) for row in rows] == [
        ("broken.mkv", modality, "decode error") for modality in ("rgb", "flow", "audio")
    ]
    assert "broken.mkv: cannot be decoded" in rows[0]["message"]


@pytest.mark.slow
def test_what_failed_is_left_until_a_retry(five, tmp_path):
    pipeline.extract(five, print)
    before = np.array(features.open_features(tmp_path / "f.h5")["d"].array("rgb/pooled")[:4])
    assert pipeline.extract(five, print).extracted_now == 0
    retry = settings(tmp_path, five.manifest.columns["clip"], retry_failed=True)
    still = pipeline.extract(retry, print)
    assert still.extracted_now == 0 and list(still.failed) == ["broken.mkv"]
    with_sound(tmp_path / "broken.mkv", 30, 1.5)
    mended = pipeline.extract(retry, print)
    assert mended.extracted_now == 1 and mended.done == 5 and not mended.failed
    assert not failures.failures_path(tmp_path / "f.h5").exists()
    dataset = features.open_features(tmp_path / "f.h5")["d"]
    assert failures.counts(dataset)["rgb"] == {"ok": 4, "short": 1}
    np.testing.assert_array_equal(dataset.array("rgb/pooled")[:4], before)


def test_a_hanging_clip_is_a_timeout_in_the_ledger(tmp_path):
    """A picture that this process holds a lease on: who opens it waits. Real decoders hang on dead network mounts in this way."""
    with_sound(tmp_path / "good.mkv", 30, 0)
    (tmp_path / "frames").mkdir()
    (tmp_path / "frames" / "frame_0000000001.jpg").write_bytes(b"held")
    chosen = settings(tmp_path, ["good.mkv", "frames"], modalities=("rgb",), timeout=4.0)
    before = signal.signal(signal.SIGIO, signal.SIG_IGN)  # the kernel asks for the lease back, and waits 45 s
    with (tmp_path / "frames" / "frame_0000000001.jpg").open("r+b") as held:
        fcntl.fcntl(held, fcntl.F_SETLEASE, fcntl.F_WRLCK)
        summary = pipeline.extract(chosen, print)
    signal.signal(signal.SIGIO, before)
    assert summary.outcomes["rgb"] == {"ok": 1, "timeout": 1}
    assert "no progress for 4 s, given up; raise --timeout" in summary.failed["frames"]


@pytest.mark.slow
def test_values_that_do_not_fit_float16_fail_their_modality_alone(tmp_path, monkeypatch):
    from cia_extract.extraction.window_batches import Batcher

    with_sound(tmp_path / "good.mkv", 30, 2.0)
    collect = Batcher._collect

    def overflow(self):
        for key, maps in collect(self):
            yield key, maps * (1e6 if self.volume or maps.shape[-1] == 7 else 1)

    monkeypatch.setattr(Batcher, "_collect", overflow)
    summary = pipeline.extract(settings(tmp_path, ["good.mkv"]), print)
    assert summary.outcomes == {"rgb": {"not finite": 1}, "flow": {"not finite": 1}, "audio": {"ok": 1}}
    assert "not finite in float16" in summary.failed["good.mkv"]


def test_missing_clips_are_named_and_stop_nothing_but_a_lost_folder_does(tmp_path):
    """Half a download is extracted as far as it goes; a folder that vanishes must not mark a whole collection failed."""
    with_sound(tmp_path / "good.mkv", 30, 0)
    names = [f"gone{index}.mkv" for index in range(150)] + ["good.mkv"]
    summary = pipeline.extract(settings(tmp_path, names, modalities=("rgb",)), print)
    assert summary.outcomes["rgb"] == {"ok": 1, "missing": 150}
    away = replace(settings(tmp_path, names, modalities=("rgb",), out=tmp_path / "g.h5"), root=tmp_path / "mount")
    with pytest.raises(DataError, match=r"stopped: .* still there"):
        pipeline.extract(away, print)
    assert (features.open_features(tmp_path / "g.h5")["d"].array("status") == features.FAILED).sum() <= 1


def test_messages_are_cut_between_characters_and_errors_cross_processes():
    long = outcomes.encoded("é" * 300)
    assert len(long) <= outcomes.MESSAGE_BYTES and long.decode() == "é" * (outcomes.MESSAGE_BYTES // 2)
    import pickle

    error = pickle.loads(pickle.dumps(ClipError("x.avi: cut", "partial decode")))
    assert error.outcome == Outcome("partial decode", "x.avi: cut") and error.outcome.code == 4


@pytest.mark.slow
@pytest.mark.parametrize("changes", [{"batch": 1, "workers": 2}, {"workers": 1}, {"workers": 3}, {"batch": 7}])
def test_deterministic_bytes_do_not_depend_on_workers_batch_or_history(tmp_path, changes):
    """Against one worker in one go: other workers, other batches, and a file filled in two parts."""
    names = []
    for index in range(3):
        with_sound(tmp_path / f"clip{index}.mkv", 10 + 9 * index, 1.5)
        names.append(f"clip{index}.mkv")
    one = settings(tmp_path, names, out=tmp_path / "one.h5", deterministic=True, workers=1)
    pipeline.extract(one, print)
    other = settings(tmp_path, names, out=tmp_path / "other.h5", deterministic=True, **changes)
    for part in ((2, 2), (1, 2), None):  # in parts, another order
        pipeline.extract(settings(tmp_path, names, out=other.out, deterministic=True, shard=part, **changes), print)
    a, b = (features.open_features(tmp_path / f"{name}.h5")["d"] for name in ("one", "other"))
    for name in a.regions:
        np.testing.assert_array_equal(a.array(name), b.array(name), err_msg=name)


@pytest.mark.slow
def test_otherwise_numbers_move_by_rounding_only(tmp_path):
    """The stated limit: batches of another size move maps by less than 1e-3 of the largest value (float16 stores 5e-4)."""
    names = []
    for index in range(3):
        with_sound(tmp_path / f"clip{index}.mkv", 10 + 9 * index, 0)
        names.append(f"clip{index}.mkv")
    for batch in (1, 5):
        changes = {"out": tmp_path / f"{batch}.h5", "batch": batch, "modalities": ("rgb", "flow")}
        pipeline.extract(settings(tmp_path, names, **changes), print)
    a, b = (features.open_features(tmp_path / f"{batch}.h5")["d"] for batch in (1, 5))
    for name in ("rgb/maps", "flow/maps"):
        x, y = a.array(name).astype(np.float32), b.array(name).astype(np.float32)
        assert np.abs(x - y).max() <= 1e-3 * np.abs(x).max()


@pytest.mark.slow
def test_a_file_made_before_there_was_a_ledger_still_continues(tmp_path):
    """Schema 1 as first written has neither outcome nor message."""
    import h5py

    encode(tmp_path / "clip0.mp4", 20)
    encode(tmp_path / "clip1.mp4", 20)
    chosen = settings(tmp_path, ["clip0.mp4", "clip1.mp4"], modalities=("rgb",))
    pipeline.extract(chosen, print)
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        del file["d/outcome"], file["d/message"]
        file["d/status"][1] = features.TO_DO
    summary = pipeline.extract(chosen, print)
    assert summary.extracted_now == 1 and summary.done == 2 and summary.outcomes == {}


def test_info_shows_outcomes(five, tmp_path):
    pipeline.extract(five, print)
    program = [sys.executable, "-c", "from cia_extract.cli import main; main()", "info", str(tmp_path / "f.h5")]
    shown = subprocess.run(program, capture_output=True, text=True, check=True).stdout
    assert "no audio: 1" in shown and "decode error: 1" in shown


def test_damaged_clips_are_used_and_named_on_screen_and_by_info(tmp_path, capsys):
    """Damage that the decoder conceals: no failure, but a user who is not told trains on grey pictures."""
    for name in ("a.mp4", "b.mp4"):
        with_sound(tmp_path / name, 20, 0)
    with av.open(str(tmp_path / "b.mp4")) as container:
        at = next(packet.pos for packet in container.demux(video=0))
    whole = (tmp_path / "b.mp4").read_bytes()
    (tmp_path / "b.mp4").write_bytes(whole[: at + 1200] + bytes(64) + whole[at + 1264 :])
    one = settings(tmp_path, ["a.mp4", "b.mp4"], modalities=("rgb",))
    summary = pipeline.extract(one, print)
    assert summary.outcomes["rgb"] == {"ok": 1, "damaged": 1} and summary.done == 2 and not summary.failed
    message = "20 of 20 frames are damaged, or build on damaged ones; get the file again"
    assert summary.damaged == {"b.mp4": message} == failures.damaged(features.open_features(one.out)["d"])
    assert not failures.failures_path(one.out).exists()
    application._report(one, summary, as_json=False, left_out="")
    assert f"1 clip is damaged and was used all the same: b.mp4 ({message})" in capsys.readouterr().out
    commands.info(one.out)
    assert f"damaged:\n    b.mp4: {message}" in capsys.readouterr().out
    assert pipeline.extract(one, print).extracted_now == 0, "a retry does not touch it"
