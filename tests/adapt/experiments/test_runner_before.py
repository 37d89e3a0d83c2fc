"""Runs that versions before wrote are read and go on."""

from dataclasses import replace

from cia_adapt.cli import main
from cia_adapt.experiments import directions

from tests.command_line import in_this_process
from tests.conftest import make_small


def test_runs_that_read_few_frames_repeatedly_are_reused_and_go_on(tmp_path, monkeypatch):
    features = make_small(tmp_path / "vectors.h5", channels=16, frames=2)
    flags = ["--features", features, "--runs", tmp_path / "runs", "--source", "here", "--target", "there", "--modality", "rgb"]
    flags += ["--method", "source-only", "--batch", 6, "--device", "cpu", "--map", "{domain}/rgb/pooled={domain}/rgb/pooled"]
    flags += [word for c in ("clip", "label", "split") for word in ("--map", f"{{domain}}/{c}={{domain}}/clips/{c}")]
    pair_of = directions._direction

    def as_before(request, source, target):  # the version before took 5 segments whatever the file had
        pair = pair_of(request, source, target)
        return replace(pair, setup=replace(pair.setup, segments=request.chosen.setup.segments))

    with monkeypatch.context() as before:
        before.setattr(directions, "_direction", as_before)
        assert in_this_process(main, *flags, "--epochs", 1).returncode == 0
    again = in_this_process(main, *flags, "--epochs", 1)
    assert again.returncode == 0 and "finished before, read" in again.stdout + again.stderr, again.stderr
    longer = in_this_process(main, *flags, "--epochs", 2, "--resume")
    assert longer.returncode == 0 and "goes on after epoch 1" in longer.stdout + longer.stderr, longer.stderr
