"""The run directory: runs/<setup>/<method>/<source>-<target>/seed<k>/, complete or not there at all.

config.json          set-up, method, modalities, classes        stamp.json        who, what, with which features
metrics.jsonl        one line an epoch                          result.json       last, selected, oracle
last.safetensors     the model after the last epoch             selected.safetensors
predictions.csv      each target validation clip                scores.safetensors  probabilities and features
state.safetensors    to go on with more epochs (not of a sweep) done                written last

While it trains, and after an interrupt, `.seed<k>.unfinished/` beside it has the last state that was written.
"""

import csv
import fcntl
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final, TextIO

import torch
from cia_extract import names, spreadsheets, writes
from cia_extract.errors import MismatchError
from cia_extract.features import differences
from cia_extract.processes import uninterrupted
from safetensors.torch import save_file

from cia_adapt import __version__, state, statistics
from cia_adapt.config import Method, Setup
from cia_adapt.data import SealedLabels, Task
from cia_adapt.evaluate import Evaluator
from cia_adapt.resume import Packed
from cia_adapt.run_files import find as find
from cia_adapt.run_files import load_model as load_model
from cia_adapt.run_files import load_scores as load_scores
from cia_adapt.run_files import read as read
from cia_adapt.run_files import read_config as read_config
from cia_adapt.run_files import read_json as read_json
from cia_adapt.run_files import read_metrics as read_metrics
from cia_adapt.run_files import read_stamp as read_stamp
from cia_adapt.train import Outcome, Snapshot, Trainer

Result = dict[str, Any]
ROOM: Final = "make room or choose another --runs folder"


@dataclass(frozen=True)
class RunKey:
    """What a run is of; two runs with equal keys must give equal numbers on one machine."""

    setup: Setup
    method: Method
    source: str
    target: str
    modalities: tuple[str, ...]
    seed: int
    features: str
    """Digest of the feature file's datasets that are read, and of their labels."""
    precision: str = "fp32"

    def folder(self, root: Path) -> Path:
        """Where the run lies below `root`. Raises DataError for names that would lead elsewhere or name no folder."""
        for what, name in (("set-up", self.setup.name), ("method", self.method.name)):
            names.check(name, what)
        for name in (self.source, self.target):
            names.check(name, "domain")
        pair = names.check(f"{self.source}-{self.target}", "the pair of domains")
        return root / self.setup.name / self.method.name / pair / f"seed{self.seed}"

    def fields(self) -> dict[str, Any]:
        """As JSON has them. What does not decide numbers (published values, texts) is left out of comparisons by `compare`."""
        return json.loads(json.dumps(asdict(self)))


def completed(setup: dict[str, Any]) -> dict[str, Any]:
    """A set-up of config.json with the fields that versions before did not write, at the value that they had."""
    return {"train_split": "train"} | setup


def compare(old: dict[str, Any], new: dict[str, Any]) -> list[str]:
    """Differences of two configurations that decide numbers."""
    texts = ("paper", "published", "reconstructed")

    def stripped(c: dict[str, Any]) -> dict[str, Any]:
        method = {k: v for k, v in c["method"].items() if k not in texts}
        return {k: v for k, v in c.items() if k != "classes"} | {"method": method, "setup": completed(c["setup"])}

    return differences(stripped(old), stripped(new))


def finished(folder: Path, key: RunKey, extend: bool = False) -> bool:
    """Whether this very run is there already. Raises MismatchError when another one is, listing what differs.

    With `extend`, a run that differs in having fewer epochs is not finished.
    """
    if not (folder / "done").exists():
        return False
    return _same(folder, read_config(folder), key, extend)


def _same(folder: Path, there: dict[str, Any], key: RunKey, extend: bool) -> bool:
    lines = compare(there, key.fields())
    more = extend and there["setup"]["epochs"] < key.setup.epochs
    wrong = [line for line in lines if not (more and line.startswith("setup.epochs:"))]
    if wrong:
        raise MismatchError(
            f"{folder}: holds a run with other settings ({'; '.join(wrong)}); pass --overwrite, or --runs for another folder"
        )
    return not lines


def unfinished_folder(folder: Path) -> Path:
    return folder.with_name(f".{folder.name}.unfinished")


@contextmanager
def claimed(folder: Path) -> Iterator[None]:
    """This process trains the run; raises MismatchError where another one does. Makes the unfinished run's folder."""
    working = unfinished_folder(folder)
    with _lock(folder, working / "lock"):
        try:
            yield
        finally:
            if not (working / "state.safetensors").exists():
                shutil.rmtree(working, ignore_errors=True)


def _lock(folder: Path, path: Path) -> TextIO:
    """The open, locked file at `path`; not one that another process has removed with its run meanwhile."""
    while True:
        with writes.translated(str(folder), ROOM):
            path.parent.mkdir(parents=True, exist_ok=True)
            lock = path.open("w")
            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                raise MismatchError(f"{folder}: another process is training it") from None
        if _same_file(path, lock):
            return lock
        lock.close()


def _same_file(path: Path, opened: TextIO) -> bool:
    try:
        return os.path.samestat(path.stat(), os.fstat(opened.fileno()))
    except FileNotFoundError:
        return False


def save_state(folder: Path, key: RunKey, packed: Packed) -> None:
    """Keep an unfinished run. Raises UsageError when the disk says no; what was kept before stays."""
    working = unfinished_folder(folder)
    with writes.translated(str(folder), ROOM):
        working.mkdir(parents=True, exist_ok=True)
        _write_json(working / "config.json", key.fields())
        state.save(working / "state.safetensors", packed.tensors, packed.rest)


def interrupted(folder: Path) -> bool:
    return (unfinished_folder(folder) / "state.safetensors").exists()


def load_state(folder: Path, key: RunKey, circumstances: Mapping[str, Any]) -> Packed:
    """The state of an interrupted run, or of a finished one that is to get more epochs. Raises MismatchError, DataError."""
    working = unfinished_folder(folder) if interrupted(folder) else folder
    if not (working / "state.safetensors").exists():
        raise MismatchError(f"{folder}: was finished without keeping its state and cannot go on; --overwrite trains it again")
    _same(folder, read_config(working), key, extend=True)
    packed = Packed(*state.load(working / "state.safetensors"))
    lines = differences(packed.rest.get("circumstances", circumstances), dict(circumstances))  # older states have none
    if lines:
        raise MismatchError(f"{folder}: would not go on as it began ({'; '.join(lines)}); give the same flags, or --overwrite")
    if packed.epoch > key.setup.epochs:
        raise MismatchError(f"{folder}: has {packed.epoch} epochs behind it, more than --epochs {key.setup.epochs}")
    return packed


def result_of(key: RunKey, task: Task, outcome: Outcome, evaluator: Evaluator, trainer: Trainer) -> Result:
    """The three target numbers side by side, in percent. `oracle` alone uses target labels to choose the epoch."""
    assert outcome.last is not None and outcome.selected is not None
    history = outcome.history
    best = max(history, key=lambda metrics: metrics["target_val_accuracy"])
    selected = history[outcome.selected.epoch - 1]
    rule = key.setup.select
    result = {
        "source": key.source,
        "target": key.target,
        "method": key.method.name,
        "setup": key.setup.name,
        "seed": key.seed,
        "last": history[-1]["target_val_accuracy"],
        "selected": selected["target_val_accuracy"],
        "oracle": best["target_val_accuracy"],
        "selected_epoch": outcome.selected.epoch,
        "oracle_epoch": int(best["epoch"]),
        "selected_by": f"{rule}, the latest of equal epochs" if rule != "last" else "the last epoch",
        "source_val": selected["source_val_accuracy"],
        "target_val_clips": len(task.target_val),
        "target_val_clips_adapted_to": task.tested_and_adapted_to if key.method.needs_target else 0,
        "trained_on_target_labels": key.method.supervision == "target",
        "parameters": sum(p.numel() for p in trainer.parameters),
        "seconds_per_epoch": round(outcome.seconds_per_epoch, 3),
        "validators": statistics.validator_correlations(history),
        "advice": history[-1]["advice"],
    }
    if len(task.classes) > 1:
        for name, snapshot in (("last", outcome.last), ("selected", outcome.selected)):
            result[f"{name}_by_label"] = evaluator.target_scores(snapshot.target)
    return result


def write(
    folder: Path,
    key: RunKey,
    trainer: Trainer,
    outcome: Outcome,
    evaluator: Evaluator,
    packed: Packed | None,
) -> Result:
    """Write the whole directory under a temporary name, then rename it; with `packed`, more epochs can follow.

    Raises UsageError when the disk says no; the unfinished run's state stays where it is then.
    """
    assert outcome.last is not None and outcome.selected is not None
    task, labels = trainer.task, evaluator.target_labels
    result = result_of(key, task, outcome, evaluator, trainer)
    part = folder.with_name(f".{folder.name}.part{os.getpid()}")
    try:
        with writes.translated(str(folder), ROOM):
            shutil.rmtree(part, ignore_errors=True)
            part.mkdir(parents=True)
            _fill(part, key, trainer, outcome, labels, result, packed)
            with uninterrupted():
                _put_in_place(part, folder)
    finally:
        shutil.rmtree(part, ignore_errors=True)  # it holds the room that others need
    return result


def _fill(
    part: Path,
    key: RunKey,
    trainer: Trainer,
    outcome: Outcome,
    labels: SealedLabels,
    result: Result,
    packed: Packed | None,
) -> None:
    """All files of a finished run; raises what the disk and safetensors raise."""
    assert outcome.last is not None and outcome.selected is not None
    task = trainer.task
    _write_json(part / "config.json", key.fields() | {"classes": task.classes})
    _write_json(part / "result.json", result)
    writes.text(part / "metrics.jsonl", "".join(json.dumps(metrics) + "\n" for metrics in outcome.history))
    for name, snapshot in (("last", outcome.last), ("selected", outcome.selected)):
        save_file({k: v.contiguous() for k, v in snapshot.state.items()}, part / f"{name}.safetensors")
    save_file(_scores(task, outcome.last, outcome.selected), part / "scores.safetensors")
    _write_predictions(part / "predictions.csv", task, outcome, labels)
    if packed is not None:
        state.save(part / "state.safetensors", packed.tensors, packed.rest)
    _write_json(part / "stamp.json", _stamp(task, labels, trainer.device))  # after the last opening of labels
    (part / "done").touch()


def _put_in_place(part: Path, folder: Path) -> None:
    """Rename a whole run to its name, in place of an older one; then the unfinished run's state has had its use."""
    if folder.exists():
        old = part.with_suffix(".old")
        shutil.rmtree(old, ignore_errors=True)  # of a kill at this very place
        folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old)
    else:
        part.rename(folder)
    (unfinished_folder(folder) / "state.safetensors").unlink(missing_ok=True)


def check_alike(folders: Sequence[Path]) -> None:
    """Refuse to average runs that differ in more than the seed. Raises MismatchError with the fields."""
    first, *others = (read_config(folder) | {"seed": None} for folder in folders)
    for folder, config in zip(folders[1:], others, strict=True):
        lines = compare(first, config)
        if lines:
            raise MismatchError(f"{folder} and {folders[0]} differ ({'; '.join(lines)}); report them separately")


def _scores(task: Task, last: Snapshot, selected: Snapshot) -> dict[str, torch.Tensor]:
    scores = {"selected/source_features": selected.source.features, "selected/target_features": selected.target.features}
    for name, snapshot in (("last", last), ("selected", selected)):
        for column, p in zip(task.classes, snapshot.target.probabilities, strict=True):
            scores[f"{name}/target_probabilities/{column}"] = p
    return {name: value.clone() for name, value in scores.items()}  # `last` and `selected` may be one


def _write_predictions(path: Path, task: Task, outcome: Outcome, labels: SealedLabels) -> None:
    """clip, then label, last, selected; with several labels a triple of columns each, named after them."""
    assert outcome.last is not None and outcome.selected is not None
    truth = labels.open("the label column of predictions.csv")
    header, columns = ["clip"], [task.target_val.names]
    for i, (column, classes) in enumerate(task.classes.items()):
        header += [column, "last", "selected"] if len(task.classes) == 1 else [column, f"{column}_last", f"{column}_selected"]
        numbers = [
            truth[:, i].tolist(),
            *(s.target.probabilities[i].argmax(1).tolist() for s in (outcome.last, outcome.selected)),
        ]
        columns += [[classes[number] if number >= 0 else "" for number in of_column] for of_column in numbers]
    with path.open("w", newline="", encoding="utf-8", errors="backslashreplace") as file:
        writer = csv.writer(file, lineterminator="\n")
        for cells in (header, *zip(*columns, strict=True)):
            writer.writerow(map(spreadsheets.cell, map(str, cells)))


def _stamp(task: Task, labels: SealedLabels, device: torch.device) -> dict[str, Any]:
    """Circumstances of a run; nothing here decides whether two runs are the same."""
    return {
        "argv": sys.argv,
        "version": __version__,
        "git_commit": _git_commit(),
        "feature_file": str(task.target_val.dataset.path.resolve()),
        "classes": task.classes,
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "tiers": {m: reader.tier for m, reader in task.target_val.readers.items()},
        "target_labels_opened": dict(labels.openings),
    }


def _git_commit() -> str | None:
    """The commit of the code, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def _write_json(path: Path, value: Any) -> None:
    """Whole or not at all."""
    writes.text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")
