"""Stage two: epochs over features by tier and precision, I3D trained end to end, and every method compiled."""

import os
import time
from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cia_adapt import config
from cia_adapt.data import clips as data_clips
from cia_adapt.data import domains as data_domains
from cia_adapt.data import task as data_task
from cia_adapt.data.readers import Stores, Tier
from cia_adapt.experiments import Request, clips, directions
from cia_adapt.footage import Footage
from cia_adapt.training.trainer import Trainer
from cia_extract.datasets import demo, manifest
from cia_extract.features import writer
from measuring import WRONG, Bench, Row, note
from quick import covering

# What rows may take of the device's memory, in GB. CIA's step takes 7.2 MB a source clip, its share of target clips with it
# (counted on a CPU by torch's profiler): 0.9 GB for 128. Features take 1 MB a clip and modality: 0.4 GB a batch and as much the
# next one, 1.1 GB all 552 clips of the file where they lie on the device. Together 2.8 GB, and CUDA graphs keep a step's twice.
EPOCH_GB = 4.0
# I3D's step takes 75 MB a clip of 16 × 112² (counted likewise), so 300 MB of 16 × 224²: 9.6 GB for 8 + 8 clips in two streams,
# 0.4 GB for weights, gradients and Adam's two averages, and as much again for cuDNN's workspace.
CLIPS_GB = 20.0
# Two trainers, eager and compiled, each with the file's features on the device, and steps of 16 clips, twice with second views.
METHOD_GB = 4.0


def feature_file(bench: Bench) -> Path:
    """Random features of the right shape, 5 frames, two modalities, 12 classes; for numbers and timing only."""
    path, part = bench.folder / "features.h5", bench.folder / f"features-{os.getpid()}.h5"
    if path.exists():
        return path
    clips = 48 if bench.small else 300
    for seed, domain in enumerate(("ucf", "hmdb")):
        columns = {key: [f"{i}" for i in range(clips)] for key in ("clip", "path")}
        columns |= {"label": [str(i % 12) for i in range(clips)], "split": ["val" if i < 24 else "train" for i in range(clips)]}
        provenance = {"dataset": domain, "modalities": ["rgb", "flow"], "frames": 5}
        dataset = writer.begin_or_continue(part, domain, columns, provenance, bench.folder, overwrite=False)
        random = np.random.default_rng(seed)
        with writer.RowWriter(dataset) as rows:
            for row in range(clips):
                for modality in ("rgb", "flow"):
                    rows.write_row(row, modality, random.standard_exponential((5, 1024, 7, 7), np.float32) * 0.3)
    part.replace(path)  # whole, or not at all where this section is ended
    return path


def trainer_of(
    bench: Bench,
    method: str,
    tier: Tier,
    precision: str = "fp32",
    compiled: bool = False,
    clips: tuple[int, int] = (1438, 840),
    **changes: Any,
) -> Trainer:
    """One of so many source and target clips, which read those of the file several times. Its last batch is ragged."""
    domains = data_domains.find_domains(feature_file(bench))
    chosen = config.load("uh", method, changes)
    resolved = chosen.for_pair("ucf", "hmdb")
    task, _ = data_task.make_task(
        domains["ucf"], domains["hmdb"], ("rgb", "flow"), resolved.needs_maps, chosen.setup, Stores(bench.device, tier),
        resolved.supervision,
    )  # fmt: skip
    nobody = np.zeros((len(task.target_train), 1), np.int64)  # `subset` takes clips with labels; these go nowhere
    target = data_clips.subset(
        data_clips.LabelledClips(task.target_train, nobody), np.resize(np.arange(len(nobody)), clips[1])
    ).clips
    source = data_clips.subset(task.source_train, np.resize(np.arange(len(task.source_train.clips)), clips[0]))
    task = replace(task, source_train=source, target_train=target)
    trainer = Trainer(task, chosen.setup, resolved, 0, bench.device, precision, compiled)
    assert clips[0] % trainer.batch, "the last batch is not ragged"
    return trainer


def epochs(bench: Bench) -> Iterator[Row]:
    """An epoch of CIA at UCF-HMDB's sizes, by where the features lie, precision and compilation; the loss beside fp32's."""
    sizes: dict[str, Any] = {"clips": (40, 24), "batch": 16} if bench.small else {}
    tiers: tuple[Tier, ...] = ("map", "ram") if bench.small else ("map", "ram", "device")
    ways = [(tier, "fp32", False) for tier in tiers]
    ways += [(tiers[-1], precision, compiled) for precision, compiled in (("bf16", False), ("fp32", True), ("bf16", True))]
    losses: list[float] = []  # of each way's first epoch

    def trained(tier: Tier, precision: str, compiled: bool) -> str:
        trainer = trainer_of(bench, "cia", tier, precision, compiled, **sizes, dropout=0.0)
        losses.append(trainer.epoch()["class_loss"])
        right = abs(losses[-1] - losses[0]) <= (0.01 if precision == "fp32" else 0.05) * losses[0]
        seconds = bench.seconds(trainer.epoch)
        compared = f"first epoch's loss {losses[-1]:.4f}, of the first row {losses[0]:.4f}"
        return f"{'' if right else WRONG}{1e3 * seconds:.1f} ms, {compared}"

    for way in ways:
        tier, precision, compiled = way
        title = f"CIA's epoch, {tier}, {precision}{', compiled' if compiled else ''}"
        yield bench.row(title, partial(trained, *way), EPOCH_GB)


def end_to_end(bench: Bench) -> Iterator[Row]:
    """Training I3D with CIA on demo clips, 16 × 224² in two streams: clips a second, and how long the device waits for frames.

    Frames are read by memory map from a cache that is full, as from the second epoch on; their flow is DIS's.
    """
    root, listed = bench.folder / "clips", bench.folder / "demo.csv"
    manifest.check("demo", demo.build(root, 1 if bench.small else 2)).write(listed)
    tiny: dict[str, Any] = {"short_side": 32, "width": 40, "crop": 32, "segments": 4, "batch": 4}
    full = {"short_side": 256, "width": 340, "crop": 224, "segments": 16, "batch": 8}
    changes = (tiny if bench.small else full) | {"epochs": 1000, "dropout": 0.0}
    footage = Footage((str(listed),), root, bench.folder / "frames", (bench.weights,), "dis", 1 if bench.small else 8)
    losses: list[float] = []  # of each way's first epoch

    def trained(precision: Any, checkpointing: bool) -> str:
        asked = Request(footage=footage, chosen=config.load("demo-i3d", "cia", changes), sources=("studio",), target="street",
                        device=bench.device, precision=precision, checkpointing=checkpointing)  # fmt: skip
        (direction,) = directions.prepared(asked, note)
        task, _ = directions.task_of(direction, Stores(bench.device, "map"))
        trunk = clips.trunk_of(asked, direction)
        trainer = Trainer(task, direction.setup, direction.method, 0, bench.device, precision, trunk=trunk)
        losses.append(trainer.epoch()["class_loss"])
        right = abs(losses[-1] - losses[0]) <= (0.01 if precision == "fp32" else 0.05) * losses[0]
        epoch, draws = bench.seconds(trainer.epoch, 3), trainer.draws()
        ready = trainer.read(draws[0])
        steps = len(draws) * bench.seconds(lambda: trainer.train_step(draws[0], ready))
        rate = sum(len(draw.source) + len(draw.target) for draw in draws) / epoch
        waiting = f"waits {max(0.0, 1 - steps / epoch):.0%} of the time for frames"
        compared = f"first epoch's loss {losses[-1]:.4f}, of the first row {losses[0]:.4f}"
        return f"{'' if right else WRONG}{rate:.2f} clips/s, {waiting}, {compared}"

    for way in (("fp32", False), ("bf16", False), ("bf16", True)):
        title = f"I3D trained with CIA, {changes['segments']} × {changes['crop']}², RGB and flow, {way[0]}"
        yield bench.row(title + (", checkpointing" if way[1] else ""), partial(trained, *way), CLIPS_GB)


def methods(bench: Bench) -> Iterator[Row]:
    """--compile of every method: two epochs, with a ragged batch, second views and second phases, against eager."""
    first = covering(config.names("methods"))
    names = ["cia", "co2a-fl"] if bench.small else first + [name for name in config.names("methods") if name not in first]
    small: dict[str, Any] = {"clips": (40, 28), "batch": 16, "epochs": 2, "dropout": 0.0}

    def compared(name: str) -> str:
        torch._dynamo.reset()
        losses: list[list[float]] = []  # eager, compiled
        for compiled in (False, True):
            trainer = trainer_of(bench, name, bench_tier(bench), compiled=compiled, **small)
            losses.append([trainer.epoch().get("class_loss", 0.0) for _ in range(2)])
        views = ", two views" if any(objective.second_view for objective in trainer.every) else ""
        said = ", ".join("{:.4f} and {:.4f}".format(*each) for each in losses)
        return (
            f"{'' if np.allclose(losses[0], losses[1], rtol=0.02) else WRONG}losses of two epochs eager, compiled: {said}{views}"
        )

    for done, name in enumerate(names):
        if time.monotonic() > bench.ends:
            yield "--compile of the other methods", f"{len(names) - done} not measured: no time left (--minutes)"
            break
        yield bench.row(f"--compile of {name}", partial(compared, name), METHOD_GB)


def bench_tier(bench: Bench) -> Tier:
    """Where features are read from fastest."""
    return "ram" if bench.small else "device"
