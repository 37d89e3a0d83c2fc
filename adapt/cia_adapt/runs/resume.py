"""A run's whole state as tensors and JSON, and a trainer brought back to it: training continues bit for bit."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from cia_extract.common import differences, writes
from cia_extract.common.errors import MismatchError
from torch import Tensor

import cia_adapt.runs.files as files
import cia_adapt.runs.state as state
from cia_adapt.data import SealedLabels
from cia_adapt.runs.files import read_config
from cia_adapt.runs.folder import ROOM, unfinished_folder, write_json
from cia_adapt.runs.key import RunKey, same_run
from cia_adapt.training import Outcome, Prediction, Snapshot, Trainer, best_epoch


@dataclass(frozen=True)
class Packed:
    """The state of a run between two epochs. Nothing in it changes when training continues."""

    tensors: Mapping[str, Tensor]
    """Weights, the optimiser's state, random states and snapshots, by names such as "model/…" and "optimiser/…"."""
    rest: Mapping[str, Any]
    """What JSON holds: history, samplers, steps, openings of target labels, circumstances."""

    @property
    def epoch(self) -> int:
        """Number of epochs that are done."""
        return len(self.rest["history"])


def pack(trainer: Trainer, outcome: Outcome, labels: SealedLabels, circumstances: Mapping[str, Any]) -> Packed:
    """The state of a run after an epoch: model, objectives, optimiser, random states, samplers, history and both snapshots.

    `circumstances` are no settings of the run, but decide whether it continues bit for bit.
    """
    tensors = {
        **state.prefixed(_copied(trainer.model.state_dict()), "model"),
        **state.prefixed(_copied(trainer.objectives.state_dict()), "objectives"),
        **state.prefixed(state.optimiser_tensors(trainer.optimiser), "optimiser"),
        **state.prefixed(state.random_tensors(trainer.device), "random"),
    }
    if trainer.averaged is not None:
        tensors |= state.prefixed(_copied(trainer.averaged.state_dict()), "averaged")
    epochs = {}
    for name, snapshot in (("last", outcome.last), ("selected", outcome.selected)):
        assert snapshot is not None
        epochs[name] = snapshot.epoch
        if name == "selected" and snapshot is outcome.last:
            continue
        if name == "selected":  # the last epoch's is the model itself, or its average
            tensors |= state.prefixed(_copied(snapshot.state), "selected.state")
        for domain, prediction in (("source", snapshot.source), ("target", snapshot.target)):
            scores = {f"p{i}": p for i, p in enumerate(prediction.probabilities)} | {"features": prediction.features}
            tensors |= state.prefixed(scores, f"{name}.{domain}")
    rest = {
        "step": trainer.step,
        "left_source_after": trainer.left_source_after,
        "source_random": trainer.source_random.bit_generator.state,
        "target_sampler": trainer.target_sampler.state(),
        "history": [dict(metrics) for metrics in outcome.history],
        "epochs": epochs,
        "target_labels_opened": dict(labels.openings),
        "circumstances": dict(circumstances),
    }
    return Packed(tensors, rest)


def unpack(packed: Packed, trainer: Trainer, labels: SealedLabels, where: Path = Path("state.safetensors")) -> Outcome:
    """Bring a new trainer of the same run to the packed state and return the outcome so far.

    `where` is the state's file, for messages. Raises DataError for a state that does not fit the run; the trainer is unusable
    then.
    """
    try:
        outcome = _unpack(packed, trainer, labels)
        _check(outcome, trainer, where)
    except (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError) as error:
        raise state.unusable(where, error) from error
    return outcome


def _check(outcome: Outcome, trainer: Trainer, where: Path) -> None:
    """Raise DataError or ValueError where history, steps, samplers and snapshots do not fit each other or the trainer."""
    history, task = outcome.history, trainer.task
    for number, metrics in enumerate(history, 1):
        files.check_metrics(where, metrics)
        if metrics["epoch"] != number:
            raise ValueError("its epochs are not counted from 1")
    left = trainer.left_source_after
    if left and not (trainer.losses and 0 < left < len(history)):
        raise ValueError("it leaves the source where the run does not")
    if trainer.step != (len(history) - left) * trainer.steps_per_epoch:
        raise ValueError("its steps do not fit its epochs")
    waiting = trainer.target_sampler.waiting
    if waiting.ndim != 1 or (len(waiting) and not 0 <= waiting.min() <= waiting.max() < len(task.target_train)):
        raise ValueError("its order of target clips is of other clips")
    best_epoch(history, trainer.setup.select)
    for snapshot in (outcome.last, outcome.selected):
        assert snapshot is not None
        if not 1 <= snapshot.epoch <= len(history):
            raise ValueError("its snapshots are of epochs that it does not have")
        model = trainer.model.state_dict()
        if {name: value.shape for name, value in snapshot.state.items()} != {name: v.shape for name, v in model.items()}:
            raise ValueError("its selected model is of another network")
        for prediction, clips in ((snapshot.source, task.source_val.clips), (snapshot.target, task.target_val)):
            shapes = [(len(clips), len(classes)) for classes in task.classes.values()]
            if [tuple(p.shape) for p in prediction.probabilities] != shapes or len(prediction.features) != len(clips):
                raise ValueError("its predictions are of other clips")


def _unpack(packed: Packed, trainer: Trainer, labels: SealedLabels) -> Outcome:
    tensors, rest = packed.tensors, packed.rest
    if rest.get("left_source_after"):  # states of versions before do not have it
        trainer.leave_source(rest["left_source_after"])
    trainer.model.load_state_dict(state.under(tensors, "model"))
    if trainer.averaged is not None:
        trainer.averaged.load_state_dict(state.under(tensors, "averaged"))
    trainer.objectives.load_state_dict(state.under(tensors, "objectives"))
    state.restore_optimiser(trainer.optimiser, state.under(tensors, "optimiser"))
    state.restore_random(state.under(tensors, "random"), trainer.device)
    trainer.step = rest["step"]
    trainer.source_random.bit_generator.state = rest["source_random"]
    trainer.target_sampler.restore(rest["target_sampler"])
    labels.openings = Counter(rest["target_labels_opened"])
    last = _snapshot(packed, "last", _copied(trainer.evaluated.state_dict()))
    same = rest["epochs"]["selected"] == rest["epochs"]["last"]
    return Outcome(rest["history"], last, last if same else _snapshot(packed, "selected", state.under(tensors, "selected.state")))


def _snapshot(packed: Packed, name: str, model: dict[str, Tensor]) -> Snapshot:
    """The snapshot `name`, "last" or "selected", of a packed run."""
    tensors, epoch = packed.tensors, packed.rest["epochs"][name]
    predictions = []
    for domain in ("source", "target"):
        scores = state.under(tensors, f"{name}.{domain}")
        predictions.append(Prediction(tuple(scores[f"p{i}"] for i in range(len(scores) - 1)), scores["features"]))
    return Snapshot(epoch, model, *predictions)


def _copied(tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Copies in the machine's memory, which training does not change."""
    return {
        name: value.detach().to("cpu", copy=True) if isinstance(value, torch.Tensor) else value for name, value in tensors.items()
    }


def save_state(folder: Path, key: RunKey, packed: Packed) -> None:
    """Write the state of an unfinished run. Raises UsageError where the disk refuses; the state before is then still there."""
    working = unfinished_folder(folder)
    with writes.translated(str(folder), ROOM):
        working.mkdir(parents=True, exist_ok=True)
        write_json(working / "config.json", key.fields())
        state.save(working / "state.safetensors", packed.tensors, packed.rest)


def interrupted(folder: Path) -> bool:
    """Whether the run of this folder has the state of an unfinished training."""
    return (unfinished_folder(folder) / "state.safetensors").exists()


def load_state(folder: Path, key: RunKey, circumstances: Mapping[str, Any]) -> Packed:
    """The state of an interrupted run, or of a finished one that is to get more epochs.

    Raises MismatchError for a run of another key, in other circumstances, without a state, or with more epochs than asked for;
    DataError for a damaged state.
    """
    working = unfinished_folder(folder) if interrupted(folder) else folder
    if not (working / "state.safetensors").exists():
        raise MismatchError(f"{folder}: was finished without keeping its state and cannot continue; --overwrite trains it again")
    same_run(folder, read_config(working), key, extend=True)
    packed = Packed(*state.load(working / "state.safetensors"))
    differing = differences.between(packed.rest.get("circumstances", circumstances), circumstances)  # older states have none
    if differing:
        raise MismatchError(
            f"{folder}: would not continue as it began ({differences.listed(differing)}); give the same flags, or start again "
            "with --overwrite"
        )
    if packed.epoch > key.setup.epochs:
        raise MismatchError(
            f"{folder}: has trained {packed.epoch} epochs, more than --epochs {key.setup.epochs}; give at least as many"
        )
    return packed
