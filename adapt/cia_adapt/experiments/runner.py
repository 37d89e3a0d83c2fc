"""What the bare command does: pairs × seeds of one method, over one feature file."""

import time
from dataclasses import replace
from pathlib import Path
from typing import Any

from cia_extract.common.console import Progress, Say
from cia_extract.common.differences import listed
from cia_extract.common.errors import DivergedError, MismatchError, UsageError

from cia_adapt import runs
from cia_adapt.data import Stores, digest
from cia_adapt.experiments.directions import Pair, Request, prepared, task_of
from cia_adapt.experiments.memory import shortage_said
from cia_adapt.runs import Result, RunKey, files, lock, resume, writing
from cia_adapt.runs import resume as runs_resume
from cia_adapt.training import Evaluator, Metrics, Outcome, Trainer, train

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
        return files.read(folder)
    with lock.claimed(folder):
        if not request.overwrite and runs.finished(folder, key, extend=request.resume):  # by another process, meanwhile
            return files.read(folder)
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
        return writing.write(folder, key, trainer, outcome, evaluator, saver.latest if request.keep_state else None)


def _as_before(request: Request, pair: Pair, seed: int) -> Pair:
    """With as many segments as asked for where a run is there that read the few frames of its clips repeatedly.

    Versions before did so; their runs are reused and go on as they began.
    """
    wanted = request.chosen.setup.segments
    if request.overwrite or pair.setup.segments == wanted:
        return pair
    folder = RunKey(pair.setup, pair.method, pair.source.name, pair.target.name, pair.modalities, seed, "").folder(request.runs)
    for place in (folder, runs.unfinished_folder(folder)):
        if (place / "config.json").exists() and files.read_config(place)["setup"]["segments"] == wanted:
            return replace(pair, setup=replace(pair.setup, segments=wanted))
    return pair


def _to_go_on(request: Request, folder: Path, key: RunKey) -> resume.Packed | None:
    """The state to start from. Raises MismatchError where there is one and nobody said what to do with it."""
    if request.overwrite:
        (runs.unfinished_folder(folder) / "state.safetensors").unlink(missing_ok=True)
        return None
    there = runs_resume.interrupted(folder)
    if there and not request.resume:
        differing = runs.compare(files.read_config(runs.unfinished_folder(folder)), key.fields())
        if differing:
            raise MismatchError(
                f"{folder}: holds an unfinished run with other settings ({listed(differing)}); --overwrite starts again"
            )
        raise MismatchError(f"{folder}: was interrupted; --resume goes on with it, --overwrite starts again")
    if there or (request.resume and (folder / "done").exists()):
        return runs_resume.load_state(folder, key, _circumstances(request))
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
        runs_resume.save_state(self.folder, self.key, self.latest)
        return self.latest.epoch


def _line(metrics: Metrics) -> str:
    line = f"loss {metrics['class_loss']:.3f}  source val {metrics['source_val_accuracy']:.1f} %"
    if "video_domain_accuracy" in metrics:
        line += f"  domain told apart {metrics['video_domain_accuracy']:.0f} %"
    return line + (f"  ! {metrics['advice']}" if metrics["advice"] else "")


def _folder(request: Request, pair: Pair, seed: int) -> Path:
    key = RunKey(pair.setup, pair.method, pair.source.name, pair.target.name, (), seed, "")
    return key.folder(request.runs)
