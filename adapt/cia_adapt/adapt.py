"""What the bare command does: pairs × seeds of one method, over one feature file."""

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from cia_extract import names
from cia_extract.console import Progress, Say
from cia_extract.errors import DivergedError, MismatchError, UsageError

from cia_adapt import resume, runs
from cia_adapt.config import Chosen, Method
from cia_adapt.cost import macs_per_clip
from cia_adapt.data import Domain, Task, arrays_to_read, digest, find_domains, make_task, pairs, sizes_of
from cia_adapt.evaluate import Evaluator
from cia_adapt.foreign import ForeignDataset
from cia_adapt.model import VideoModel
from cia_adapt.relabel import relabelled
from cia_adapt.runs import Result, RunKey
from cia_adapt.store import Stores, Tier
from cia_adapt.train import Metrics, Outcome, Trainer, build_objectives, train

SAVE_EVERY_S = 15.0
COMPLAIN_EVERY_S = 600.0  # of a state that cannot be saved


@dataclass(frozen=True)
class Request:
    """One invocation of `cia-adapt`."""

    features: Path
    chosen: Chosen
    source: str | None
    target: str | None
    modalities: tuple[str, ...]
    """Empty: all that both domains have."""
    seeds: tuple[int, ...]
    runs: Path
    device: torch.device
    overwrite: bool = False
    resume: bool = False
    keep_state: bool = True
    validators: bool = True
    precision: str = "fp32"
    compiled: bool = False
    tier: Tier | None = None
    mapping: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """One direction of a request."""

    source: Domain
    target: Domain
    modalities: tuple[str, ...]
    method: Method


def run(request: Request, say: Say, stores: Stores | None = None, quiet: bool = False) -> list[Result]:
    """Train what is not there yet and return all results. A finished run with the same settings is read, not repeated."""
    stores = stores or Stores(request.device, request.tier)
    return [_run_one(request, pair, seed, stores, say, quiet) for pair in prepared(request, say) for seed in request.seeds]


def prepared(request: Request, say: Say) -> Iterator[Pair]:
    """The directions, checked. Raises UsageError, DataError."""
    domains = relabelled(find_domains(request.features, request.mapping), request.manifests, say)
    for name, domain in domains.items():
        if isinstance(domain.dataset, ForeignDataset):
            say(f"note: '{name}' is not in cia-extract's own layout; read through h5py, slower")
    for source, target in pairs(domains, request.source, request.target):
        pair = domains[source], domains[target]
        for domain in pair:
            names.check(domain.name, f"{request.features}: domain")  # it becomes a part of the run's path
            missing = len(domain.dataset) - int(domain.dataset.done().sum())
            if missing:
                say(f"note: {missing} of {len(domain.dataset)} clips of '{domain.dataset.name}' are not extracted; left out")
        checked = Pair(*pair, _modalities(request, pair), request.chosen.for_pair(source, target))
        _check_fit(request, checked)
        yield checked


def _modalities(request: Request, pair: tuple[Domain, Domain]) -> tuple[str, ...]:
    common = tuple(m for m in pair[0].dataset.modalities if m in pair[1].dataset.modalities)
    chosen = tuple(dict.fromkeys(request.modalities)) or common
    if not chosen:
        raise UsageError(f"{request.features}: '{pair[0].name}' and '{pair[1].name}' have no modality in common")
    return chosen


def _check_fit(request: Request, pair: Pair) -> None:
    """Compose the model without memory or features, so that a method that these modalities do not fit is told at once."""
    arrays = arrays_to_read(pair.source, pair.target, pair.modalities, pair.method.needs_maps)
    with torch.device("meta"):
        model = VideoModel(pair.method, sizes_of(pair.source, arrays, request.chosen.setup, (2,), 2))
        build_objectives(pair.method, model)


def task_of(request: Request, pair: Pair, stores: Stores) -> tuple[Task, Any]:
    """(task, sealed labels) of a direction."""
    method = pair.method
    return make_task(
        pair.source, pair.target, pair.modalities, method.needs_maps, request.chosen.setup, stores, method.supervision
    )


def _run_one(request: Request, pair: Pair, seed: int, stores: Stores, say: Say, quiet: bool) -> Result:
    setup, method = request.chosen.setup, pair.method
    names = pair.source.name, pair.target.name
    key = RunKey(setup, method, *names, pair.modalities, seed, digest(pair.source, pair.target), request.precision)
    folder = key.folder(request.runs)
    if not request.overwrite and runs.finished(folder, key, extend=request.resume):
        say(f"{folder}: finished before, read (--overwrite trains it again)")
        return runs.read(folder)
    with runs.claimed(folder):
        if not request.overwrite and runs.finished(folder, key, extend=request.resume):  # by another process, meanwhile
            return runs.read(folder)
        packed = _to_go_on(request, folder, key)
        task, labels = task_of(request, pair, stores)
        for note in stores.notes:
            say(f"reading {note}")
        stores.notes.clear()
        trainer = Trainer(task, setup, method, seed, request.device, request.precision, request.compiled)
        evaluator = Evaluator(task, labels, setup.segments, request.device, request.precision)
        if packed is None:
            _remark(trainer, evaluator, say)
        else:
            say(f"{folder}: goes on after epoch {packed.epoch}")
        outcome = Outcome() if packed is None else resume.unpack(packed, trainer, labels, folder / "state.safetensors")
        saver = _Saver(folder, key, trainer, labels, _circumstances(request), say)
        what = f"{method.name} {task.source} → {task.target} seed {seed}"
        try:
            with Progress(setup.epochs, what, done=len(outcome.history), every_s=0, quiet=quiet) as progress:
                train(trainer, evaluator, lambda m: progress.step(_line(m)), outcome, saver.after_epoch, request.validators)
        except DivergedError as error:
            try:
                kept = saver.write_latest()
            except UsageError as full:
                raise DivergedError(f"{error}; the last good state is not saved: {full}") from error
            where = f"; the last good state, after epoch {kept}, is in {runs.unfinished_folder(folder)}" if kept else ""
            raise DivergedError(f"{error}{where}") from error
        except KeyboardInterrupt:
            try:
                kept = saver.write_latest()
                if kept:
                    say(f"{folder}: interrupted, kept up to epoch {kept}; the same command with --resume goes on")
            except UsageError as error:
                say(f"note: what came after the last state that was saved is lost: {error}")
            raise
        return runs.write(folder, key, trainer, outcome, evaluator, saver.latest if request.keep_state else None)


def _to_go_on(request: Request, folder: Path, key: RunKey) -> resume.Packed | None:
    """The state to start from. Raises MismatchError where there is one and nobody said what to do with it."""
    if request.overwrite:
        (runs.unfinished_folder(folder) / "state.safetensors").unlink(missing_ok=True)
        return None
    there = runs.interrupted(folder)
    if there and not request.resume:
        lines = runs.compare(runs.read_config(runs.unfinished_folder(folder)), key.fields())
        if lines:
            raise MismatchError(
                f"{folder}: an unfinished run with other settings lies there ({'; '.join(lines)}); --overwrite starts again"
            )
        raise MismatchError(f"{folder}: was interrupted; --resume goes on with it, --overwrite starts again")
    if there or (request.resume and (folder / "done").exists()):
        return runs.load_state(folder, key, _circumstances(request))
    return None


def _circumstances(request: Request) -> dict[str, Any]:
    return {"device": request.device.type, "compile": request.compiled, "validators": request.validators}


class _Saver:
    """Keeps the state after the latest epoch in memory, and on the disk every now and then."""

    def __init__(self, folder: Path, key: RunKey, trainer: Trainer, labels: Any, circumstances: dict[str, Any], say: Say) -> None:
        self.folder, self.key, self.trainer, self.labels = folder, key, trainer, labels
        self.circumstances, self.say = circumstances, say
        self.latest: resume.Packed | None = None
        self.written_at = self.complain_at = time.monotonic()

    def after_epoch(self, outcome: Outcome) -> None:
        self.latest = resume.pack(self.trainer, outcome, self.labels, self.circumstances)
        if time.monotonic() - self.written_at > SAVE_EVERY_S and self.latest.epoch < self.key.setup.epochs:
            try:
                self.write_latest()
            except UsageError as error:  # a full disk may have room again at the end
                if time.monotonic() >= self.complain_at:
                    self.complain_at = time.monotonic() + COMPLAIN_EVERY_S
                    self.say(f"note: training goes on, its state is not saved: {error}")
            self.written_at = time.monotonic()

    def write_latest(self) -> int:
        """Its epoch, 0 where there is none."""
        if self.latest is None:
            return 0
        runs.save_state(self.folder, self.key, self.latest)
        return self.latest.epoch


def _remark(trainer: Trainer, evaluator: Evaluator, say: Say) -> None:
    task = trainer.task
    if trainer.steps_per_epoch < 3:
        clips = len(task.source_train.clips)
        say(f"note: {trainer.steps_per_epoch} step(s) an epoch of {clips} clips; consider a smaller --batch")
    lacking = int((task.source_val.labels < 0).any(1).sum())
    if lacking:
        say(
            f"note: {lacking} of {len(task.source_val.clips)} source val clips have labels that training lacks, so count as wrong"
        )
    unknown = evaluator.unknown_labels()
    if unknown:
        say(f"note: {unknown} of {len(task.target_val)} target clips have labels that training lacks; they count as wrong")
    if trainer.method.supervision == "target":
        say("note: target-only trains on the target's labels: a bound, not a result")


def _line(metrics: Metrics) -> str:
    line = f"loss {metrics['class_loss']:.3f}  source val {metrics['source_val_accuracy']:.1f} %"
    if "video_domain_accuracy" in metrics:
        line += f"  domain told apart {metrics['video_domain_accuracy']:.0f} %"
    return line + (f"  ! {metrics['advice']}" if metrics["advice"] else "")


def plan(request: Request) -> list[dict[str, Any]]:
    """What `run` would do for each pair, with seconds measured on one step, after a first, and one evaluation."""
    planned = []
    stores = Stores(request.device, request.tier)
    for pair in prepared(request, lambda message: None):
        task, labels = task_of(request, pair, stores)
        setup = request.chosen.setup
        trainer = Trainer(task, setup, pair.method, 0, request.device, request.precision, request.compiled)
        evaluator = Evaluator(task, labels, setup.segments, request.device, request.precision)
        draw = trainer.draws()[0]
        trainer.cluster()
        trainer.model.train()
        trainer.train_step(draw, trainer.read(draw))
        step = _seconds(lambda trainer=trainer, draw=draw: trainer.train_step(draw, trainer.read(draw)))
        evaluation = _seconds(lambda e=evaluator, t=trainer: e.predict(t.model, t.task.source_val.clips))
        others = len(task.target_val) + (len(task.target_train) if request.validators else 0)
        evaluation *= 1 + others / len(task.source_val.clips)
        epoch = step * trainer.steps_per_epoch + evaluation
        clips = len(draw.source) + len(draw.target)
        cells = {m: int(np.prod(task.sizes.grids.get(m, ()), dtype=int)) for m in task.modalities}
        per_clip = sum(setup.segments * c * cells[m] * 4 for m, c in task.sizes.channels.items())
        planned.append(
            {
                "source": task.source,
                "target": task.target,
                "modalities": list(pair.modalities),
                "classes": {column: len(names) for column, names in task.classes.items()},
                "source_train_clips": len(task.source_train.clips),
                "source_val_clips": len(task.source_val.clips),
                "target_train_clips": len(task.target_train),
                "target_val_clips": len(task.target_val),
                "reads": {m: f"{reader.tier}" for m, reader in task.target_val.readers.items()},
                "batch": f"{len(draw.source)} source + {len(draw.target)} target",
                "batch_megabytes": round(clips * per_clip / 1e6, 1),
                "steps": trainer.steps_total,
                "parameters": sum(p.numel() for p in trainer.parameters),
                "megamacs_per_clip": round(macs_per_clip(trainer.model, trainer.read(draw)[0]) / 1e6, 2),
                "seconds_estimated": round(len(request.seeds) * (setup.epochs + trainer.trial_epochs) * epoch, 1),
                "runs": [str(_folder(request, pair, seed)) for seed in request.seeds],
            }
        )
    return planned


def _seconds(action: Any) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _folder(request: Request, pair: Pair, seed: int) -> Path:
    key = RunKey(request.chosen.setup, pair.method, pair.source.name, pair.target.name, (), seed, "")
    return key.folder(request.runs)
