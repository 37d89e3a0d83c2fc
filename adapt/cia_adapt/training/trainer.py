"""The training loop, top to bottom: one source → target pair, one method, one seed."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from cia_extract.common.errors import DivergedError
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from cia_adapt import parts
from cia_adapt.config import Method, Setup
from cia_adapt.data import (
    Clips,
    Draw,
    Endless,
    Positions,
    Task,
    announced,
    joined,
    prefetched,
    shifted_frames,
    source_order,
    to_device,
)
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import Described, Objective, Output, Reach, Step, Term
from cia_adapt.parts.layers import GradientReversal
from cia_adapt.training.evaluate import predict
from cia_adapt.training.health import consensus_metrics, gradient_ratio

Metrics = dict[str, Any]

Inputs = dict[str, Tensor]


class Trainer:
    """Model, objectives, optimiser and random states of one run.

    Args:
        precision: fp32, or bf16 for products under autocast.
        compiled: run the model through torch.compile (CUDA graphs on a GPU); a ragged last batch is run as it is.
    """

    def __init__(
        self,
        task: Task,
        setup: Setup,
        method: Method,
        seed: int,
        device: torch.device,
        precision: str = "fp32",
        compiled: bool = False,
    ) -> None:
        self.task, self.setup, self.method, self.device, self.precision, self.seed = task, setup, method, device, precision, seed
        torch.manual_seed(seed)
        # Independent streams, so that a method that never looks at the target draws the same source batches.
        self.source_random = np.random.default_rng([seed, 0])
        self.target_sampler = Endless(len(task.target_train), np.random.default_rng([seed, 1]))
        self.model = VideoModel(method, task.sizes).to(device)
        self.objectives = build_objectives(method, self.model).to(device)
        self.losses: list[Objective] = list(self.objectives.values())  # type: ignore[arg-type]
        self.reversals = [module for module in self.model.modules() if isinstance(module, GradientReversal)]
        self.parameters = [p for m in (self.model, self.objectives) for p in m.parameters() if p.requires_grad]
        self.reached = {reach: _reached(self.model, self.objectives, reach) for reach in {x.reaches for x in self.losses}}
        self.optimiser = _optimiser(self.model, self.losses, setup)
        self.averaged = AveragedModel(self.model, multi_avg_fn=get_ema_multi_avg_fn(setup.average)) if setup.average else None
        self.batch = min(setup.batch, len(task.source_train.clips))
        self.target_batch = (
            max(1, self.batch * len(task.target_train) // len(task.source_train.clips)) if method.needs_target else 0
        )
        self.steps_per_epoch = -(-len(task.source_train.clips) // self.batch)
        self.steps_total = self.steps_per_epoch * setup.epochs
        self.step = 0
        self.reads_in_thread = device.type != "cpu" or task.source_train.clips.slow or task.target_train.slow
        # A CUDA graph overwrites its outputs at the next call: with two views of a batch the model is compiled without.
        graphs = device.type == "cuda" and self._views == 1
        self.compiled = torch.compile(self.model, mode="reduce-overhead" if graphs else None) if compiled else None

    @property
    def evaluated(self) -> VideoModel:
        """The model that is evaluated: the one that is trained, or its average."""
        if self.averaged is None:
            return self.model
        averaged: VideoModel = self.averaged.module  # type: ignore[assignment]
        return averaged

    # --- one epoch ------------------------------------------------------------------------------------------------------

    def epoch(self) -> Metrics:
        """One pass over the source's training clips; means over its steps. Raises DivergedError."""
        self.cluster()
        self.model.train()
        self.objectives.train()
        steps: list[dict[str, Tensor]] = []
        ratio: dict[str, float] = {}
        draws = self.draws()
        batches = prefetched(draws, self.read) if self.reads_in_thread else announced(draws, self.announce, self.read)
        for number, (draw, views) in enumerate(batches):
            metrics, found = self.train_step(draw, views, probe=number == 0)
            views.clear()  # so that the next batch can take their place
            steps.append(metrics)
            ratio |= found
        names = list(steps[0])
        means = torch.stack([torch.stack([m[name].float() for name in names]) for m in steps]).mean(0).tolist()
        if not np.isfinite(means).all():
            raise self._diverged(means[0])
        return dict(zip(names, means, strict=True)) | ratio

    def draws(self) -> list[Draw]:
        """What the batches of the next epoch are made of; this moves the random states on."""
        labels = self.task.source_train.labels[:, 0]
        order = source_order(labels, self.setup.balanced, self.source_random)
        drawn = []
        for first in range(0, len(order), self.batch):
            source = order[first : first + self.batch]
            # The last batch may be smaller; the target's shrinks with it.
            size = max(1, self.target_batch * len(source) // self.batch) if self.target_batch else 0
            target = self.target_sampler.take(size)
            source_frames = [self._frames(len(source), self.source_random) for _ in range(self._views)]
            target_frames = [self._frames(size, self.target_sampler.random) for _ in range(self._views)]
            drawn.append(Draw(source, target, tuple(zip(source_frames, target_frames, strict=True))))
        return drawn

    @property
    def _views(self) -> int:
        """How many samplings of its frames each clip of a batch is read at."""
        return 1 + any(objective.second_view for objective in self.losses)

    def _frames(self, clips: int, random: np.random.Generator) -> Positions:
        return shifted_frames(self.task.source_train.clips.frames, self.setup.segments, clips, random)

    def read(self, draw: Draw) -> list[Inputs]:
        """Of each view the source's clips, then (where the method looks at them) the target's, in the same tensors."""
        return [joined(view) for view in self._reads(draw)]

    def announce(self, draw: Draw) -> None:
        """That it will be read next."""
        for clips, positions, frames in (part for view in self._reads(draw) for part in view):
            clips.announce(positions, frames)

    def _reads(self, draw: Draw) -> list[list[tuple[Clips, Positions, Positions]]]:
        source, target = self.task.source_train.clips, self.task.target_train
        return [
            [(source, draw.source, source_frames), (target, draw.target, target_frames)]
            for source_frames, target_frames in draw.views
        ]

    def train_step(self, draw: Draw, views: list[Inputs], probe: bool = False) -> tuple[dict[str, Tensor], dict[str, float]]:
        """One update; metrics as tensors, so that a GPU is not waited for. `probe` adds the gradient norms at the features."""
        if self.setup.lr_decay:
            for group in self.optimiser.param_groups:
                group["lr"] = group["initial_lr"] * lr_factor(self.step / self.steps_total)
        self._grow()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            outputs = [self._forward(to_device(batch, self.device), len(draw.source)) for batch in views]
            task_loss, other_losses, metrics = self._losses(outputs, self._step(draw, outputs))
        loss = torch.stack([task_loss, *other_losses.values()]).sum()
        if self.device.type == "cpu" and not torch.isfinite(loss):
            raise self._diverged(float(loss.detach()))
        metrics |= {f"{reversal.level}_reversal": reversal.now() for reversal in self.reversals}
        ratio = gradient_ratio(task_loss, list(other_losses.values()), outputs[0].frames) if probe else {}
        self.optimiser.zero_grad(set_to_none=True)
        self._backward(task_loss, other_losses)
        if self.setup.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.setup.clip_norm)
        self.optimiser.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)
        self.step += 1
        return metrics, ratio

    def _backward(self, task: Tensor, others: Mapping[Reach, Tensor]) -> None:
        """Add up the gradients, those of a loss that does not reach everything first.

        The last backward pass reaches everything, as distributed training wants it.
        """
        for reach, loss in others.items():
            if reach != "everything":
                loss.backward(retain_graph=True, inputs=self.reached[reach])
        (task + others["everything"] if "everything" in others else task).backward()

    def _grow(self) -> None:
        """Tell the discriminators inside the model how far λ has grown."""
        for growth in (objective.growth(self._progress) for objective in self.losses):
            if growth is not None:
                for reversal in self.reversals:
                    reversal.growth.copy_(growth)

    def _forward(self, inputs: Inputs, source_clips: int) -> Output:
        run = self.compiled if self.compiled is not None and source_clips == self.batch else self.model
        output: Output = run(inputs)
        return output

    @property
    def _progress(self) -> Tensor:
        return torch.tensor(self.step / self.steps_total, device=self.device)

    def _step(self, draw: Draw, outputs: list[Output]) -> Step:
        count = len(draw.source) + len(draw.target)
        return Step(
            torch.from_numpy(self.task.source_train.labels[draw.source]).to(self.device),
            torch.arange(count, device=self.device) >= len(draw.source),
            torch.from_numpy(draw.target).to(self.device),
            self._progress,
            outputs[1] if len(outputs) > 1 else None,
        )

    def _losses(self, outputs: list[Output], step: Step) -> tuple[Tensor, dict[Reach, Tensor], dict[str, Tensor]]:
        """(task, {what they reach: the sum of such objectives}, metrics)."""
        task, others = None, dict[Reach, Tensor]()
        metrics = consensus_metrics(outputs[0].consensus, len(step.labels))
        for objective in self.losses:
            term: Term = objective(outputs[0], step)
            metrics |= term.metrics
            if objective.replaces_class_loss:
                task = term.loss
            else:
                reach = objective.reaches
                others[reach] = others[reach] + term.loss if reach in others else term.loss
        task = outputs[0].class_loss(step.labels, self.setup.smoothing) if task is None else task
        return self.method.lambda_class * task, others, {"class_loss": task.detach()} | metrics

    def _diverged(self, loss: float) -> DivergedError:
        return DivergedError(
            f"{self.task.source} → {self.task.target}: the loss is {loss} at step {self.step + 1}; "
            "start again with a lower --lr (and --overwrite), or look for damaged features with cia-adapt check"
        )

    # --- before each epoch ----------------------------------------------------------------------------------------------

    def cluster(self) -> None:
        """Let objectives that want it cluster all training clips, as the model describes them now."""
        clustering = [objective for objective in self.losses if objective.clusters]
        if not clustering or not self.method.needs_target:
            return
        train = self.task.source_train
        source, target = (self._described(clips) for clips in (train.clips, self.task.target_train))
        labels = torch.from_numpy(train.labels[:, 0]).to(self.device)
        for objective in clustering:
            objective.cluster(source, labels, target)

    def _described(self, clips: Clips) -> Described:
        prediction = predict(self.model, clips, self.setup.segments, self.device)
        probabilities = tuple(p.to(self.device) for p in prediction.probabilities)
        return Described(prediction.features.to(self.device), probabilities)


def build_objectives(method: Method, model: VideoModel) -> nn.ModuleDict:
    """{name: module} of the losses beside the source's cross-entropy, in the method's order. Raises UsageError."""
    built = {}
    for name in method.objectives:
        options = parts.options("objectives", name, method.option(name))
        built[name] = parts.find("objectives", name).build(model.sizes, options)
    return nn.ModuleDict(built)


def lr_factor(progress: float) -> float:
    """(1 + 10p)^−0.75, DANN's schedule.

    >>> round(lr_factor(0.1), 6), round(lr_factor(1.0), 6)
    (0.594604, 0.16556)
    """
    return float((1 + 10 * progress) ** -0.75)


def _reached(model: VideoModel, objectives: nn.Module, reach: Reach) -> list[nn.Parameter]:
    """The parameters that the gradient of a loss trains. A part's own discriminators stand behind the gradient's reversal."""
    shut = {"everything": (), "all_but_pooling": ("pooling",), "shared": ("refinement", "pooling")}[reach]
    trained = [p for name, p in model.named_parameters() if name.split(".")[0] not in shut or "discriminators" in name.split(".")]
    return [p for p in (*trained, *objectives.parameters()) if p.requires_grad]


def _optimiser(model: VideoModel, objectives: list[Objective], setup: Setup) -> torch.optim.Optimizer:
    """Over the model and the objectives, each of these with its own factor of the learning rate and its own β₁."""
    groups: list[dict[str, Any]] = [{"params": [p for p in model.parameters() if p.requires_grad], "initial_lr": setup.lr}]
    for objective in objectives:
        own: dict[str, Any] = {"params": list(objective.parameters()), "initial_lr": setup.lr * objective.lr_factor}
        if setup.optimiser == "adam":
            own["betas"] = objective.beta1, 0.999
        groups.append(own)
    groups = [group | {"lr": group["initial_lr"]} for group in groups if group["params"]]
    if setup.optimiser == "sgd":
        return torch.optim.SGD(groups, setup.lr, momentum=0.9, nesterov=True, weight_decay=setup.weight_decay)
    return torch.optim.Adam(groups, setup.lr, weight_decay=setup.weight_decay)
