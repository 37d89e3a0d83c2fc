"""What TensorBoard shows of a run is what metrics.jsonl says, each epoch once."""

import json
import sys

import pytest
from cia_adapt.cli import main
from cia_adapt.experiments import runner
from cia_adapt.runs import board, unfinished_folder

from tests.command_line import in_this_process

pytest.importorskip("tensorboard")


def flags(small_file, tmp_path, *more):
    words = ["--features", small_file, "--runs", tmp_path / "runs", "--source", "here", "--target", "there", "--modality", "rgb"]
    return [*words, "--method", "dann", "--setup", "demo", "--batch", 6, "--device", "cpu", *more]


def shown(folder):
    """({metric: {epoch: value}}, texts) of the one event file in a folder."""
    from tensorboard.backend.event_processing.event_file_loader import EventFileLoader

    (path,) = folder.glob("events.out.tfevents.*")
    scalars, texts = {}, []
    for event in EventFileLoader(str(path)).Load():
        for value in event.summary.value:
            if value.tensor.string_val:
                texts.append(value.tensor.string_val[0].decode())
                continue
            points = scalars.setdefault(value.tag, {})
            assert event.step not in points, (value.tag, event.step)
            points[event.step] = value.tensor.float_val[0]
    return scalars, texts


def check(folder, epochs):
    history = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    scalars, texts = shown(folder)
    names = {name for metrics in history for name, value in metrics.items() if not isinstance(value, str)}
    assert scalars.keys() == names - {"epoch"} and len(names) > 8
    for metrics in history:
        for name in scalars.keys() & metrics.keys():
            assert scalars[name][metrics["epoch"]] == pytest.approx(metrics[name], rel=1e-6, abs=1e-12), name
    assert sorted(scalars["class_loss"]) == list(range(1, epochs + 1))
    assert texts == [metrics["advice"] for metrics in history if metrics["advice"]]


def folder_of(tmp_path):
    return tmp_path / "runs/demo/dann/here-there/seed0"


def test_the_event_file_has_the_metrics_and_a_run_with_more_epochs_each_once(small_file, tmp_path):
    assert in_this_process(main, *flags(small_file, tmp_path, "--epochs", 2, "--tensorboard")).returncode == 0
    check(folder_of(tmp_path), 2)
    assert in_this_process(main, *flags(small_file, tmp_path, "--epochs", 4, "--tensorboard", "--resume")).returncode == 0
    check(folder_of(tmp_path), 4)
    assert [path.name for path in folder_of(tmp_path).parent.iterdir()] == ["seed0"]


def test_a_run_that_is_interrupted_after_its_last_state_has_each_epoch_once(small_file, tmp_path, monkeypatch):
    """The events of epoch 3 are on the disk, the state is that of epoch 2: as after a power cut."""
    with monkeypatch.context() as cut:
        save, line = runner.Saver.after_epoch, runner._line

        def save_two(saver, outcome):
            if len(outcome.history) < 3:
                save(saver, outcome)

        cut.setattr(runner.Saver, "after_epoch", save_two)

        def interrupt_at_four(metrics):
            if metrics["epoch"] == 4:
                raise KeyboardInterrupt
            return line(metrics)

        cut.setattr(runner, "_line", interrupt_at_four)
        interrupted = in_this_process(main, *flags(small_file, tmp_path, "--epochs", 5, "--tensorboard"))
    assert interrupted.returncode == 130 and "kept up to epoch 2" in interrupted.stderr
    scalars, _ = shown(folder_of(tmp_path).with_name(".seed0.unfinished"))
    assert sorted(scalars["class_loss"]) == [1, 2, 3]
    assert in_this_process(main, *flags(small_file, tmp_path, "--epochs", 5, "--tensorboard", "--resume")).returncode == 0
    check(folder_of(tmp_path), 5)


def test_without_the_flag_a_run_is_what_it_was(small_file, tmp_path):
    for name, flag in (("with", ["--tensorboard"]), ("without", [])):
        assert in_this_process(main, *flags(small_file, tmp_path / name, "--epochs", 2, *flag)).returncode == 0
    one, other = (folder_of(tmp_path / name) for name in ("with", "without"))
    files = {path.name for path in other.iterdir()}
    assert {path.name for path in one.iterdir() if "tfevents" not in path.name} == files
    assert not any("tfevents" in name for name in files)
    for name in ("metrics.jsonl", "config.json", "selected.safetensors", "predictions.csv"):
        assert (one / name).read_bytes() == (other / name).read_bytes()


def test_an_accuracy_that_is_not_known_is_left_out(tmp_path):
    unfinished_folder(tmp_path / "seed0").mkdir()
    told = board.Board(tmp_path / "seed0", [{"epoch": 1, "loss": 2.0, "target_val_accuracy": None, "advice": ""}])
    told.add({"epoch": 2, "loss": 1.0, "target_val_accuracy": None, "advice": "lower λ"})
    assert shown(unfinished_folder(tmp_path / "seed0")) == ({"loss": {1: 2.0, 2: 1.0}}, ["lower λ"])


def test_a_sweep_writes_one_for_each_run(small_file, tmp_path):
    words = flags(small_file, tmp_path, "--epochs", 1, "--tensorboard", "--seeds", 2)
    assert in_this_process(main, "sweep", *words).returncode == 0
    for seed in range(2):
        check(folder_of(tmp_path).with_name(f"seed{seed}"), 1)


def test_without_tensorboard_one_line_says_what_to_install_and_nothing_is_trained(small_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    done = in_this_process(main, *flags(small_file, tmp_path, "--tensorboard"))
    assert done.returncode == 2 and not (tmp_path / "runs").exists()
    assert done.stderr.strip() == ("cia-adapt: --tensorboard: TensorBoard is not installed; pip install 'cia-video[tensorboard]'")
