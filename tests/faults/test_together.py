"""Several commands at once over the same files: nothing is done twice, lost or refused that could wait."""

import contextlib
import json
import os
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from cia_adapt.runs import files
from cia_extract import features
from cia_extract.features import RowWriter

from tests.adapt.cli.test_application import cia_adapt
from tests.conftest import CLASSES, make_dataset
from tests.faults.jobs import CLIPS, assert_same, extraction

SWEEP = ["--setup", "demo", "--method", "source-only,concat", "--source", "here", "--seeds", 2, "--epochs", 3, "--batch", 6]


def test_two_extractions_fill_one_file_and_do_no_row_twice(root, whole, launcher, tmp_path):
    """The same command twice at once: the file equals one process' file bit for bit."""
    both = [launcher.start(*extraction(root, tmp_path / "f.h5"), "--json") for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0], [one.told for one in both]
    assert sum(json.loads(one.said)["extracted_now"] for one in both) == CLIPS
    assert_same(tmp_path / "f.h5", whole[0])


def test_sweeps_on_two_machines_share_a_folder_train_each_run_once_and_end_with_all_results(small_file, launcher, tmp_path):
    words = ["cia-adapt", "sweep", "--features", small_file, *SWEEP, "--json"]
    alone = launcher.run(*words, "--runs", tmp_path / "alone")
    assert alone.wait() == 0, alone.told
    both = [launcher.start(*words, "--runs", tmp_path / "shared") for _ in range(2)]
    assert [one.wait() for one in both] == [0, 0], [one.told for one in both]
    results = [json.loads(one.said) for one in (alone, *both)]
    assert all(len(one["runs"]) == 4 and not one["failed"] for one in results)
    assert results[1]["runs"] == results[2]["runs"], "each run was trained by one of them and read by the other"
    for run in files.find([tmp_path / "alone"]):
        other = tmp_path / "shared" / run.relative_to(tmp_path / "alone")
        assert (run / "metrics.jsonl").read_bytes() == (other / "metrics.jsonl").read_bytes()
    assert not list((tmp_path / "shared").rglob(".*"))


def test_a_sweep_whose_worker_is_killed_does_the_other_runs_and_the_same_command_completes_it(small_file, launcher, tmp_path):
    """As the kernel does where the memory is short: the run that the process trained fails, and no other."""
    words = ["cia-adapt", "sweep", "--features", small_file, "--setup", "demo", "--method", "concat", "--source", "here"]
    words += ["--seeds", 3, "--epochs", 30, "--batch", 6, "--jobs", 2, "--runs", tmp_path, "--json"]
    started = launcher.start(*words)
    assert started.until(lambda: _holders(tmp_path)), started.told
    (run, process), *_ = _holders(tmp_path).items()
    os.kill(process, signal.SIGKILL)
    assert started.wait() == 1, started.told
    results, seed = json.loads(started.said), run.name.removesuffix(".unfinished")[-1]
    line = "its process was killed (signal 9), out of memory? Try fewer --jobs"
    assert [one["seed"] for one in results["runs"]] == [other for other in range(3) if str(other) != seed]
    assert results["failed"] == [{"what": f"concat here → there seed {seed}", "message": line, "exit_code": 1}]
    assert f"failed: concat here → there seed {seed}: {line}\n" in started.told
    assert "1 of 3 runs failed, see above; the same command tries them again" in started.told
    again = launcher.run(*words)
    assert again.wait() == 0, again.told
    assert len(json.loads(again.said)["runs"]) == 3
    assert not list(tmp_path.rglob(".*"))


@pytest.mark.slow
def test_a_run_that_kills_every_ray_worker_fails_and_no_other(small_file, launcher, tmp_path):
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    words = ["cia-adapt", "sweep", "--features", small_file, "--setup", "demo", "--method", "concat", "--source", "here"]
    words += ["--seeds", 2, "--epochs", 200, "--batch", 6, "--runs", tmp_path, "--json"]
    started, killed = launcher.start(*words, "--ray", "local"), set()
    while started.until(lambda: set(_holders(tmp_path, "seed0").values()) - killed):
        for process in set(_holders(tmp_path, "seed0").values()) - killed:
            os.kill(process, signal.SIGKILL)
            killed.add(process)
    assert started.wait() == 1 and len(killed) == 4, started.told
    results = json.loads(started.said)  # what Ray writes of dead workers is not among it
    assert [one["seed"] for one in results["runs"]] == [1]
    (failed,) = results["failed"]
    assert failed["what"] == "concat here → there seed 0"
    assert failed["message"].startswith("its Ray worker failed (The worker died unexpectedly"), failed
    again = launcher.run(*words)
    assert again.wait() == 0 and len(json.loads(again.said)["runs"]) == 2, again.told


def _holders(folder: Path, seed: str = "seed*") -> dict[Path, int]:
    """{unfinished run: the process that trains it, whose open file the run's lock is}."""
    holders = {}
    for lock in folder.glob(f"**/.{seed}.*/lock"):
        for opened in Path("/proc").glob("[0-9]*/fd/*"):
            with contextlib.suppress(OSError):  # it has ended meanwhile
                if opened.readlink() == lock:
                    holders[lock.parent] = int(opened.parts[2])
    return holders


def test_training_reads_the_rows_that_are_done_while_others_are_written(launcher, tmp_path):
    """A file whose second half is filled during training: the run is as with the first half alone, and names what lacked."""
    file = tmp_path / "f.h5"
    for seed, name in enumerate(("here", "there")):
        dataset = make_dataset(file, name, seed, frames=2)
        with RowWriter(dataset) as writer:
            for row in range(1, len(dataset), 2):
                writer.redo(row, "rgb")
    words = ["--features", file, "--setup", "demo", "--method", "concat", "--modality", "rgb", "--source", "here", "--batch", 4]
    alone = cia_adapt(*words, "--epochs", 6, "--runs", tmp_path / "alone")
    assert alone.returncode == 0, alone.stderr
    started = launcher.start("cia-adapt", *words, "--epochs", 6, "--runs", tmp_path / "beside")
    assert started.until(lambda: ": 1/6" in started.told)
    filling = threading.Thread(target=_fill, args=(file,))
    filling.start()
    assert started.wait() == 0, started.told
    filling.join()
    runs = [tmp_path / name / "demo/concat/here-there/seed0" for name in ("alone", "beside")]
    assert files.read_metrics(runs[0]) == files.read_metrics(runs[1])
    filled = features.open_features(file)
    assert all(d.done(["rgb"]).all() and not d.damaged_rows("rgb") for d in filled.values())
    again = cia_adapt(*words, "--epochs", 6, "--runs", tmp_path / "beside")
    assert again.returncode == 4 and "features" in again.stderr, "now there are more clips: another run"


def _fill(file: Path) -> None:
    for dataset in features.open_features(file).values():
        with RowWriter(dataset) as writer:
            for row in range(1, len(dataset), 2):
                writer.write_row(row, "rgb", np.full((2, 1024, 7, 7), row % len(CLASSES), np.float32))
                time.sleep(0.01)
