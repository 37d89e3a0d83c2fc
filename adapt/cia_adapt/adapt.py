"""What the bare command does: pairs × seeds of one method, over one feature file."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from cia_extract.console import Progress, Say
from cia_extract.errors import DivergedError, MismatchError, UsageError

from cia_adapt import resume, runs
from cia_adapt.cost import macs_per_clip
from cia_adapt.data import digest
from cia_adapt.directions import Pair as Pair
from cia_adapt.directions import Request as Request
from cia_adapt.directions import prepared as prepared
from cia_adapt.directions import task_of as task_of
from cia_adapt.evaluate import Evaluator
from cia_adapt.memory import shortage_said
from cia_adapt.runs import Result, RunKey
from cia_adapt.store import Stores
from cia_adapt.train import Metrics, Outcome, Trainer, train

SAVE_EVERY_S = 15.0
COMPLAIN_EVERY_S = 600.0  # of a state that cannot be saved


def run(request: Request, say: Say, stores: Stores | None = None, quiet: bool = False) -> list[Result]:
    """Train what is not there yet and return all results. A finished run with the same settings is read, not repeated."""
    stores = stores or Stores(request.device, request.tier)
    ready = list(prepared(request, say))
    if len(ready) * len(request.seeds) > 1:
        say(f"{len(ready) * len(request.seeds)} runs: {len(ready)} direction(s) of domains × {len(request.seeds)} seed(s)")
    results = []
    for pair in ready:
        for seed in request.seeds:
            with shortage_said(f"{pair.method.name} {pair.source.name} → {pair.target.name} seed {seed}"):
                results.append(_run_one(request, pair, seed, stores, say, quiet))
    return results


def _run_one(request: Request, pair: Pair, seed: int, stores: Stores, say: Say, quiet: bool) -> Result:
    pair = _as_before(request, pair, seed)
    setup, method = pair.setup, pair.method
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
            labels.openings["counting classes that the source lacks"] += 1  # `prepared` has named them
            if method.supervision == "target":
                say("note: target-only trains on the target's labels: a bound, not a result")
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


def _as_before(request: Request, pair: Pair, seed: int) -> Pair:
    """With as many segments as asked for where a run is there that read the few frames of its clips repeatedly.

    Versions before did so; their runs are reused and go on as they began.
    """
    wanted = request.chosen.setup.segments
    if request.overwrite or pair.setup.segments == wanted:
        return pair
    folder = RunKey(pair.setup, pair.method, pair.source.name, pair.target.name, pair.modalities, seed, "").folder(request.runs)
    for place in (folder, runs.unfinished_folder(folder)):
        if (place / "config.json").exists() and runs.read_config(place)["setup"]["segments"] == wanted:
            return replace(pair, setup=replace(pair.setup, segments=wanted))
    return pair


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
                f"{folder}: holds an unfinished run with other settings ({'; '.join(lines)}); --overwrite starts again"
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


def _line(metrics: Metrics) -> str:
    line = f"loss {metrics['class_loss']:.3f}  source val {metrics['source_val_accuracy']:.1f} %"
    if "video_domain_accuracy" in metrics:
        line += f"  domain told apart {metrics['video_domain_accuracy']:.0f} %"
    return line + (f"  ! {metrics['advice']}" if metrics["advice"] else "")


def plan(request: Request, say: Say = lambda message: None) -> list[dict[str, Any]]:
    """What `run` would do for each pair, with seconds measured on one step, after a first, and one evaluation."""
    stores = Stores(request.device, request.tier)
    planned = []
    for pair in prepared(request, say):
        with shortage_said(f"{pair.method.name} {pair.source.name} → {pair.target.name}"):
            planned.append(_plan_one(request, pair, stores))
    return planned


def _plan_one(request: Request, pair: Pair, stores: Stores) -> dict[str, Any]:
    task, labels = task_of(request, pair, stores)
    setup = pair.setup
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
    return {
        "source": task.source,
        "target": task.target,
        "modalities": list(pair.modalities),
        "classes": {column: len(names) for column, names in task.classes.items()},
        "source_train_clips": len(task.source_train.clips),
        "source_val_clips": len(task.source_val.clips),
        "target_train_clips": len(task.target_train),
        "target_val_clips": len(task.target_val),
        "target_val_clips_adapted_to": task.tested_and_adapted_to if pair.method.needs_target else 0,
        "reads": {m: f"{reader.tier}" for m, reader in task.target_val.readers.items()},
        "batch": f"{len(draw.source)} source + {len(draw.target)} target",
        "batch_megabytes": round(clips * per_clip / 1e6, 1),
        "steps": trainer.steps_total,
        "parameters": sum(p.numel() for p in trainer.parameters),
        "megamacs_per_clip": round(macs_per_clip(trainer.model, trainer.read(draw)[0]) / 1e6, 2),
        "seconds_estimated": round(len(request.seeds) * (setup.epochs + trainer.trial_epochs) * epoch, 1),
        "runs": [str(_folder(request, pair, seed)) for seed in request.seeds],
    }


def _seconds(action: Any) -> float:
    began = time.perf_counter()
    action()
    return time.perf_counter() - began


def _folder(request: Request, pair: Pair, seed: int) -> Path:
    key = RunKey(pair.setup, pair.method, pair.source.name, pair.target.name, (), seed, "")
    return key.folder(request.runs)
