"""Two processes that torchrun starts train as one does with the same batch."""

import os
import socket
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
import torch.multiprocessing
from cia_adapt.data import Draw, Stores
from cia_adapt.experiments import clips, directions
from cia_adapt.runs import files
from cia_adapt.training import Trainer, together
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from tests.adapt.clips_of import TINY, request
from tests.adapt.runs_of import CPU


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


def averaged(rank: int, port: int, folder: Path) -> None:
    """What one of two processes computes: process r begins with gradients of 1 + 2r."""
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port)}
    with together.joined(CPU):
        layer, norm = nn.Linear(2, 3), nn.BatchNorm1d(2)
        frozen = nn.Parameter(torch.ones(2))
        layer.weight.grad = torch.arange(6.0).view(3, 2) + 1 + 2 * rank
        layer.bias.grad = torch.full((3,), 1.0 + 2 * rank)
        norm.running_mean.fill_(1 + 2 * rank)
        together.average_gradients([layer.weight, frozen, layer.bias])
        together.average_statistics(norm)
        torch.save([frozen.grad, layer.weight.grad, layer.bias.grad, norm.running_mean], folder / str(rank))


def test_gradients_and_statistics_are_averaged_not_summed(tmp_path):
    """1 and 3 have the mean 2 and the sum 4."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        port = one.getsockname()[1]
    torch.multiprocessing.spawn(averaged, (port, tmp_path), nprocs=2)
    for rank in range(2):
        frozen, weight, bias, mean = torch.load(tmp_path / str(rank))
        assert frozen is None and torch.equal(weight, torch.arange(6.0).view(3, 2) + 2)
        assert bias.tolist() == [2.0] * 3 and mean.tolist() == [2.0] * 2


@pytest.mark.parametrize(("mode", "processes", "all_of_them"), [("synchronised", 2, 1), ("synchronised", 1, 0), ("train", 2, 0)])
def test_statistics_are_those_of_all_processes_if_asked_for(tiny_clips, tmp_path, monkeypatch, mode, processes, all_of_them):
    """Every normalisation of the backbone; by torch's own layer, which a CPU cannot run."""
    monkeypatch.setattr(together, "size", lambda: processes)
    asked = request(tiny_clips, tmp_path, "source-only", modalities=("rgb",))
    (direction,) = directions.prepared(asked, lambda message: None)
    task, _ = directions.task_of(direction, Stores(CPU))
    setup = replace(direction.setup, batch_norm=mode)
    trainer = Trainer(task, setup, direction.method, 0, CPU, trunk=clips.trunk_of(asked, direction))
    norms = [module for module in trainer.model.trunk.modules() if isinstance(module, _BatchNorm)]
    assert len(norms) == 57 and all(isinstance(norm, nn.SyncBatchNorm) == all_of_them for norm in norms)


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
