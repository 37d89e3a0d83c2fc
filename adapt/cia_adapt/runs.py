"""The run directory: runs/<setup>/<method>/<source>-<target>/seed<k>/, complete or not there at all.

config.json          set-up, method, modalities, classes        stamp.json        who, what, with which features
metrics.jsonl        one line an epoch                          result.json       last, selected, oracle
last.safetensors     the model after the last epoch             selected.safetensors
predictions.csv      each target validation clip                scores.safetensors  probabilities and features
done                 written last
"""

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from cia_extract.errors import DataError, MismatchError, UsageError
from cia_extract.features import differences
from safetensors.torch import load_file, save_file

from cia_adapt import __version__
from cia_adapt.config import Method, Setup
from cia_adapt.data import SealedLabels, Task
from cia_adapt.train import Metrics, Outcome, Snapshot

Result = dict[str, Any]


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
    """Digest of the feature file's datasets that are read."""

    def folder(self, root: Path) -> Path:
        return root / self.setup.name / self.method.name / f"{self.source}-{self.target}" / f"seed{self.seed}"

    def fields(self) -> dict[str, Any]:
        return json.loads(json.dumps(asdict(self)))


def finished(folder: Path, key: RunKey) -> bool:
    """Whether this very run is there already. Raises MismatchError when another one is, listing what differs."""
    if not (folder / "done").exists():
        return False
    there = read_json(folder / "config.json")
    lines = differences(there, key.fields())
    if lines:
        raise MismatchError(
            f"{folder}: holds a run with other settings ({'; '.join(lines)}); pass --overwrite, or --runs for another folder"
        )
    return True


def result_of(key: RunKey, task: Task, outcome: Outcome) -> Result:
    """The three target numbers side by side, in percent. `oracle` alone uses target labels to choose the epoch."""
    assert outcome.last is not None and outcome.selected is not None
    history = outcome.history
    best = max(history, key=lambda metrics: metrics["target_val_accuracy"])
    selected = history[outcome.selected.epoch - 1]
    return {
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
        "selected_by": "accuracy on the source's validation clips, the latest of equal epochs",
        "source_val": selected["source_val_accuracy"],
        "target_val_clips": len(task.target_val),
        "seconds_per_epoch": round(outcome.seconds_per_epoch, 3),
    }


def write(folder: Path, key: RunKey, task: Task, outcome: Outcome, labels: SealedLabels, device: torch.device) -> Result:
    """Write the whole directory under a temporary name, then rename it. Raises UsageError when the disk says no."""
    assert outcome.last is not None and outcome.selected is not None
    result = result_of(key, task, outcome)
    part = folder.with_name(f".{folder.name}.part{os.getpid()}")
    try:
        part.mkdir(parents=True, exist_ok=True)
        _write_json(part / "config.json", key.fields())
        _write_json(part / "result.json", result)
        (part / "metrics.jsonl").write_text("".join(json.dumps(metrics) + "\n" for metrics in outcome.history))
        for name, snapshot in (("last", outcome.last), ("selected", outcome.selected)):
            save_file({k: v.contiguous() for k, v in snapshot.state.items()}, part / f"{name}.safetensors")
        save_file(_scores(outcome.last, outcome.selected), part / "scores.safetensors")
        _write_predictions(part / "predictions.csv", task, outcome, labels)
        _write_json(part / "stamp.json", _stamp(task, labels, device))  # after the last opening of labels
        (part / "done").touch()
        if folder.exists():
            old = part.with_suffix(".old")
            folder.rename(old)
            part.rename(folder)
            shutil.rmtree(old)
        else:
            part.rename(folder)
    except OSError as error:
        shutil.rmtree(part, ignore_errors=True)
        raise UsageError(f"{folder}: {error.strerror or error}; make room or choose another --runs folder") from error
    return result


def read(folder: Path) -> Result:
    """The result of a finished run. Raises DataError."""
    try:
        result: Result = json.loads((folder / "result.json").read_text())
        return result
    except (OSError, ValueError) as error:
        raise DataError(f"{folder}: not a finished run of cia-adapt ({error})") from error


def read_metrics(folder: Path) -> list[Metrics]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


def find(paths: list[Path]) -> list[Path]:
    """All finished runs at or below the given folders, sorted. Raises UsageError when there is none."""
    found = sorted({done.parent for path in paths for done in path.glob("**/done") if done.parent.name[0] != "."})
    if not found:
        raise UsageError(f"no finished run in {', '.join(map(str, paths))}; train one with cia-adapt --features feats.h5")
    return found


def read_json(path: Path) -> dict[str, Any]:
    value: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return value


def load_model(folder: Path, name: str) -> dict[str, torch.Tensor]:
    """The state dict of `last` or `selected`."""
    return load_file(folder / f"{name}.safetensors")


def check_alike(folders: Sequence[Path]) -> None:
    """Refuse to average runs that differ in more than the seed. Raises MismatchError with the fields."""
    first, *others = (read_json(folder / "config.json") | {"seed": None} for folder in folders)
    for folder, config in zip(folders[1:], others, strict=True):
        lines = differences(first, config)
        if lines:
            raise MismatchError(f"{folder} and {folders[0]} differ ({'; '.join(lines)}); report them separately")


def load_scores(folder: Path) -> dict[str, torch.Tensor]:
    return load_file(folder / "scores.safetensors")


def _scores(last: Snapshot, selected: Snapshot) -> dict[str, torch.Tensor]:
    return {
        "last/target_probabilities": last.target.probabilities,
        "selected/target_probabilities": selected.target.probabilities.clone(),
        "selected/source_features": selected.source.features,
        "selected/target_features": selected.target.features,
    }


def _write_predictions(path: Path, task: Task, outcome: Outcome, labels: SealedLabels) -> None:
    assert outcome.last is not None and outcome.selected is not None
    truth = labels.open("the label column of predictions.csv").tolist()
    columns = [snapshot.target.probabilities.argmax(1).tolist() for snapshot in (outcome.last, outcome.selected)]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["clip", "label", "last", "selected"])
        for clip, *numbers in zip(task.target_val.names, truth, *columns, strict=True):
            writer.writerow([clip, *(task.classes[number] if number >= 0 else "" for number in numbers)])


def _stamp(task: Task, labels: SealedLabels, device: torch.device) -> dict[str, Any]:
    """Circumstances of a run; nothing here decides whether two runs are the same."""
    return {
        "argv": sys.argv,
        "version": __version__,
        "git_commit": _git_commit(),
        "feature_file": str(task.target_val.dataset.path.resolve()),
        "classes": list(task.classes),
        "device": torch.cuda.get_device_name(device) if device.type == "cuda" else f"cpu ({platform.machine()})",
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
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
    path.write_text(json.dumps(value, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
