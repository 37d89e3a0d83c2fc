"""Writing the folder of a finished run, whole or not at all."""

import csv
import json
import os
import platform
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from cia_extract import __version__
from cia_extract.common import spreadsheets, writes
from cia_extract.common.processes import uninterrupted
from safetensors.torch import save_file

import cia_adapt.runs.backbone as backbone
import cia_adapt.runs.checksums as checksums
import cia_adapt.runs.state as state
from cia_adapt.data import SealedLabels, Task
from cia_adapt.footage import FrameDataset
from cia_adapt.runs.correlations import validator_correlations
from cia_adapt.runs.folder import ROOM, Result, unfinished_folder, write_json
from cia_adapt.runs.key import RunKey
from cia_adapt.runs.resume import Packed
from cia_adapt.training import Evaluator, Outcome, Snapshot, Trainer, counted


def result_of(key: RunKey, task: Task, outcome: Outcome, evaluator: Evaluator, trainer: Trainer) -> Result:
    """What result.json holds: the target's accuracies in % at the last, the selected and the best epoch, and what belongs to
    them.

    `last` and `selected` use no target label to choose the epoch; `oracle` does. All are None where the target has no labels.
    """
    assert outcome.last is not None and outcome.selected is not None
    history = outcome.history
    best = _best(counted(history))
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
        "oracle": best["target_val_accuracy"] if best else None,
        "selected_epoch": outcome.selected.epoch,
        "oracle_epoch": int(best["epoch"]) if best else None,
        "selected_by": f"{rule}, the latest of equal epochs" if rule != "last" else "the last epoch",
        "source_val": selected["source_val_accuracy"],
        "target_val_clips": len(task.target_val),
        "target_val_clips_adapted_to": task.tested_and_adapted_to if key.method.needs_target else 0,
        "trained_on_target_labels": key.method.supervision == "target",
        "parameters": sum(p.numel() for p in trainer.parameters),
        "seconds_per_epoch": round(outcome.seconds_per_epoch, 3),
        "validators": validator_correlations(counted(history)),
        "advice": history[-1]["advice"],
    }
    if by_source := evaluator.accuracy_by_source(outcome.selected.source):
        result["source_val_by_source"] = by_source
    if told := backbone.line(trainer):
        result["backbone"] = told
    if len(task.classes) > 1:
        for name, snapshot in (("last", outcome.last), ("selected", outcome.selected)):
            result[f"{name}_by_label"] = evaluator.target_scores(snapshot.target)
    return result


def _best(history: Sequence[Mapping[str, Any]]) -> Mapping[str, Any] | None:
    """The epoch of the highest accuracy on the target; None where its clips have no labels."""
    known = [metrics for metrics in history if metrics["target_val_accuracy"] is not None]
    return max(known, key=lambda metrics: metrics["target_val_accuracy"], default=None)


def write(
    folder: Path,
    key: RunKey,
    trainer: Trainer,
    outcome: Outcome,
    evaluator: Evaluator,
    packed: Packed | None,
) -> Result:
    """Write a run's folder under a temporary name, then rename it; return its result.

    With `packed` the folder has a state from which more epochs can follow. Raises UsageError where the disk refuses; the state of
    the unfinished run then stays where it is.
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
        shutil.rmtree(part, ignore_errors=True)  # after an error it would take up space
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
    """Write all files of a finished run into `part`. Raises what the disk and safetensors raise."""
    assert outcome.last is not None and outcome.selected is not None
    task = trainer.task
    write_json(part / "config.json", key.fields() | {"classes": task.classes})
    write_json(part / "result.json", result)
    writes.text(part / "metrics.jsonl", "".join(json.dumps(metrics) + "\n" for metrics in outcome.history))
    for name, snapshot in (("last", outcome.last), ("selected", outcome.selected)):
        with writes.whole(part / f"{name}.safetensors") as file:
            save_file({k: v.contiguous() for k, v in snapshot.state.items()}, file)
    backbone.write(part, key, trainer, outcome.selected)
    with writes.whole(part / "scores.safetensors") as file:
        save_file(_scores(task, outcome.last, outcome.selected), file)
    _write_predictions(part / "predictions.csv", task, outcome, labels)
    if packed is not None:
        state.save(part / "state.safetensors", packed.tensors, packed.rest)
    write_json(part / "stamp.json", _stamp(trainer, labels))  # after the last opening of labels
    checksums.write(part)


def _put_in_place(part: Path, folder: Path) -> None:
    """Rename a complete run to its name, in place of an older one, and remove the unfinished run's state.

    A process that is killed in the midst leaves them all under names that `lock.claimed` puts right.
    """
    if folder.exists():
        old = part.with_suffix(".old")
        folder.rename(old)
        part.rename(folder)
        shutil.rmtree(old)
    else:
        part.rename(folder)
    (unfinished_folder(folder) / "state.safetensors").unlink(missing_ok=True)


def _scores(task: Task, last: Snapshot, selected: Snapshot) -> dict[str, torch.Tensor]:
    """What scores.safetensors holds: features [N_s, D] and [N_t, D], and the target's class probabilities [N_t, K]."""
    scores = {"selected/source_features": selected.source.features, "selected/target_features": selected.target.features}
    for name, snapshot in (("last", last), ("selected", selected)):
        for column, p in zip(task.classes, snapshot.target.probabilities, strict=True):
            scores[f"{name}/target_probabilities/{column}"] = p
    return {name: value.clone() for name, value in scores.items()}  # `last` and `selected` may share their tensors


def _write_predictions(path: Path, task: Task, outcome: Outcome, labels: SealedLabels) -> None:
    """Write predictions.csv: clip, then label, last and selected; with several labels three columns each, named after it."""
    assert outcome.last is not None and outcome.selected is not None
    truth = labels.open("the label column of predictions.csv")
    header, columns = ["clip"], [task.target_val.names]
    for i, (column, classes) in enumerate(task.classes.items()):
        header += [column, "last", "selected"] if len(task.classes) == 1 else [column, f"{column}_last", f"{column}_selected"]
        numbers = [
            truth[:, i].tolist(),
            *(s.target.probabilities[i].argmax(1).tolist() for s in (outcome.last, outcome.selected)),
        ]
        columns += [[classes[number] if number >= 0 else "" for number in column_numbers] for column_numbers in numbers]
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        for cells in (header, *zip(*columns, strict=True)):
            writer.writerow(map(spreadsheets.cell, map(str, cells)))


def _stamp(trainer: Trainer, labels: SealedLabels) -> dict[str, Any]:
    """What stamp.json holds: the circumstances of a run, none of which decides whether two runs are the same."""
    task, device, trunk = trainer.task, trainer.device, trainer.model.trunk
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
    } | ({"backbone": trunk.origin, "clips": _clips(task)} if trunk is not None else {})


def _clips(task: Task) -> list[dict[str, str]]:
    """Where the clips of both domains are, for predictions of more of them."""
    source, target = task.source_train.clips.dataset, task.target_val.dataset
    members = (*getattr(source, "members", (source,)), target)
    origins = [dataset.origin for dataset in members if isinstance(dataset, FrameDataset)]
    return [origin for number, origin in enumerate(origins) if origin not in origins[:number]]


def _git_commit() -> str | None:
    """The commit of the code, where it runs from a checkout."""
    command = ["git", "-C", str(Path(__file__).parent), "describe", "--always", "--dirty", "--abbrev=40"]
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None
