"""`cia-adapt --clips … --dry-run`: bytes, memory and hours of training the backbone, measured on a few black clips."""

from collections import Counter
from dataclasses import replace
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from cia_adapt.data import Clips, LabelledClips, Positions, Stores, Task, Tier, fits, subset
from cia_adapt.experiments.bench import timed
from cia_adapt.experiments.clips import pictures_of, trunk_of
from cia_adapt.experiments.cost import flops, recomputed_bytes, saved_bytes
from cia_adapt.experiments.directions import task_of
from cia_adapt.experiments.request import Direction, Request
from cia_adapt.training import Evaluator, Trainer

FEW: Final = 2  # clips of each domain that a step and an evaluation are measured on
COPIES: Final = 4  # of the parameters while Adam trains them: themselves, gradients, two moments


def plan(request: Request, direction: Direction) -> dict[str, Any]:
    """What training one direction would take; seconds are measured here, on few clips, and multiplied."""
    task, labels = task_of(direction, Stores(request.device, "map"))
    setup, pictures = direction.setup, pictures_of(request)
    trunk = trunk_of(request, direction)

    def trainer_on(few: Task) -> Trainer:
        return Trainer(few, setup, direction.method, 0, request.device, request.precision, trunk=trunk)

    trainer = trainer_on(_few(task, np.arange(min(FEW, len(task.source_train.clips)))))
    if any(objective.clusters for objective in trainer.every):  # they want a clip of each class
        trainer = trainer_on(_few(task, np.unique(task.source_train.labels[:, 0], return_index=True)[1]))
    trainer.cluster()
    trainer.model.train()
    draw = trainer.draws()[0]
    views = trainer.read(draw)
    measured = len(draw.source) + len(draw.target)
    saved = saved_bytes(lambda: trainer.model(views[0])) / measured * len(views)
    if request.checkpointing and trainer.model.trunk is not None:
        saved += recomputed_bytes(trainer.model.trunk.steps, lambda: trainer.model(views[0])) / measured
    macs = flops(lambda: trainer.model(views[0])) / 2 / measured
    trainer.train_step(draw, trainer.read(draw))  # a first one warms up
    step = timed(lambda: trainer.train_step(draw, trainer.read(draw)), request.device) / measured
    few = trainer.task
    evaluator = Evaluator(few, labels, setup.segments, request.device, request.precision, setup.test_clips)
    evaluation = timed(lambda: evaluator.predict(trainer.model, few.target_val), request.device) / len(few.target_val)
    source, target = len(task.source_train.clips), len(task.target_train)
    batch = min(setup.batch, source)
    beside = max(1, batch * target // source) if direction.method.needs_target else 0
    steps = -(-source // batch)
    evaluated = len(task.source_val.clips) + len(task.target_val) + (target if request.validators else 0)
    seconds = setup.epochs * ((source + steps * beside) * step + evaluated * evaluation)
    parameters = sum(p.numel() for p in trainer.parameters)
    cached = {each.dataset.name: len(each.dataset) for each in (*direction.source.each, direction.target)}
    return {
        "source_train_clips": source,
        "target_train_clips": target,
        "source_val_clips": len(task.source_val.clips),
        "target_val_clips": len(task.target_val),
        "frame_cache_gigabytes": round(sum(cached.values()) * pictures.clip_bytes / 1e9, 3),
        "batch": f"{batch} source + {beside} target",
        "steps": setup.epochs * -(-steps // setup.accumulate),
        "parameters": parameters,
        "gigamacs_per_clip": round(macs / 1e9, 2),
        "memory_gigabytes": round((COPIES * 4 * parameters + (batch + beside) * saved) / 1e9, 2),
        "frames_read_gigabytes": frames_read(request, direction),
        "hours_estimated": round(len(request.seeds) * seconds / 3600, 2),
        "hours_are_without": _before_training(request, direction),
        "seconds_estimated": round(len(request.seeds) * seconds, 1),
    }


def frames_read(request: Request, direction: Direction) -> dict[str, float]:
    """{tier: gigabytes of frames that training reads from there}. "ram" and "device" hold them in memory, beside the model."""
    pictures = pictures_of(request)
    tiers: tuple[Tier, ...] = ("device", "ram", "map")
    planned: Counter[Tier] = Counter()
    for domain in (*direction.source.each, direction.target):
        for modality in direction.modalities:
            size = len(domain.rows) * int(np.prod(pictures.shape(modality)))
            fastest = next(tier for tier in tiers if fits(size, request.device, tier, planned[tier]))
            planned[request.tier or fastest] += size
    return {tier: round(size / 1e9, 3) for tier, size in planned.items()}


def _before_training(request: Request, direction: Direction) -> str:
    """What fills the frame cache, and is not measured."""
    assert request.footage is not None
    stored = [domain.dataset.columns.get("flow_path") for domain in (*direction.source.each, direction.target)]
    computed = "flow" in direction.modalities and any(paths is None or "" in paths for paths in stored)
    flow = f" and flow ({request.footage.flow})" if computed else ""
    return f"decoding{flow}, which fill{'' if computed else 's'} the frame cache once, before training"


def _few(task: Task, positions: Positions) -> Task:
    """The task with these clips of the source, and few of all else."""
    return replace(
        task,
        source_train=subset(task.source_train, positions),
        source_val=subset(task.source_val, np.arange(min(FEW, len(task.source_val.clips)))),
        target_train=_first(task.target_train),
        target_val=_first(task.target_val),
    )


def _first(clips: Clips) -> Clips:
    none: npt.NDArray[np.int64] = np.zeros((len(clips), 1), np.int64)
    return subset(LabelledClips(clips, none), np.arange(min(FEW, len(clips)))).clips
