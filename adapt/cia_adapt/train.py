"""The training loop, top to bottom: one source → target pair, one method, one seed."""

import copy
import itertools
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from cia_extract.errors import DivergedError
from torch import Tensor, nn

from cia_adapt.config import Method, Setup
from cia_adapt.data import Task, shifted_frames
from cia_adapt.evaluate import Evaluator, Prediction
from cia_adapt.model import Output, VideoModel
from cia_adapt.objectives.adversarial import AdversarialAlignment

Metrics = dict[str, float]


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


class Trainer:
    """Model, alignment, optimiser and random states of one run."""

    def __init__(self, task: Task, setup: Setup, method: Method, seed: int, device: torch.device) -> None:
        self.task, self.setup, self.method, self.device = task, setup, method, device
        torch.manual_seed(seed)
        # Independent streams, so that a method that never looks at the target draws the same source batches.
        self.source_random, self.target_random = (np.random.default_rng([seed, domain]) for domain in (0, 1))
        self.model = VideoModel(method, task.modalities, task.channels, len(task.classes), setup.dropout).to(device)
        self.alignment: AdversarialAlignment | None = None
        if method.alignment == "adversarial":
            self.alignment = AdversarialAlignment(
                self.model.streams, method.discriminator_hidden, method.lambda_video, method.lambda_frame
            ).to(device)
        self.parameters = [*self.model.parameters(), *(self.alignment.parameters() if self.alignment else ())]
        self.optimiser = _optimiser(self.parameters, setup)
        self.batch = min(setup.batch, len(task.source_train.clips))
        self.target_batch = max(1, self.batch * len(task.target_train) // len(task.source_train.clips))
        self.steps_per_epoch = -(-len(task.source_train.clips) // self.batch)
        self.steps_total = self.steps_per_epoch * setup.epochs
        self.target_batches = endless_batches(len(task.target_train), self.target_batch, self.target_random)
        self.step = 0

    def epoch(self) -> Metrics:
        """One pass over the source's training clips; means over its steps."""
        self.model.train()
        order = self.source_random.permutation(len(self.task.source_train.clips))
        steps = [self.train_step(order[first : first + self.batch]) for first in range(0, len(order), self.batch)]
        return {key: float(np.mean([metrics[key] for metrics in steps])) for key in steps[0]}

    def train_step(self, positions: npt.NDArray[np.int64]) -> Metrics:
        labels = torch.from_numpy(self.task.source_train.labels[positions]).to(self.device)
        inputs, is_target = self._inputs(positions)
        if self.setup.lr_decay:
            for group in self.optimiser.param_groups:
                group["lr"] = self.setup.lr * lr_factor(self.step / self.steps_total)
        output = self.model(inputs)
        class_loss = output.class_loss(labels)
        loss = self.method.lambda_class * class_loss
        metrics = {"class_loss": float(class_loss.detach())}
        if self.alignment is not None:
            loss = loss + self._align(output, is_target, metrics)
        if not torch.isfinite(loss):
            raise DivergedError(
                f"{self.task.source} → {self.task.target}: the loss is {float(loss.detach())} at step {self.step + 1}; "
                "lower --lr, or look for damaged features with cia-extract verify"
            )
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.setup.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.setup.clip_norm)
        self.optimiser.step()
        self.step += 1
        return metrics

    def _inputs(self, positions: npt.NDArray[np.int64]) -> tuple[dict[str, Tensor], Tensor]:
        """Source clips, then (where the method aligns) target clips in the same tensors; and which are which, [B]."""
        source, frames = self.task.source_train.clips, self._frames(len(positions), self.source_random)
        batches = [source.batch(positions, frames)]
        if self.method.needs_target:
            positions_t = next(self.target_batches)
            batches.append(self.task.target_train.batch(positions_t, self._frames(len(positions_t), self.target_random)))
        inputs = {m: torch.cat([batch[m] for batch in batches]).to(self.device) for m in self.task.modalities}
        total = len(next(iter(inputs.values())))
        return inputs, torch.arange(total, device=self.device) >= len(positions)

    def _frames(self, clips: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
        return shifted_frames(self.task.source_train.clips.frames, self.setup.segments, clips, random)

    def _align(self, output: Output, is_target: Tensor, metrics: Metrics) -> Tensor:
        assert self.alignment is not None
        total = torch.zeros((), device=self.device)
        for level, features in (("video", output.videos), ("frame", output.frames)):
            result = self.alignment(level, features, is_target)
            total = total + result.loss
            metrics[f"{level}_domain_loss"] = float(result.loss.detach())
            metrics[f"{level}_domain_accuracy"] = 100 * result.accuracy
        return total


def train(trainer: Trainer, evaluator: Evaluator, report: Callable[[Metrics], None]) -> Outcome:
    """Train one run. `report` gets each epoch's metrics. Raises DivergedError when the loss is not finite.

    `selected` is the epoch of best accuracy on the source's validation clips, the latest of equals: no target label takes
    part. The target's accuracy goes into the history, for the curve and for the oracle, and nowhere else.
    """
    outcome = Outcome()
    best = -1.0
    began = time.perf_counter()
    for epoch in range(1, trainer.setup.epochs + 1):
        metrics: Metrics = {"epoch": epoch, **trainer.epoch(), "lr": trainer.optimiser.param_groups[0]["lr"]}
        source, metrics["source_val_accuracy"] = evaluator.source(trainer.model)
        target, metrics["target_val_accuracy"] = evaluator.target(trainer.model)
        outcome.last = Snapshot(epoch, _copy(trainer.model), source, target)
        if metrics["source_val_accuracy"] >= best:
            best, outcome.selected = metrics["source_val_accuracy"], outcome.last
        outcome.history.append(metrics)
        report(metrics)
    outcome.seconds_per_epoch = (time.perf_counter() - began) / trainer.setup.epochs
    return outcome


def lr_factor(progress: float) -> float:
    """(1 + 10p)^−0.75, DANN's schedule.

    >>> round(lr_factor(0.1), 6), round(lr_factor(1.0), 6)
    (0.594604, 0.16556)
    """
    return float((1 + 10 * progress) ** -0.75)


def endless_batches(count: int, size: int, random: np.random.Generator) -> Iterator[npt.NDArray[np.int64]]:
    """Batches over 0 … count−1 in random order, shuffled anew after each pass; every batch is full."""
    stream = itertools.chain.from_iterable(random.permutation(count) for _ in itertools.count())
    while True:
        yield np.fromiter(itertools.islice(stream, size), dtype=np.int64, count=size)


def _optimiser(parameters: list[nn.Parameter], setup: Setup) -> torch.optim.Optimizer:
    if setup.optimiser == "sgd":
        return torch.optim.SGD(parameters, setup.lr, momentum=0.9, nesterov=True, weight_decay=setup.weight_decay)
    return torch.optim.Adam(parameters, setup.lr, weight_decay=setup.weight_decay)


def _copy(model: nn.Module) -> dict[str, Tensor]:
    return copy.deepcopy({name: value.detach().cpu() for name, value in model.state_dict().items()})
