"""Several commands at once over the same files: nothing is done twice, lost or refused that could wait."""

import json
import threading
import time
from pathlib import Path

import numpy as np
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
