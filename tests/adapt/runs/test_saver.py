"""What is kept of a run that fails, whatever failed."""

import re

import pytest
from cia_adapt.experiments import runner
from cia_extract.common.errors import DataError, DivergedError, UsageError

from tests.adapt.runs.test_resume import fail_at, folder_of, request


@pytest.mark.parametrize("kind", [DataError, OSError, MemoryError, RuntimeError])
def test_any_failure_keeps_the_last_epoch_and_stays_what_it_was(small_file, tmp_path, monkeypatch, kind):
    mend = fail_at(monkeypatch, 3, kind("feats.h5: row 4: does not match its CRC32C"))
    said: list[str] = []
    with pytest.raises((kind, UsageError), match=r"does not match its CRC32C|not enough memory"):
        runner.run(request(small_file, tmp_path, epochs=4), said.append)
    assert said[-1] == f"{folder_of(tmp_path)}: failed, kept up to epoch 2; the same command with --resume goes on"
    mend()
    runner.run(request(small_file, tmp_path, epochs=4, resume=True), said.append)
    assert any("goes on after epoch 2" in line for line in said)


@pytest.mark.parametrize("first", [DataError("a row is damaged"), KeyboardInterrupt("stopped"), DivergedError("the loss is nan")])
def test_a_state_that_cannot_be_kept_does_not_hide_what_came_before(small_file, tmp_path, monkeypatch, first):
    def full(*_, **__):
        raise MemoryError

    fail_at(monkeypatch, 3, first)
    monkeypatch.setattr("cia_adapt.runs.state.save_file", full)
    said: list[str] = []
    with pytest.raises(type(first), match=str(first)) as error:
        runner.run(request(small_file, tmp_path, epochs=4), said.append)
    told = str(error.value) if isinstance(first, DivergedError) else said[-1]
    assert re.search(r"(the last state that was saved is lost|the last good state is not saved): MemoryError$", told)


def test_a_run_that_cannot_be_written_keeps_all_its_epochs(small_file, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("cia_adapt.runs.checksums.write", full)
    said: list[str] = []
    with pytest.raises(UsageError, match="No space left on device; make room"):
        runner.run(request(small_file, tmp_path, epochs=3), said.append)
    assert said[-1].endswith("failed, kept up to epoch 3; the same command with --resume goes on")
    monkeypatch.undo()
    straight = runner.run(request(small_file, tmp_path / "straight", epochs=3), print)
    assert runner.run(request(small_file, tmp_path, epochs=3, resume=True), print)[0]["selected"] == straight[0]["selected"]
