"""A run that is killed and goes on is the same run, bit for bit."""

import errno
import fcntl
import json
import os
import re
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from cia_adapt import config
from cia_adapt.experiments import Request, directions, runner
from cia_adapt.footage import filling
from cia_adapt.runs import folder as runs_folder
from cia_adapt.runs import key as runs_key
from cia_adapt.runs import lock, resume, state
from cia_adapt.runs import resume as runs_resume
from cia_adapt.training.loop import train
from cia_extract.common.errors import DataError, DivergedError, MismatchError, UsageError

from tests.adapt.runs_of import SOURCE_FREE, chosen, equal, trainer_of

HERE = {"device": "cpu", "compile": False, "validators": True}
STATEFUL = ["cia", "ta3n", "trn", "stcda-fl", "kim-fl", "gblend-fl", "mmsada-fl", "att", "shot-fl", "cleanadapt-fl-ts"]


@pytest.mark.parametrize(("method", "average"), [*((method, 0.0) for method in STATEFUL), ("cia", 0.9)])
def test_resuming_after_any_epoch_gives_the_same_run(small_file, method, average, tmp_path):
    """Through the file: model, objectives' own memories, optimiser, random states, samplers, history, both snapshots."""
    options = {"epochs": 4} | ({"average": average} if average else {})
    trainer, evaluator = trainer_of(small_file, method, **options)
    path = tmp_path / "state.safetensors"
    kept = {}

    def keep(outcome):
        packed = resume.pack(trainer, outcome, evaluator.target_labels, {})
        kept[packed.epoch] = packed

    straight = train(trainer, evaluator, lambda metrics: None, after_epoch=keep)
    for epoch in (1, 2, 3) if method in SOURCE_FREE else (1, 3):  # the second is the last with the source
        state.save(path, kept[epoch].tensors, kept[epoch].rest)
        torch.randn(7)  # another place in torch's random stream
        again, evaluator = trainer_of(small_file, method, **options)
        outcome = resume.unpack(resume.Packed(*state.load(path)), again, evaluator.target_labels)
        assert len(outcome.history) == epoch
        resumed = train(again, evaluator, lambda metrics: None, outcome)
        assert json.dumps(resumed.history) == json.dumps(straight.history)
        assert equal(resumed.last.state, straight.last.state) and equal(resumed.selected.state, straight.selected.state)
        assert torch.equal(resumed.selected.target.features, straight.selected.target.features)
        assert equal(dict(again.objectives.state_dict()), dict(trainer.objectives.state_dict()))


def request(file: Path, folder: Path, method: str = "concat", **changes) -> Request:
    options = {"resume": False, "overwrite": False} | {
        k: changes.pop(k) for k in ("resume", "overwrite", "keep_state") if k in changes
    }
    return Request(features=file, chosen=chosen(method, **changes), sources=("here",), target="there", runs=folder, **options)


def folder_of(root: Path, method: str = "concat") -> Path:
    return root / f"demo/{method}/here-there/seed0"


def fail_at(monkeypatch, epoch: int, error: BaseException):
    """Break off training in the middle of an epoch."""
    from cia_adapt.training.trainer import Trainer

    real, calls = Trainer.epoch, []

    def broken(self):
        calls.append(1)
        if len(calls) == epoch:
            raise error
        return real(self)

    monkeypatch.setattr(Trainer, "epoch", broken)
    return lambda: monkeypatch.setattr(Trainer, "epoch", real)


def test_an_interrupted_run_continues_with_resume_only(small_file, tmp_path, monkeypatch):
    straight = runner.run(request(small_file, tmp_path / "a", epochs=5), print)
    mend = fail_at(monkeypatch, 4, KeyboardInterrupt())
    said: list[str] = []
    with pytest.raises(KeyboardInterrupt):
        runner.run(request(small_file, tmp_path / "b", epochs=5), said.append)
    assert "interrupted, kept up to epoch 3; the same command with --resume goes on" in said[-1]
    mend()
    with pytest.raises(MismatchError, match=r"was interrupted; --resume goes on with it, --overwrite starts again"):
        runner.run(request(small_file, tmp_path / "b", epochs=5), print)
    for go_on in (True, False):
        with pytest.raises(MismatchError, match=r"setup.lr: 0.003 → 0.001.*--overwrite"):
            runner.run(request(small_file, tmp_path / "b", epochs=5, lr=1e-3, resume=go_on), print)
    said.clear()
    with pytest.raises(MismatchError, match=r"seed0: would not continue as it began \(validators: True → False\)"):
        runner.run(replace(request(small_file, tmp_path / "b", epochs=5, resume=True), validators=False), said.append)
    assert not any("goes on" in line or line.startswith("reading") for line in said)
    resumed = runner.run(request(small_file, tmp_path / "b", epochs=5, resume=True), said.append)
    assert any("goes on after epoch 3" in line for line in said)
    a, b = folder_of(tmp_path / "a"), folder_of(tmp_path / "b")
    for name in ("metrics.jsonl", "predictions.csv", "last.safetensors", "selected.safetensors", "scores.safetensors"):
        assert (a / name).read_bytes() == (b / name).read_bytes(), name
    stamps = [json.loads((folder / "stamp.json").read_text()) for folder in (a, b)]
    assert stamps[0]["target_labels_opened"] == stamps[1]["target_labels_opened"]
    assert straight[0]["selected"] == resumed[0]["selected"]
    assert not list((tmp_path / "b").rglob(".seed*"))


def test_a_finished_run_continues_with_more_epochs(small_file, tmp_path):
    runner.run(request(small_file, tmp_path, epochs=2), print)
    before = (folder_of(tmp_path) / "metrics.jsonl").read_text()
    with pytest.raises(MismatchError, match=r"setup.epochs: 2 → 4.*--overwrite"):
        runner.run(request(small_file, tmp_path, epochs=4), print)
    runner.run(request(small_file, tmp_path, epochs=4, resume=True), print)
    after = (folder_of(tmp_path) / "metrics.jsonl").read_text()
    assert after.startswith(before) and len(after.splitlines()) == 4
    with pytest.raises(MismatchError, match=r"setup.epochs: 4 → 3"):
        runner.run(request(small_file, tmp_path, epochs=3, resume=True), print)


def test_a_run_without_its_state_cannot_get_more_epochs(small_file, tmp_path):
    runner.run(request(small_file, tmp_path, keep_state=False), print)
    assert not (folder_of(tmp_path) / "state.safetensors").exists()
    with pytest.raises(MismatchError, match="was finished without keeping its state"):
        runner.run(request(small_file, tmp_path, epochs=4, resume=True), print)


def test_divergence_keeps_the_last_good_state(small_file, tmp_path, monkeypatch):
    fail_at(monkeypatch, 3, DivergedError("the loss is nan"))
    with pytest.raises(DivergedError, match=r"the loss is nan; the last good state, after epoch 2, is in .*unfinished") as error:
        runner.run(request(small_file, tmp_path, epochs=5), print)
    assert error.value.exit_code == 6
    packed = runs_resume.load_state(folder_of(tmp_path), _key(small_file, epochs=5), HERE)
    assert packed.epoch == 2 and all(torch.isfinite(t).all() for t in packed.tensors.values() if t.is_floating_point())


def _key(file: Path, **changes) -> runs_key.RunKey:
    asked = request(file, Path(), **changes)
    (pair,) = directions.prepared(asked, print)
    from cia_adapt.data.domains import digest

    return runs_key.RunKey(asked.chosen.setup, pair.method, "here", "there", pair.modalities, 0, digest(pair.source, pair.target))


def test_a_damaged_state_is_one_line(small_file, tmp_path, monkeypatch):
    mend = fail_at(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        runner.run(request(small_file, tmp_path, epochs=4), print)
    mend()
    path = runs_folder.unfinished_folder(folder_of(tmp_path)) / "state.safetensors"
    path.write_bytes(path.read_bytes()[:500])
    with pytest.raises(DataError, match="not a state that can be resumed"):
        runner.run(request(small_file, tmp_path, epochs=4, resume=True), print)
    path.unlink()
    os.mkfifo(path)  # somebody else's folder; a reader would wait
    with pytest.raises(DataError, match="it is no file"):
        runner.run(request(small_file, tmp_path, epochs=4, resume=True), print)
    assert runner.run(request(small_file, tmp_path, epochs=4, overwrite=True), print)


def test_a_configuration_that_is_no_file_or_nested_without_end_is_one_line(small_file, tmp_path, monkeypatch):
    runner.run(request(small_file, tmp_path, epochs=2), print)  # beside a finished run both configurations are compared
    mend = fail_at(monkeypatch, 2, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        runner.run(request(small_file, tmp_path, epochs=4, resume=True), print)
    mend()
    path = runs_folder.unfinished_folder(folder_of(tmp_path)) / "config.json"
    path.write_text("[" * 60_000)
    with pytest.raises(DataError, match=r"unfinished/config\.json: is damaged \(not JSON"):
        runner.run(request(small_file, tmp_path, epochs=4, resume=True), print)
    path.unlink()
    os.mkfifo(path)
    with pytest.raises(DataError, match=r"unfinished/config\.json: is no file; train the run again with --overwrite"):
        runner.run(request(small_file, tmp_path, epochs=4, resume=True), print)


@pytest.mark.parametrize("what", ["link", "file", "broken link"])
def test_a_run_whose_folder_is_a_link_or_a_file_is_refused_before_training(small_file, tmp_path, monkeypatch, what):
    fail_at(monkeypatch, 1, AssertionError("trained"))
    folder, mine = folder_of(tmp_path / "runs"), tmp_path / "mine"
    folder.parent.mkdir(parents=True)
    if what == "link":
        mine.mkdir()
    if what == "file":
        folder.touch()
    else:
        folder.symlink_to(mine)
    with pytest.raises(UsageError, match=r"/seed0: is (a link|no folder); remove it, or give another --runs folder$"):
        runner.run(request(small_file, tmp_path / "runs"), print)
    assert [path.name for path in folder.parent.iterdir()] == ["seed0"]


@pytest.mark.parametrize("name", [".seed0.old", ".seed0.part1"])
def test_a_link_in_the_place_of_a_run_that_is_put_in_place_is_removed_and_what_it_leads_to_kept(small_file, tmp_path, name):
    runner.run(request(small_file, tmp_path / "runs"), print)
    folder, mine = folder_of(tmp_path / "runs"), tmp_path / "mine"
    folder.rename(mine)
    (folder.parent / name).symlink_to(mine)
    runner.run(request(small_file, tmp_path / "runs"), print)
    assert folder.is_dir() and not folder.is_symlink() and (mine / "done").exists()
    assert [path.name for path in folder.parent.iterdir()] == ["seed0"]


def test_a_finished_run_behind_a_link_is_read(small_file, tmp_path):
    results = runner.run(request(small_file, tmp_path / "runs"), print)
    folder_of(tmp_path / "runs").rename(tmp_path / "archived")
    folder_of(tmp_path / "runs").symlink_to(tmp_path / "archived")
    assert runner.run(request(small_file, tmp_path / "runs"), print) == results


def test_two_processes_do_not_train_the_same_run(small_file, tmp_path):
    folder = folder_of(tmp_path)
    with lock.claimed(folder), pytest.raises(MismatchError, match="another process is training it"):
        runner.run(request(small_file, tmp_path), print)
    assert runner.run(request(small_file, tmp_path), print)


def test_texts_and_published_numbers_do_not_decide_whether_runs_are_the_same(small_file):
    key = _key(small_file)
    other = key.fields()
    other["method"]["paper"], other["method"]["published"] = "another", {"x": 1.0}
    assert runs_key.compare(key.fields(), other) == []
    other["method"]["options"]["adversarial"]["video"] = 0.5
    assert list(map(str, runs_key.compare(key.fields(), other))) == ["method.options.adversarial.video: 0.1 → 0.5"]
    assert config.load("demo", "concat", {}).for_pair("a", "b").options["adversarial"]["video"] == 0.1


def test_a_lock_whose_file_another_process_removed_is_taken_anew(tmp_path, monkeypatch):
    real, calls = fcntl.flock, []

    def flock(file, how):
        if not calls:  # the other process ends between our opening and our locking
            Path(file.name).unlink()
        calls.append(how)
        real(file, how)

    monkeypatch.setattr(fcntl, "flock", flock)
    with lock.claimed(tmp_path / "seed0"):
        assert len(calls) == 2 and (runs_folder.unfinished_folder(tmp_path / "seed0") / "lock").exists()
        with pytest.raises(MismatchError, match="another process is training it"), lock.claimed(tmp_path / "seed0"):
            pass


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.ENOSYS, errno.ENOTSUP])
def test_a_file_system_without_locks_is_said(tmp_path, monkeypatch, number):
    """As Lustre mounted without flock. Two processes could not be told apart there."""

    def flock(*_):
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", flock)
    why = re.escape(f"its file system has no file locks ({os.strerror(number)}); mount it with flock, or choose another")
    with pytest.raises(UsageError, match=f"seed0: {why} --runs folder$"), lock.claimed(tmp_path / "seed0"):
        pass
    with pytest.raises(UsageError, match=f"frames: {why} --frame-cache$"):
        filling.fill(tmp_path / "frames", None, None, tmp_path, 1, print)


def test_a_runs_folder_that_cannot_be_created_is_a_usage_error():
    with pytest.raises(UsageError, match="choose another --runs folder"), lock.claimed(Path("/proc/none/seed0")):
        pass
