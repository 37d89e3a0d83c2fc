"""What the bare command does: pairs × seeds of one method, over one feature file."""

from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

from cia_extract.common.console import Progress, Say
from cia_extract.common.differences import listed
from cia_extract.common.errors import MismatchError

import cia_adapt.experiments.clips as clips
from cia_adapt import runs
from cia_adapt.config import Setup
from cia_adapt.data import Stores, digest
from cia_adapt.experiments.directions import prepared, task_of
from cia_adapt.experiments.memory import shortage_said
from cia_adapt.experiments.request import Direction, Request, counted
from cia_adapt.experiments.threads import threads_of_a_step
from cia_adapt.runs import Result, RunKey, Saver, board, files, lock, resume, writing
from cia_adapt.training import Evaluator, Metrics, Outcome, Trainer, together, train


def run(request: Request, say: Say, stores: Stores | None = None, quiet: bool = False) -> list[Result]:
    """Train what is not there yet and return all results. A finished run with the same settings is read, not repeated."""
    stores = stores or Stores(request.device, request.tier)
    ready = list(prepared(request, say))
    if len(ready) * len(request.seeds) > 1:
        say(f"{len(ready) * len(request.seeds)} runs: {counted(len(ready), 'direction')} × {counted(len(request.seeds), 'seed')}")
    results = []
    for direction in ready:
        for seed in request.seeds:
            with shortage_said(f"{direction.method.name} {direction.source.name} → {direction.target.name} seed {seed}"):
                results.append(_run_one(request, direction, seed, stores, say, quiet))
    return results


def _run_one(request: Request, direction: Direction, seed: int, stores: Stores, say: Say, quiet: bool) -> Result:
    """Of several processes the first reads and locks the run's folder, and the others do as it does."""
    direction = replace(direction, setup=together.led(lambda: _as_before(request, direction, seed)))
    digests = [digest(direction.source, direction.target), clips.weights_digest(direction.weights)]
    features = "+".join(filter(None, digests))
    if len(set(together.all_of([(together.rank(), features)]))) > 1:
        raise MismatchError(
            f"{request.where}: the processes do not all read the same features, frames and first weights; give all machines the "
            "same files, and --frame-cache in a folder that they share"
        )
    key = _key(request, direction, seed, features)
    folder = key.folder(request.runs)

    def finished() -> bool:
        return not request.overwrite and runs.finished(folder, key, extend=request.resume)

    if together.led(finished):
        together.led(lambda: lock.put_right(folder))
        say(f"{folder}: finished before, read (--overwrite trains it again)")
        return together.led(lambda: files.read(folder))
    with ExitStack() as held:
        together.led(lambda: held.enter_context(lock.claimed(folder)))
        if together.led(finished):  # by another process, meanwhile
            return together.led(lambda: files.read(folder))
        with threads_of_a_step(request, direction):
            return _train(request, direction, key, stores, say, quiet)


def _train(request: Request, direction: Direction, key: RunKey, stores: Stores, say: Say, quiet: bool) -> Result:
    """Train a run, from its start or from where it was interrupted, and write its folder."""
    folder, setup, method = key.folder(request.runs), key.setup, key.method
    packed = together.led(lambda: _to_go_on(request, folder, key))
    task, labels = task_of(direction, stores)
    for note in stores.notes:
        say(f"reading {note}")
    stores.notes.clear()
    trunk = clips.trunk_of(request, direction)
    trainer = Trainer(task, setup, method, key.seed, request.device, request.precision, request.compiled, trunk)
    evaluator = Evaluator(task, labels, setup.segments, request.device, request.precision, setup.test_clips)
    if packed is None:
        outcome = Outcome()
        labels.openings["counting classes that the source lacks"] += 1  # `checks` has named them
        if method.supervision == "target":
            say("note: target-only trains on the target's labels: a bound, not a result")
    else:
        outcome = resume.unpack(packed, trainer, labels, folder / "state.safetensors")
        say(f"{folder}: goes on after epoch {packed.epoch}")
    if together.rank():  # the first process writes and reports
        train(trainer, evaluator, lambda m: None, outcome, with_validators=request.validators)
        return writing.result_of(key, task, outcome, evaluator, trainer)
    saver = Saver(folder, key, lambda now: resume.pack(trainer, now, labels, _circumstances(request)), say)
    shown = board.Board(folder, outcome.history) if request.tensorboard else None
    name = f"{method.name} {task.source} → {task.target} seed {key.seed}"
    with saver.keeping(), Progress(setup.epochs, name, done=len(outcome.history), every_s=0, quiet=quiet) as progress:

        def report(metrics: Metrics) -> None:
            progress.step(_line(metrics))
            if shown is not None:
                shown.add(metrics)

        train(trainer, evaluator, report, outcome, saver.after_epoch, request.validators)
    try:
        result = writing.write(folder, key, trainer, outcome, evaluator, saver.latest if request.keep_state else None)
    except Exception:  # trained, and no run: where the disk is full there may be room for the state
        saver.keep("failed")
        raise
    if shown is not None:
        shown.keep()
    return result


def _key(request: Request, direction: Direction, seed: int, features: str) -> RunKey:
    names = direction.source.name, direction.target.name
    return RunKey(direction.setup, direction.method, *names, direction.modalities, seed, features, request.precision)


def run_folder(request: Request, direction: Direction, seed: int) -> Path:
    """Where the run is, or will be."""
    return _key(request, direction, seed, "").folder(request.runs)


def _as_before(request: Request, direction: Direction, seed: int) -> Setup:
    """The direction's set-up; with as many segments as asked for where a run is there that read the few frames of its clips
    repeatedly.

    Versions before did so; their runs are reused and go on as they began.
    """
    segments = request.chosen.setup.segments
    if request.overwrite or direction.setup.segments == segments:
        return direction.setup
    folder = run_folder(request, direction, seed)
    for place in (folder, runs.unfinished_folder(folder)):
        if (place / "config.json").exists() and files.read_config(place)["setup"]["segments"] == segments:
            return replace(direction.setup, segments=segments)
    return direction.setup


def _to_go_on(request: Request, folder: Path, key: RunKey) -> resume.Packed | None:
    """The state to start from. Raises MismatchError where there is one and nobody said what to do with it."""
    if request.overwrite:
        (runs.unfinished_folder(folder) / "state.safetensors").unlink(missing_ok=True)
        return None
    unfinished = resume.interrupted(folder)
    if unfinished and not request.resume:
        differing = runs.compare(files.read_config(runs.unfinished_folder(folder)), key.fields())
        if differing:
            raise MismatchError(
                f"{folder}: holds an unfinished run with other settings ({listed(differing)}); --overwrite starts again"
            )
        raise MismatchError(f"{folder}: was interrupted; --resume goes on with it, --overwrite starts again")
    if unfinished or (request.resume and (folder / "done").exists()):
        return resume.load_state(folder, key, _circumstances(request))
    return None


def _circumstances(request: Request) -> dict[str, Any]:
    return {"device": request.device.type, "compile": request.compiled, "validators": request.validators}


def _line(metrics: Metrics) -> str:
    task = "without the source" if metrics.get("source_free") else f"loss {metrics['class_loss']:.3f}"
    line = f"{task}  source val {metrics['source_val_accuracy']:.1f} %"
    if "video_domain_accuracy" in metrics:
        line += f"  domain told apart {metrics['video_domain_accuracy']:.0f} %"
    return line + (f"  ! {metrics['advice']}" if metrics["advice"] else "")
