"""The training loop, top to bottom: one source → target pair, one method, one seed."""

from dataclasses import replace
from typing import Any

import numpy as np
import torch
from cia_extract.common.errors import DataError, DivergedError
from torch import Tensor, nn

from cia_adapt import parts
from cia_adapt.config import Method, Setup
from cia_adapt.data import (
    Clips,
    Draw,
    Endless,
    LabelledClips,
    Positions,
    Task,
    announced,
    joined,
    prefetched,
    shifted_frames,
    source_order,
    subset,
    to_device,
)
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import Clusters, Grows, Output, Step, Term
from cia_adapt.parts.layers import GradientReversal
from cia_adapt.parts.objectives import gradient_blend
from cia_adapt.training.evaluate import batches, predict
from cia_adapt.training.health import gradient_ratio

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
        self.reversals = [module for module in self.model.modules() if isinstance(module, GradientReversal)]
        self.parameters = [p for m in (self.model, self.objectives) for p in m.parameters() if p.requires_grad]
        self.optimiser = _optimiser(self.parameters, setup)
        self.batch = min(setup.batch, len(task.source_train.clips))
        self.target_batch = (
            max(1, self.batch * len(task.target_train) // len(task.source_train.clips)) if method.needs_target else 0
        )
        self.steps_per_epoch = -(-len(task.source_train.clips) // self.batch)
        self.steps_total = self.steps_per_epoch * setup.epochs
        self.step = 0
        self.reads_in_thread = device.type != "cpu" or task.source_train.clips.slow or task.target_train.slow
        self._trial = self._plan_trial()
        # A CUDA graph overwrites its outputs at the next call: with two views of a batch the model is compiled without.
        graphs = device.type == "cuda" and not self._views_twice
        self.compiled = torch.compile(self.model, mode="reduce-overhead" if graphs else None) if compiled else None

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
        twice = self._views_twice
        drawn = []
        for first in range(0, len(order), self.batch):
            source = order[first : first + self.batch]
            # The last batch may be smaller; the target's shrinks with it.
            size = max(1, self.target_batch * len(source) // self.batch) if self.target_batch else 0
            target = self.target_sampler.take(size)
            views = [self._frames(len(source), self.source_random) for _ in range(1 + twice)]
            target_views = [self._frames(size, self.target_sampler.random) for _ in range(1 + twice)]
            drawn.append(Draw(source, views[0], target, target_views[0], *((views[1], target_views[1]) if twice else ())))
        return drawn

    @property
    def _views_twice(self) -> bool:
        return any(getattr(objective, "second_view", False) for objective in self.objectives.values())

    def _frames(self, clips: int, random: np.random.Generator) -> Positions:
        return shifted_frames(self.task.source_train.clips.frames, self.setup.segments, clips, random)

    def read(self, draw: Draw) -> list[Inputs]:
        """Source clips, then (where the method looks at them) target clips in the same tensors; for each view."""
        return [joined(view) for view in self._views(draw)]

    def announce(self, draw: Draw) -> None:
        """That it will be read next."""
        for clips, positions, frames in (part for view in self._views(draw) for part in view):
            clips.announce(positions, frames)

    def _views(self, draw: Draw) -> list[list[tuple[Clips, Positions, Positions]]]:
        source, target = self.task.source_train.clips, self.task.target_train
        views = [[(source, draw.source, draw.source_frames), (target, draw.target, draw.target_frames)]]
        if draw.second_source_frames is not None and draw.second_target_frames is not None:
            views.append([(source, draw.source, draw.second_source_frames), (target, draw.target, draw.second_target_frames)])
        return views

    def train_step(self, draw: Draw, views: list[Inputs], probe: bool = False) -> tuple[dict[str, Tensor], dict[str, float]]:
        """One update; metrics as tensors, so that a GPU is not waited for. `probe` adds the gradient norms at the features."""
        if self.setup.lr_decay:
            for group in self.optimiser.param_groups:
                group["lr"] = self.setup.lr * lr_factor(self.step / self.steps_total)
        self._grow()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            outputs = [self._forward(to_device(batch, self.device), len(draw.source)) for batch in views]
            task_loss, domain_loss, metrics = self._losses(outputs, self._step(draw, outputs))
        loss = task_loss if domain_loss is None else task_loss + domain_loss
        if self.device.type == "cpu" and not torch.isfinite(loss):
            raise self._diverged(float(loss.detach()))
        metrics |= {f"{reversal.level}_reversal": reversal.now() for reversal in self.reversals}
        ratio = gradient_ratio(task_loss, domain_loss, outputs[0].frames) if probe else {}
        self.optimiser.zero_grad(set_to_none=True)
        loss.backward()
        if self.setup.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.setup.clip_norm)
        self.optimiser.step()
        self.step += 1
        return metrics, ratio

    def _grow(self) -> None:
        """Tell the discriminators inside the model how far λ has grown."""
        for objective in self.objectives.values():
            if isinstance(objective, Grows):
                for reversal in self.reversals:
                    reversal.growth.copy_(objective.growth(self._progress))

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

    def _losses(self, outputs: list[Output], step: Step) -> tuple[Tensor, Tensor | None, dict[str, Tensor]]:
        """(task, the objectives' sum or None, metrics)."""
        task, domain = None, None
        metrics: dict[str, Tensor] = {}
        for objective in self.objectives.values():
            term: Term = objective(outputs[0], step)
            metrics |= term.metrics
            if getattr(objective, "replaces_class_loss", False):
                task = term.loss
            else:
                domain = term.loss if domain is None else domain + term.loss
        task = outputs[0].class_loss(step.labels) if task is None else task
        return self.method.lambda_class * task, domain, {"class_loss": task.detach()} | metrics

    def _diverged(self, loss: float) -> DivergedError:
        return DivergedError(
            f"{self.task.source} → {self.task.target}: the loss is {loss} at step {self.step + 1}; "
            "start again with a lower --lr (and --overwrite), or look for damaged features with cia-adapt check"
        )

    # --- before the epochs ----------------------------------------------------------------------------------------------

    def cluster(self) -> None:
        """Let objectives that want it cluster the features of all training clips, as they are now."""
        for objective in self.objectives.values():
            if isinstance(objective, Clusters) and self.method.needs_target:
                train, target = self.task.source_train, self.task.target_train
                source, found = (predict(self.model, c, self.setup.segments, self.device).features for c in (train.clips, target))
                objective.cluster(
                    source.to(self.device), torch.from_numpy(train.labels[:, 0]).to(self.device), found.to(self.device)
                )

    @property
    def trial_epochs(self) -> int:
        """Epochs of the run that `prepare` makes beforehand."""
        return 0 if self._trial is None else self._trial[0].options.epochs

    def _plan_trial(self) -> tuple[gradient_blend.GradientBlend, Positions, Positions] | None:
        """G-Blend's objective, and which source clips its trial trains on and holds out; else None. Raises DataError."""
        found = [objective for objective in self.objectives.values() if isinstance(objective, gradient_blend.GradientBlend)]
        if not found:
            return None
        random, share = np.random.default_rng([self.seed, 2]), found[0].options.held_out
        kept, held = gradient_blend.hold_out(self.task.source_train.labels[:, 0], share, random)
        if not len(held):
            raise DataError(
                f"gradient_blend: holds out {share:.0%} of each class, and no class of '{self.task.source}' has "
                "enough training clips; --set gradient_blend.held_out=0.5"
            )
        return found[0], kept, held

    def prepare(self) -> None:
        """What comes before the first epoch: G-Blend's weights, from a trial with equal weights on a part of the source; the
        target takes no part.
        """
        if self._trial is None:
            return
        objective, kept, held = self._trial
        options = objective.options
        train, val = (subset(self.task.source_train, positions) for positions in (kept, held))
        setup = replace(self.setup, epochs=options.epochs)
        method = replace(self.method, objectives=())
        trial = Trainer(replace(self.task, source_train=train), setup, method, self.seed, self.device, self.precision)
        before = trial._class_losses(train, val)
        for _ in range(options.epochs):
            trial.epoch()
        objective.set_weights(gradient_blend.blend_weights(before, trial._class_losses(train, val)))
        torch.manual_seed(self.seed)

    @torch.inference_mode()
    def _class_losses(self, train: LabelledClips, val: LabelledClips) -> gradient_blend.Losses:
        """{stream: (loss on `train`, loss on `val`)}, at centre frames."""
        self.model.eval()
        found = [
            gradient_blend.mean_losses(
                [
                    (self.model(inputs), torch.from_numpy(labelled.labels[positions]).to(self.device))
                    for positions, inputs in batches(labelled.clips, self.setup.segments, self.device)
                ]
            )
            for labelled in (train, val)
        ]
        return {stream: (found[0][stream], found[1][stream]) for stream in found[0]}


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


def _optimiser(parameters: list[nn.Parameter], setup: Setup) -> torch.optim.Optimizer:
    if setup.optimiser == "sgd":
        return torch.optim.SGD(parameters, setup.lr, momentum=0.9, nesterov=True, weight_decay=setup.weight_decay)
    return torch.optim.Adam(parameters, setup.lr, weight_decay=setup.weight_decay)
