"""Two processes that torchrun starts train as one does with the same batch."""

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from cia_adapt.data import Draw
from cia_adapt.runs import files
from cia_adapt.training import together

from tests.adapt.clips_of import TINY


def test_shares_of_a_batch_are_equally_large_and_cover_it(monkeypatch):
    frames = np.arange(14).reshape(7, 2)
    draw = Draw(np.arange(10, 17), np.arange(3), ((frames, frames[:3]),))
    shares = []
    for number in range(2):
        monkeypatch.setattr(together, "size", lambda: 2)
        monkeypatch.setattr(together, "rank", lambda number=number: number)
        shares.append(together.share(draw))
    assert [share.source.tolist() for share in shares] == [[10, 12, 14, 16], [11, 13, 15, 10]]
    assert [share.target.tolist() for share in shares] == [[0, 2], [1, 0]]
    assert all((share.views[0][0] == frames[share.source - 10]).all() for share in shares)
    assert together.share(Draw(np.arange(4), np.empty(0, np.int64), ((frames[:4], frames[:0]),))).target.size == 0


def test_one_process_keeps_all(small_file):
    draw = Draw(np.arange(3), np.arange(2), ())
    assert together.share(draw) is draw and together.asked() == together.size() == 1 and together.rank() == 0


@pytest.mark.slow
@pytest.mark.parametrize("method", ["cia", "source-only"])
def test_two_processes_have_the_losses_of_one(tiny_clips, tmp_path, method):
    """Statistics frozen, no dropout; 4 + 4 clips a step, crops jittered and mirrored; to 1e-5."""
    flags = TINY | {"batch_norm": "frozen", "dropout": 0.0, "lr": 1e-5}
    settings = [text for name, value in flags.items() for text in (f"--{name.replace('_', '-')}", str(value))]
    program = str(Path(sys.executable).with_name("cia-adapt"))
    command = [program, "--clips", str(tiny_clips), "--frame-cache", str(tiny_clips.parent / "cache"), "--weights", "random"]
    command += [
        "--setup",
        "demo-i3d",
        "--method",
        method,
        "--source",
        "day",
        "--target",
        "night",
        "--flow",
        "dis",
        "--flip",
        *settings,
    ]
    histories = []
    for name, launcher in (
        ("one", []),
        ("two", [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]),
    ):
        done = subprocess.run([*launcher, *command, "--runs", str(tmp_path / name)], capture_output=True, text=True, timeout=1200)
        assert done.returncode == 0, done.stderr
        assert done.stdout.count("day → night") == 1  # one process prints the table
        histories.append(files.read_metrics(tmp_path / name / "demo-i3d" / method / "day-night/seed0"))
    for a, b in zip(*histories, strict=True):
        for key, value in a.items():
            if key.endswith("_loss") or key.startswith("validator"):
                assert b[key] == pytest.approx(value, abs=1e-5, rel=1e-5), key
        assert (a["source_val_accuracy"], a["target_val_accuracy"]) == (b["source_val_accuracy"], b["target_val_accuracy"])
