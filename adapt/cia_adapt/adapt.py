"""What the bare command does: pairs × seeds of one method, over one feature file."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cia_extract.console import Progress, Say
from cia_extract.errors import UsageError

from cia_adapt import runs
from cia_adapt.config import Method, Setup
from cia_adapt.data import Domain, Task, digest, find_domains, make_task, pairs
from cia_adapt.evaluate import Evaluator
from cia_adapt.runs import Result, RunKey
from cia_adapt.train import Metrics, Trainer, train


@dataclass(frozen=True)
class Request:
    """One invocation of `cia-adapt`."""

    features: Path
    setup: Setup
    method: Method
    source: str | None
    target: str | None
    modalities: tuple[str, ...]
    """Empty: all that both domains have."""
    seeds: int
    runs: Path
    device: torch.device
    overwrite: bool


def run(request: Request, say: Say) -> list[Result]:
    """Train what is not there yet and return all results. A finished run with the same settings is read, not repeated."""
    results = []
    for domains, modalities in _prepared(request, say):
        for seed in range(request.seeds):
            results.append(_run_one(request, domains, modalities, seed, say))
    return results


def _prepared(request: Request, say: Say) -> Iterator[tuple[tuple[Domain, Domain], tuple[str, ...]]]:
    domains = find_domains(request.features)
    for source, target in pairs(domains, request.source, request.target):
        pair = domains[source], domains[target]
        for domain in pair:
            missing = len(domain.dataset) - int(domain.dataset.done().sum())
            if missing:
                say(f"note: {missing} of {len(domain.dataset)} clips of '{domain.dataset.name}' are not extracted; left out")
        yield pair, _modalities(request, pair)


def _modalities(request: Request, pair: tuple[Domain, Domain]) -> tuple[str, ...]:
    common = tuple(m for m in pair[0].dataset.modalities if m in pair[1].dataset.modalities)
    chosen = tuple(dict.fromkeys(request.modalities)) or common
    if not chosen:
        raise UsageError(f"{request.features}: '{pair[0].name}' and '{pair[1].name}' have no modality in common")
    if request.method.needs_maps and len(chosen) != 2:
        raise UsageError(
            f"--method {request.method.name}: needs two modalities with maps (rgb and flow), here are {', '.join(chosen)}; "
            "extract both, or use --method source-only or concat"
        )
    return chosen


def _run_one(request: Request, pair: tuple[Domain, Domain], modalities: tuple[str, ...], seed: int, say: Say) -> Result:
    key = RunKey(request.setup, request.method, pair[0].name, pair[1].name, modalities, seed, digest(*pair))
    folder = key.folder(request.runs)
    if not request.overwrite and runs.finished(folder, key):
        say(f"{folder}: finished before, read (--overwrite trains it again)")
        return runs.read(folder)
    task, labels = make_task(*pair, modalities, request.method.needs_maps)
    trainer = Trainer(task, request.setup, request.method, seed, request.device)
    if trainer.steps_per_epoch < 3:
        clips = len(task.source_train.clips)
        say(f"note: {trainer.steps_per_epoch} step(s) an epoch of {clips} clips; consider a smaller --batch")
    evaluator = Evaluator(task, labels, request.setup.segments, request.device)
    unknown = evaluator.unknown_labels()
    if unknown:
        say(f"note: {unknown} of {len(task.target_val)} target clips have labels that the source lacks; they count as wrong")
    what = f"{request.method.name} {task.source} → {task.target} seed {seed}"
    with Progress(request.setup.epochs, what, every_s=0) as progress:
        outcome = train(trainer, evaluator, lambda metrics: progress.step(_line(metrics)))
    return runs.write(folder, key, task, outcome, labels, request.device)


def _line(metrics: Metrics) -> str:
    line = f"loss {metrics['class_loss']:.3f}  source val {metrics['source_val_accuracy']:.1f} %"
    if "video_domain_accuracy" in metrics:
        line += f"  domain told apart {metrics['video_domain_accuracy']:.0f} %"
    return line


def plan(request: Request) -> list[dict[str, Any]]:
    """What `run` would do for each pair, with seconds measured on one step, after a first, and one evaluation."""
    planned = []
    for pair, modalities in _prepared(request, lambda message: None):
        task, labels = make_task(*pair, modalities, request.method.needs_maps)
        trainer = Trainer(task, request.setup, request.method, 0, request.device)
        evaluator = Evaluator(task, labels, request.setup.segments, request.device)
        trainer.model.train()
        positions = np.arange(trainer.batch)
        trainer.train_step(positions)
        began = time.perf_counter()
        trainer.train_step(positions)
        step = time.perf_counter() - began
        began = time.perf_counter()
        evaluator.source(trainer.model)
        evaluation = (time.perf_counter() - began) * (1 + len(task.target_val) / len(task.source_val.clips))
        epoch = step * trainer.steps_per_epoch + evaluation
        per_clip = request.setup.segments * task.channels * (49 if request.method.needs_maps else 1) * 4 * len(modalities)
        clips = trainer.batch + (trainer.target_batch if request.method.needs_target else 0)
        planned.append(
            {
                "source": task.source,
                "target": task.target,
                "modalities": list(modalities),
                "classes": len(task.classes),
                "source_train_clips": len(task.source_train.clips),
                "source_val_clips": len(task.source_val.clips),
                "target_train_clips": len(task.target_train),
                "target_val_clips": len(task.target_val),
                "batch": f"{trainer.batch} source + {clips - trainer.batch} target",
                "batch_megabytes": round(clips * per_clip / 1e6, 1),
                "steps": trainer.steps_total,
                "parameters": sum(p.numel() for p in trainer.parameters),
                "seconds_estimated": round(request.seeds * request.setup.epochs * epoch, 1),
                "runs": [str(_folder(request, task, seed)) for seed in range(request.seeds)],
            }
        )
    return planned


def _folder(request: Request, task: Task, seed: int) -> Path:
    return RunKey(request.setup, request.method, task.source, task.target, (), seed, "").folder(request.runs)
