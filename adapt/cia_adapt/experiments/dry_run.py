"""`cia-adapt --dry-run`: what would be trained, and how long it takes."""

from dataclasses import replace
from typing import Any

import numpy as np
from cia_extract.common.console import Say

import cia_adapt.experiments.clip_plan as clip_plan
from cia_adapt.data import Draw, Stores
from cia_adapt.experiments.bench import timed
from cia_adapt.experiments.cost import macs_per_clip
from cia_adapt.experiments.directions import prepared, task_of
from cia_adapt.experiments.memory import shortage_said
from cia_adapt.experiments.request import Direction, Request
from cia_adapt.experiments.runner import run_folder
from cia_adapt.experiments.threads import threads_of_a_step
from cia_adapt.training import Evaluator, Trainer, pilot_epochs


def plan(request: Request, say: Say = lambda message: None) -> list[dict[str, Any]]:
    """What `run` would do for each direction, with seconds measured on one step, after a first, and one evaluation."""
    stores = Stores(request.device, request.tier)
    if request.footage is not None:
        request = replace(request, footage=replace(request.footage, frames="black"))
    planned = []
    for direction in prepared(request, say):
        what = f"{direction.method.name} {direction.source.name} → {direction.target.name}"
        with shortage_said(what), threads_of_a_step(request, direction):
            one = _plan_one(request, direction, stores) if request.footage is None else clip_plan.plan(request, direction)
        runs = [str(run_folder(request, direction, seed)) for seed in request.seeds]
        names = {"source": direction.source.name, "target": direction.target.name, "modalities": list(direction.modalities)}
        planned.append(names | one | {"runs": runs})
    return planned


def _plan_one(request: Request, direction: Direction, stores: Stores) -> dict[str, Any]:
    task, labels = task_of(direction, stores)
    setup = direction.setup
    trainer = Trainer(task, setup, direction.method, 0, request.device, request.precision, request.compiled)
    evaluator = Evaluator(task, labels, setup.segments, request.device, request.precision)
    draw = trainer.draws()[0]
    trainer.cluster()
    first_step = _step_seconds(trainer, draw)
    evaluation = timed(lambda: evaluator.predict(trainer.model, task.source_val.clips), request.device)
    others = len(task.target_val) + (len(task.target_train) if request.validators else 0)
    evaluation *= 1 + others / len(task.source_val.clips)
    epochs, steps = trainer.source_epochs + pilot_epochs(trainer), trainer.steps_total
    seconds = epochs * (first_step * trainer.steps_per_epoch + evaluation)
    clips = len(draw.source) + len(draw.target)
    cells = {m: int(np.prod(task.sizes.grids.get(m, ()), dtype=int)) for m in task.modalities}
    per_clip = sum(setup.segments * c * cells[m] * 4 for m, c in task.sizes.channels.items())
    macs = macs_per_clip(trainer.model, trainer.read(draw)[0])
    if trainer.source_epochs < setup.epochs:
        trainer.leave_source(trainer.source_epochs)
        labelling = timed(trainer.cluster, request.device)
        step = _step_seconds(trainer, trainer.draws()[0])
        steps += trainer.steps_total
        seconds += trainer.steps_total * step + (setup.epochs - trainer.source_epochs) * (labelling + evaluation)
    by_source = direction.teacher.by_source(task.source_train.clips.rows)
    return {
        "classes": {column: len(names) for column, names in task.classes.items()},
        "source_train_clips": len(task.source_train.clips),
        **({"source_train_clips_by_source": {name: len(clips) for name, clips in by_source.items()}} if by_source else {}),
        "source_val_clips": len(task.source_val.clips),
        "target_train_clips": len(task.target_train),
        "target_val_clips": len(task.target_val),
        "target_val_clips_adapted_to": task.tested_and_adapted_to if direction.method.needs_target else 0,
        "reads": {m: f"{reader.tier}" for m, reader in task.target_val.readers.items()},
        "batch": f"{len(draw.source)} source + {len(draw.target)} target",
        "batch_megabytes": round(clips * per_clip / 1e6, 1),
        "steps": steps,
        "parameters": sum(p.numel() for p in trainer.parameters),
        "megamacs_per_clip": round(macs / 1e6, 2),
        "seconds_estimated": round(len(request.seeds) * seconds, 1),
    }


def _step_seconds(trainer: Trainer, draw: Draw) -> float:
    """Of a step, after a first that warms up."""
    trainer.model.train()
    trainer.train_step(draw, trainer.read(draw))
    return timed(lambda: trainer.train_step(draw, trainer.read(draw)), trainer.device)
