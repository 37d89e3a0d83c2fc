"""Other people's features: one vector a clip, four domains, no splits; and the protocol of small benchmarks, which adapts to the
test clips.
"""

import json
import shutil
import warnings
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from cia_adapt import config, runs
from cia_adapt.cli import main
from cia_adapt.config import splits
from cia_adapt.data import domains, readers
from cia_adapt.experiments import Request, directions
from cia_adapt.results import table
from cia_adapt.training import trainer as training_trainer
from cia_adapt.training import validators
from cia_extract.common.errors import DataError, UsageError

from tests.adapt.runs_of import CPU
from tests.command_line import in_this_process
from tests.conftest import make_small

CLIPS = {"amazon": 40, "caltech": 50, "dslr": 20, "webcam": 30}
ALL = ["--train-split", "all", "--val-split", "all"]
MAPS = [word for d in CLIPS for name in ("rgb/pooled", "label") for word in ("--map", f"{d}/{name}={d}/{name.split('/')[-1]}")]


@pytest.fixture(scope="module")
def vectors(tmp_path_factory) -> Path:
    """Four domains of vectors [N, 16], ten classes, no clip ids, no splits: Office-Caltech's kind. Read only."""
    path = tmp_path_factory.mktemp("vectors") / "office.h5"
    random = np.random.default_rng(0)
    centres = 3 * random.normal(size=(10, 16))
    with h5py.File(path, "w") as file:
        for shift, (name, count) in enumerate(CLIPS.items()):
            labels = np.arange(count) % 10
            file[f"{name}/pooled"] = (centres[labels] + random.normal(size=(count, 16)) + 0.3 * shift).astype(np.float32)
            file[f"{name}/label"] = np.array([f"class{k}" for k in labels], dtype="S")
    return path


def cia_adapt(vectors: Path, *words: object, cwd: Path):
    return in_this_process(main, "--features", vectors, *MAPS, "--method", "dann", "--epochs", 1, *words, cwd=cwd)


# --- splits -----------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("known", "given", "result"),
    [
        ("val", "test", "test"),
        ("val", "all", "all"),
        ("test", "target=all", "source=test,target=all"),
        ("val", " target = all , source = all ", "all"),
        ("source=val,target=all", "source=test", "source=test,target=all"),
        ("source=val,target=all", "target=val", "val"),
    ],
)
def test_a_split_said_for_one_domain_leaves_the_others(known, given, result):
    assert splits.merged("--val-split", known, given) == result
    assert splits.merged("--val-split", result, result) == result


@pytest.mark.parametrize("value", ["", ",", "source=", "=all", "target=all,target=val", "train,val", "sorce=all", "all,"])
def test_a_split_that_says_nothing_clear_is_refused(value):
    with pytest.raises(UsageError, match="--train-split"):
        splits.merged("--train-split", "train", value)


def test_a_set_up_keeps_its_own_split_for_the_source():
    assert config.load("e55", "cia", {"val_split": "target=all"}).setup.val_split == "source=test,target=all"
    assert config.load("uh", "cia", {}).setup.train_split == "train"


def test_all_is_every_clip_and_a_split_of_that_name_is_not_confused_with_it(small_file):
    domain = domains.find_domains(small_file)["here"]
    assert len(domain.split("all")) == 18 and len(domain.split("train")) == 12
    domain.dataset.columns["split"][:2] = "all"
    with pytest.raises(DataError, match="has a split called 'all'"):
        domain.split("all")


def test_the_small_benchmarks_protocol_adapts_to_and_tests_on_every_target_clip(small_file, tmp_path):
    words = ["--features", small_file, "--method", "dann", "--modality", "rgb", "--setup", "demo", "--epochs", 1]
    words += ["--train-split", "target=all", "--val-split", "target=all"]
    run = in_this_process(main, *words, "--json", cwd=tmp_path)
    assert run.returncode == 0
    assert (
        "note: transductive: training adapts to all 18 test clips of 'there', without their labels; results say so\n"
        in run.stderr
    )
    first = json.loads(run.stdout)["runs"][0]
    assert first["target_val_clips"] == first["target_val_clips_adapted_to"] == 18
    folder = tmp_path / "runs/demo/dann/here-there/seed0"
    assert len((folder / "predictions.csv").read_text().splitlines()) == 19
    setup = json.loads((folder / "config.json").read_text())["setup"]
    assert (setup["train_split"], setup["val_split"]) == ("source=train,target=all", "source=val,target=all")
    assert in_this_process(main, "report", "--clips", 0, cwd=tmp_path).returncode == 0
    assert "transductive: dann adapted to" in (tmp_path / "report.html").read_text()
    again = in_this_process(main, *words, cwd=tmp_path)
    assert again.stderr.count("finished before") == 2 and "transductive: dann adapted to" in " ".join(again.stdout.split())


def test_runs_with_other_splits_are_kept_apart(small_file, tmp_path):
    """In one place the second is refused; from two places they do not get into one table or report."""
    words = ["--features", small_file, "--method", "dann", "--modality", "rgb", "--setup", "demo", "--epochs", 1]
    everything = ["--val-split", "target=all"]
    assert in_this_process(main, *words, cwd=tmp_path).returncode == 0
    refused = in_this_process(main, *words, *everything, cwd=tmp_path)
    assert refused.returncode == 4 and "setup.val_split: val → source=val,target=all" in refused.stderr
    allowed = in_this_process(main, *words, *everything, "--runs", "other", cwd=tmp_path)
    assert allowed.returncode == 0 and "transductive: training adapts to 12 of the 18 test clips of 'there'" in allowed.stderr
    for command in ("table", "report"):
        mixed = in_this_process(main, command, "runs", "other", cwd=tmp_path)
        assert mixed.returncode == 4 and "val_split" in mixed.stderr
    of_table = in_this_process(main, "table", "other", "--format", "markdown", cwd=tmp_path)
    assert "* dann: setup.val\\_split: val → source=val,target=all" in of_table.stdout


def test_methods_that_do_not_adapt_are_not_called_transductive(small_file, tmp_path):
    words = ["--features", small_file, "--method", "source-only", "--modality", "rgb", "--setup", "demo", "--epochs", 1, *ALL]
    run = in_this_process(main, *words, "--source", "here", "--json", cwd=tmp_path)
    assert run.returncode == 0 and "transductive" not in run.stderr
    assert json.loads(run.stdout)["runs"][0]["target_val_clips_adapted_to"] == 0
    assert "training uses all 18 val clips of 'here' too, so accuracy on them chooses the epoch badly" in run.stderr
    assert table.transductive([{"method": "source-only", "target_val_clips_adapted_to": 0}, {"method": "old"}]) == []


def test_a_bound_never_trains_on_the_labels_that_it_is_tested_on(small_file, tmp_path):
    words = ["--features", small_file, "--method", "target-only", "--modality", "rgb", "--setup", "demo"]
    run = in_this_process(main, *words, "--train-split", "target=all", cwd=tmp_path)
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1 and not (tmp_path / "runs").exists()
    assert "would train on the labels of 6 of the 6 clips of 'there' that it is tested on" in run.stderr


def test_a_run_of_the_version_before_is_the_run_of_the_default_splits(small_file, tmp_path):
    words = [
        "--features",
        small_file,
        "--method",
        "dann",
        "--modality",
        "rgb",
        "--setup",
        "demo",
        "--epochs",
        1,
        "--source",
        "here",
    ]
    assert in_this_process(main, *words, cwd=tmp_path).returncode == 0
    file = tmp_path / "runs/demo/dann/here-there/seed0/config.json"
    before = json.loads(file.read_text())
    del before["setup"]["train_split"]
    file.write_text(json.dumps(before))
    result = json.loads((file.parent / "result.json").read_text())
    del result["target_val_clips_adapted_to"]
    (file.parent / "result.json").write_text(json.dumps(result))
    (file.parent / "done").write_text("")  # as versions before wrote it
    assert "finished before" in in_this_process(main, *words, cwd=tmp_path).stderr
    assert in_this_process(main, *words, "--epochs", 2, "--resume", cwd=tmp_path).returncode == 0
    other = in_this_process(main, *words, "--epochs", 2, "--train-split", "target=all", cwd=tmp_path)
    assert other.returncode == 4 and "setup.train_split: train → source=train,target=all" in other.stderr
    assert runs.compare(before, before | {"setup": before["setup"] | {"train_split": "train"}}) == []


@pytest.mark.parametrize("command", ["check", "bench", "sweep", "dry run"])
def test_every_command_takes_the_splits(vectors, tmp_path, command):
    words = {
        "check": ["check", vectors],
        "bench": ["bench", vectors, "--method", "dann", "--batch", 6, "--steps", 1],
        "sweep": ["sweep", "--features", vectors, "--method", "dann", "--seeds", 1, "--epochs", 1, "--source", "dslr"],
        "dry run": ["--features", vectors, "--method", "dann", "--dry-run", "--source", "dslr"],
    }[command]
    without = in_this_process(main, *words, *MAPS, cwd=tmp_path)
    assert without.returncode == 3 and "--train-split" in without.stdout + without.stderr
    assert in_this_process(main, *words, *MAPS, *ALL, cwd=tmp_path).returncode == 0


def test_a_missing_val_split_is_named_with_what_to_do(small_file, tmp_path):
    rows = [f"{d}{i},p,{['jump', 'run', 'wave'][i // 6]},train" for d in ("here", "there") for i in range(18)]
    (tmp_path / "m.csv").write_text("clip,path,label,split\n" + "\n".join(rows) + "\n")
    words = ["--features", small_file, "--method", "dann", "--modality", "rgb", "--manifest", "m.csv"]
    run = in_this_process(main, *words, cwd=tmp_path)
    assert run.returncode == 3 and len(run.stderr.splitlines()) == 1
    assert "no finished clip in split 'val' (it has train); give --val-split one of these, or all for every clip" in run.stderr
    typo = in_this_process(main, *words, "--train-split", "trian", "--val-split", "train", cwd=tmp_path)
    assert typo.returncode == 3 and "did you mean train?" in typo.stderr


def test_a_file_whose_splits_are_empty_is_used_with_all(vectors, tmp_path):
    path = tmp_path / "empty.h5"
    shutil.copyfile(vectors, path)
    with h5py.File(path, "r+") as file:
        for name, count in CLIPS.items():
            file[f"{name}/split"] = np.full(count, b"")
    words = [path, *MAPS, *(word for d in CLIPS for word in ("--map", f"{d}/split={d}/split"))]
    without = in_this_process(main, "check", *words)
    assert without.returncode == 3 and "splits are none; adaptation needs train and val" in without.stdout
    assert in_this_process(main, "check", *words, *ALL).returncode == 0
    run = in_this_process(main, "--features", *words, *ALL, "--method", "dann", "--dry-run", "--source", "dslr", cwd=tmp_path)
    assert run.returncode == 0


# --- one vector a clip ------------------------------------------------------------------------------------------------------


def test_four_domains_run_in_all_twelve_directions_and_say_how_many(vectors, tmp_path):
    run = cia_adapt(vectors, *ALL, "--json", cwd=tmp_path)
    assert run.returncode == 0
    results = json.loads(run.stdout)["runs"]
    assert {(r["source"], r["target"]) for r in results} == {(s, t) for s in CLIPS for t in CLIPS if s != t}
    assert run.stderr.index("12 runs: 12 directions × 1 seed\n") < run.stderr.index("seed 0: 1/1")
    one = cia_adapt(vectors, *ALL, "--source", "amazon", "--target", "dslr", "--json", cwd=tmp_path)
    assert len(json.loads(one.stdout)["runs"]) == 1


def test_one_vector_is_read_once_with_a_word_and_without_a_flag(vectors, tmp_path):
    run = cia_adapt(vectors, *ALL, "--source", "amazon", "--target", "dslr", cwd=tmp_path)
    assert "note: the file has 1 frame a clip, and set-up 'uh' takes 5; each frame is read once\n" in run.stderr
    setup = json.loads((tmp_path / "runs/uh/dann/amazon-dslr/seed0/config.json").read_text())["setup"]
    assert setup["segments"] == 1
    chosen = config.load("uh", "dann", {"train_split": "all", "val_split": "all"})
    request = Request(features=vectors, chosen=chosen, sources=("amazon",), target="dslr", mapping=tuple(MAPS[1::2]))
    (pair,) = directions.prepared(request, lambda note: None)
    task, _ = directions.task_of(pair, readers.Stores(CPU))
    trainer = training_trainer.Trainer(task, pair.setup, pair.method, 0, CPU)
    (batch,) = trainer.read(trainer.draws()[0])
    assert batch["rgb"].shape == (40 + 20, 1, 16)


@pytest.mark.parametrize(("frames", "segments"), [(3, 3), (5, 5), (25, 5)])
def test_no_frame_is_read_twice_where_a_clip_has_fewer_than_the_set_up_takes(tmp_path, frames, segments):
    file = make_small(tmp_path / "f.h5", channels=8, frames=frames)
    request = Request(features=file, chosen=config.load("uh", "dann", {}), sources=("here",), target="there", modalities=("rgb",))
    (pair,) = directions.prepared(request, lambda note: None)
    assert pair.setup.segments == segments


def test_a_temporal_method_on_one_vector_says_what_the_file_has(vectors, tmp_path):
    run = cia_adapt(vectors, *ALL, "--temporal", "trn", cwd=tmp_path)
    assert run.returncode == 2 and len(run.stderr.splitlines()) == 1
    assert "needs --segments 2 or more, and the file has 1 frame a clip; take another --temporal" in run.stderr


def test_very_few_steps_an_epoch_are_said_with_the_numbers_and_what_to_lower(vectors, tmp_path):
    pair = ["--source", "amazon", "--target", "dslr"]
    run = cia_adapt(vectors, *ALL, *pair, "--epochs", 30, "--dry-run", cwd=tmp_path)
    assert (
        "note: few steps: 40 training clips of 'amazon' with --batch 128 give 1 step an epoch, 30 in 30 epochs; lower --batch "
        "(4 gives 10 steps an epoch) or raise --epochs, or take --setup demo, made for a few hundred clips\n"
    ) in run.stderr
    assert "few steps" not in cia_adapt(vectors, *ALL, *pair, "--batch", 8, "--dry-run", cwd=tmp_path).stderr


def test_the_rule_dev_works_on_one_source_val_clip():
    """Without a covariance: numpy warned, and its NaN was not looked at."""
    random = torch.Generator().manual_seed(0)
    source, target = (torch.randn(6, 3, generator=random) for _ in range(2))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        risk = validators.deep_embedded_validation(source, target, source[:1], torch.tensor([2.0]))
    assert -100 < risk < 0
