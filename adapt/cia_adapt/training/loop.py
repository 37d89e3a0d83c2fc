"""The training loop over epochs."""

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from cia_adapt.training.evaluate import Evaluator, Prediction
from cia_adapt.training.health import advice, predictions
from cia_adapt.training.phases import counted
from cia_adapt.training.pilot import prepare
from cia_adapt.training.trainer import Metrics, Trainer
from cia_adapt.training.validators import deep_embedded_validation, of_target


@dataclass(frozen=True)
class Snapshot:
    """The model at one epoch and what it predicts for the validation clips of both domains."""

    epoch: int
    state: dict[str, Tensor]
    source: Prediction
    target: Prediction


@dataclass
class Outcome:
    """What a run leaves behind."""

    history: list[Metrics] = field(default_factory=list)
    last: Snapshot | None = None
    selected: Snapshot | None = None
    seconds_per_epoch: float = 0.0


def train(
    trainer: Trainer,
    evaluator: Evaluator,
    report: Callable[[Metrics], None],
    outcome: Outcome | None = None,
    after_epoch: Callable[[Outcome], None] = lambda outcome: None,
    with_validators: bool = True,
) -> Outcome:
    """Train one run, or go on with `outcome`. `report` gets each epoch's metrics. Raises DivergedError when the loss is not
    finite.

    `selected` is the epoch that is best by the set-up's rule, the latest of equals: no target label takes part. The target's
    accuracy goes into the history, for the curve and for the oracle, and nowhere else.

    Of a source-free method only epochs after the source has been left can be selected. The source's validation clips are
    evaluated then too, for the record: nothing is trained on them.
    """
    outcome = outcome or Outcome()
    rule = trainer.setup.select
    first = len(outcome.history)
    if not first:
        prepare(trainer)
    began = time.perf_counter()
    for epoch in range(first + 1, trainer.setup.epochs + 1):
        metrics: Metrics = {"epoch": epoch, **trainer.epoch(), "lr": trainer.optimiser.param_groups[0]["lr"]}
        source, target = (
            evaluator.predict(trainer.evaluated, clips) for clips in (trainer.task.source_val.clips, trainer.task.target_val)
        )
        metrics["source_val_accuracy"] = evaluator.source_accuracy(source)
        metrics |= {f"source_val_accuracy/{name}": value for name, value in evaluator.accuracy_by_source(source).items()}
        metrics |= _without_labels(trainer, evaluator, source, target, with_validators, rule)
        metrics["target_val_accuracy"] = evaluator.target_accuracy(target)
        history = [*outcome.history, metrics]
        progress, options = epoch / trainer.setup.epochs, trainer.method.options
        said = advice(history, trainer.task.sizes.heads[0], progress, trainer.setup.reversal, options)
        metrics["advice"] = str(said or "")
        outcome.last = Snapshot(epoch, _copy(trainer.evaluated), source, target)
        outcome.history.append(metrics)
        if best_epoch(outcome.history, rule) == epoch:
            outcome.selected = outcome.last
        after_epoch(outcome)
        report(metrics)
    outcome.seconds_per_epoch = (time.perf_counter() - began) / max(1, len(outcome.history) - first)
    return outcome


def _without_labels(
    trainer: Trainer, evaluator: Evaluator, source: Prediction, target: Prediction, with_validators: bool, rule: str
) -> Metrics:
    """Health of the target's predictions and the validators, from one forward over the target's training clips."""
    if not with_validators and rule in ("source_val", "last"):
        return predictions(target.probabilities[0])
    train = evaluator.predict(trainer.evaluated, trainer.task.target_train)
    scores = {"source_val": source.accuracy(trainer.task.source_val.labels)} | of_target(train.probabilities, train.features)
    if rule == "dev":
        truth = torch.from_numpy(trainer.task.source_val.labels[:, :1])
        right = source.probabilities[0].gather(1, truth.clamp_min(0)).clamp_min(1e-12)
        loss = -torch.where(truth < 0, 1e-12, right).log()[:, 0]
        source_train = evaluator.predict(trainer.evaluated, trainer.task.source_train.clips)
        scores["dev"] = deep_embedded_validation(source_train.features, train.features, source.features, loss)
    return predictions(train.probabilities[0]) | {f"validator_{name}": value for name, value in scores.items()}


def best_epoch(history: list[Metrics], rule: str) -> int:
    """The epoch a rule selects among those that count: the latest of equals; `last` is the last."""
    if rule == "last":
        return int(history[-1]["epoch"])
    key = "source_val_accuracy" if rule == "source_val" else f"validator_{rule}"
    eligible = counted(history)
    best = max(metrics[key] for metrics in eligible)
    return int(next(metrics["epoch"] for metrics in reversed(eligible) if metrics[key] == best))


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy({name: value.detach().cpu() for name, value in model.state_dict().items()})
