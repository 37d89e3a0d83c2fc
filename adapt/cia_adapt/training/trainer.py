"""The training loop, top to bottom: one source → target pair, one method, one seed."""

from collections.abc import Mapping
from copy import deepcopy
from typing import Any, Final

import numpy as np
import torch
from cia_extract.common.errors import DivergedError
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

import cia_adapt.training.reading as reading
import cia_adapt.training.together as together
from cia_adapt import parts
from cia_adapt.config import Method, Setup
from cia_adapt.data import Clips, Draw, Endless, Positions, Task, announced, prefetched, shifted_frames, source_order, to_device
from cia_adapt.footage import Crops, Trunk
from cia_adapt.footage import draw as draw_crops
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import Objective, Output, Reach, Step, Term
from cia_adapt.parts.layers import GradientReversal
from cia_adapt.training.clustering import cluster
from cia_adapt.training.compiling import compiled_model
from cia_adapt.training.health import consensus_metrics, features_of, gradient_ratio
from cia_adapt.training.initialise import initialise_shared_layers
from cia_adapt.training.optimisers import optimiser_of, reached, set_rate
from cia_adapt.training.phases import build_objectives, check_fits, source_epochs
from cia_adapt.training.reading import Inputs

Metrics = dict[str, Any]

NO_CLIPS: Final = np.empty(0, dtype=np.int64)


class Trainer:
    """Model, objectives, optimiser and random states of one run.

    A run has one phase, or two where an objective is source-free: the first trains on the source, the second on the target alone.
    Each has its objectives, its optimiser, its schedule and its average of the weights; the weights go on.

    Args:
        precision: fp32, or bf16 for products under autocast.
        compiled: run the model through torch.compile (CUDA graphs on a GPU); a ragged last batch is run as it is.
        trunk: the backbone with its first weights, where clips train it; a copy of it is trained.
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
        trunk: Trunk | None = None,
    ) -> None:
        self.task, self.setup, self.method, self.device, self.precision, self.seed = task, setup, method, device, precision, seed
        torch.manual_seed(seed)
        # Independent streams, so that a method that never looks at the target draws the same source batches.
        self.source_random = np.random.default_rng([seed, 0])
        self.target_sampler = Endless(len(task.target_train), np.random.default_rng([seed, 1]))
        self.untrained = trunk
        self.model = VideoModel(method, task.sizes, deepcopy(trunk)).to(device)
        initialise_shared_layers(self.model, task.source_train.clips, setup, device)
        if setup.batch_norm == "synchronised" and together.size() > 1:
            self.model.trunk = nn.SyncBatchNorm.convert_sync_batchnorm(self.model.trunk)
        self.objectives = build_objectives(method, self.model).to(device)
        self.every: list[Objective] = list(self.objectives.values())  # type: ignore[arg-type]
        check_fits(setup, self.every)
        self.source_epochs = source_epochs(setup, self.every)
        self.reversals = [module for module in self.model.modules() if isinstance(module, GradientReversal)]
        self.parameters = [p for m in (self.model, self.objectives) for p in m.parameters() if p.requires_grad]
        self.left_source_after = 0
        """Number of epochs of the first phase, once the second has begun."""
        self._begin([x for x in self.every if not x.source_free], task.source_train.clips, self.source_epochs)
        beside = [name for name, objective in self.objectives.items() if not objective.source_free]
        needs_target = any(parts.needs_target(name, method.option(name)) for name in beside)
        self.target_batch = max(1, self.batch * len(task.target_train) // len(task.source_train.clips)) if needs_target else 0
        self.reads_in_thread = device.type != "cpu" or task.source_train.clips.slow or task.target_train.slow
        second_view = any(objective.second_view for objective in self.every)
        self.compiled = compiled_model(self.model, device, second_view) if compiled else None
        together.part_ways(seed)

    @property
    def evaluated(self) -> VideoModel:
        """The model that is evaluated: the one that is trained, or its average."""
        model: VideoModel = self.model if self.averaged is None else self.averaged.module  # type: ignore[assignment]
        return model

    # --- phases ---------------------------------------------------------------------------------------------------------

    def _begin(self, objectives: list[Objective], clips: Clips, epochs: int) -> None:
        """Begin a phase of so many epochs, each of which passes over these clips."""
        self.losses = objectives
        self.reached = {reach: reached(self.model, self.objectives, reach) for reach in {x.reaches for x in objectives}}
        self.optimiser = optimiser_of(self.model, objectives, self.setup)
        ema = get_ema_multi_avg_fn(self.setup.average)
        self.averaged = AveragedModel(self.model, multi_avg_fn=ema) if self.setup.average else None
        self.batch = min(self.setup.batch, len(clips))
        self.steps_per_epoch = -(-len(clips) // self.batch)
        self.steps_total = self.steps_per_epoch * epochs
        self.step = 0

    def leave_source(self, after: int) -> None:
        """Begin the second phase, after so many epochs: what source-free objectives freeze is frozen, and they train alone."""
        source_free = [objective for objective in self.every if objective.source_free]
        for part in {part for objective in source_free for part in objective.freezes}:
            for parameter in self.model.get_submodule(part).parameters():
                parameter.requires_grad_(False)
                parameter.grad = None
        self.left_source_after = after
        self._begin(source_free, self.task.target_train, self.setup.epochs - after)

    # --- one epoch ------------------------------------------------------------------------------------------------------

    def epoch(self) -> Metrics:
        """One pass over the training clips of the source, or in the second phase the target; means over steps. DivergedError."""
        if self.step == self.steps_total and not self.left_source_after and self.source_epochs < self.setup.epochs:
            self.leave_source(self.source_epochs)
        self.cluster()
        self.model.train()
        if self.averaged is not None:
            self.averaged.eval()
        self.objectives.train()
        steps: list[dict[str, Tensor]] = []
        ratio: dict[str, float] = {}
        draws = [together.share(draw) for draw in self.draws()]
        batches = prefetched(draws, self.read) if self.reads_in_thread else announced(draws, self.announce, self.read)
        for number, (draw, views) in enumerate(batches):
            metrics, norms = self.train_step(draw, views, probe=number == 0)
            views.clear()  # so that the next batch can take their place
            steps.append(metrics)
            ratio |= norms
        names = list(steps[0])
        means = together.mean_of(torch.stack([torch.stack([m[name].float() for name in names]) for m in steps]).mean(0)).tolist()
        together.average_statistics(self.model)
        if not np.isfinite(means).all():
            raise self._diverged(means[0])
        return dict(zip(names, means, strict=True)) | ratio | ({"source_free": True} if self.left_source_after else {})

    def draws(self) -> list[Draw]:
        """What the batches of the next epoch are made of; this moves the random states on."""
        if self.left_source_after:
            order = self.target_sampler.random.permutation(len(self.task.target_train))
        else:
            order = source_order(self.task.source_train.labels[:, 0], self.setup.balanced, self.source_random)
        drawn = []
        for first in range(0, len(order), self.batch):
            batch = order[first : first + self.batch]
            source, target = (NO_CLIPS, batch) if self.left_source_after else (batch, self._beside(len(batch)))
            source_frames = [self._frames(len(source), self.source_random) for _ in range(self._views)]
            target_frames = [self._frames(len(target), self.target_sampler.random) for _ in range(self._views)]
            views = tuple(zip(source_frames, target_frames, strict=True))
            drawn.append(Draw(source, target, views, self._crops(len(source), len(target), len(views))))
        return drawn

    def _crops(self, source: int, target: int, views: int) -> tuple[tuple[Crops, Crops], ...]:
        """How the backbone sees so many clips in each view; nothing where the method reads features."""
        if self.model.trunk is None:
            return ()
        how, randoms = (self.setup.jitter, self.setup.flip), (self.source_random, self.target_sampler.random)
        return tuple((draw_crops(source, *how, randoms[0]), draw_crops(target, *how, randoms[1])) for _ in range(views))

    def _beside(self, source: int) -> Positions:
        """The target's clips beside so many of the source. The last batch may be smaller; the target's shrinks with it."""
        return self.target_sampler.take(max(1, self.target_batch * source // self.batch) if self.target_batch else 0)

    @property
    def _views(self) -> int:
        """How many samplings of its frames each clip of a batch is read at."""
        return 1 + any(objective.second_view for objective in self.losses)

    def _frames(self, clips: int, random: np.random.Generator) -> Positions:
        return shifted_frames(self.task.source_train.clips.frames, self.setup.segments, clips, random)

    def read(self, draw: Draw) -> list[Inputs]:
        """Of each view the source's clips, then (where the method looks at them) the target's, in the same tensors."""
        return reading.read(self.task, draw)

    def announce(self, draw: Draw) -> None:
        """That it will be read next."""
        reading.announce(self.task, draw)

    def train_step(self, draw: Draw, views: list[Inputs], probe: bool = False) -> tuple[dict[str, Tensor], dict[str, float]]:
        """One update; metrics as tensors, so that a GPU is not waited for. `probe` adds the gradient norms at the features."""
        before, batches = self._of_a_step()
        if not before:
            set_rate(self.optimiser, self.setup, self.step, self.steps_total)
        self._grow()
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.precision == "bf16"):
            inputs = [to_device(view, self.device) for view in views]
            outputs = [self._forward(view, draw) for view in inputs]
            task_loss, other_losses, metrics = self._losses(outputs, self._step(draw, outputs, self._taught(inputs[0])))
        loss = torch.stack([task_loss, *other_losses.values()]).sum()
        if self.device.type == "cpu" and not torch.isfinite(loss):
            raise self._diverged(float(loss.detach()))
        metrics |= {f"{reversal.level}_reversal": reversal.now() for reversal in self.reversals}
        probe = probe and not self.left_source_after  # there is no task loss to compare with
        ratio = gradient_ratio(task_loss, list(other_losses.values()), *features_of(outputs)) if probe else {}
        if not before:
            self.optimiser.zero_grad(set_to_none=True)
        if batches > 1:
            task_loss, other_losses = task_loss / batches, {reach: loss / batches for reach, loss in other_losses.items()}
        self._backward(task_loss, other_losses)
        if before + 1 == batches:
            self._update()
        self.step += 1
        return metrics, ratio

    def _of_a_step(self) -> tuple[int, int]:
        """(batches before this one whose gradients the next update takes, all its batches: --accumulate, or the epoch's last)."""
        number = self.step % self.steps_per_epoch
        before = number % self.setup.accumulate
        return before, min(self.setup.accumulate, self.steps_per_epoch - number + before)

    def _update(self) -> None:
        together.average_gradients(self.parameters)
        if self.setup.clip_norm:
            nn.utils.clip_grad_norm_(self.parameters, self.setup.clip_norm)
        self.optimiser.step()
        if self.averaged is not None:
            self.averaged.update_parameters(self.model)

    def _backward(self, task: Tensor, others: Mapping[Reach, Tensor]) -> None:
        """Add up the gradients, those of a loss that does not reach everything first. Without the source the task has none."""
        for reach, loss in others.items():
            if reach != "everything" and loss.requires_grad:
                loss.backward(retain_graph=True, inputs=self.reached[reach])
        everything = task + others["everything"] if "everything" in others else task
        if everything.requires_grad:
            everything.backward()

    def _grow(self) -> None:
        """Tell the discriminators inside the model how far λ has grown."""
        for growth in (objective.growth(self._progress) for objective in self.losses):
            if growth is not None:
                for reversal in self.reversals:
                    reversal.growth.copy_(growth)

    def _forward(self, inputs: Inputs, draw: Draw) -> Output:
        full = len(draw.target if self.left_source_after else draw.source) == self.batch
        run = self.compiled if self.compiled is not None and full else self.model
        output: Output = run(inputs)
        return output

    @torch.no_grad()
    def _taught(self, inputs: Inputs) -> Output | None:
        """What the average of the weights says of a view, where an objective wants to know."""
        if not any(objective.teacher for objective in self.losses):
            return None
        output: Output = self.evaluated(inputs)
        return output

    @property
    def _progress(self) -> Tensor:
        return torch.tensor(self.step / self.steps_total, device=self.device)

    def _step(self, draw: Draw, outputs: list[Output], teacher: Output | None = None) -> Step:
        count = len(draw.source) + len(draw.target)
        return Step(
            torch.from_numpy(self.task.source_train.labels[draw.source]).to(self.device),
            torch.arange(count, device=self.device) >= len(draw.source),
            torch.from_numpy(draw.target).to(self.device),
            self._progress,
            outputs[1] if len(outputs) > 1 else None,
            teacher,
            self.setup.smoothing,
        )

    def _losses(self, outputs: list[Output], step: Step) -> tuple[Tensor, dict[Reach, Tensor], dict[str, Tensor]]:
        """(task, {what they reach: the sum of such objectives}, metrics). Without the source there is no task: a loss of 0."""
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
        if self.left_source_after:
            return torch.zeros((), device=self.device), others, metrics
        task = outputs[0].class_loss(step.labels, self.setup.smoothing) if task is None else task
        return self.method.lambda_class * task, others, {"class_loss": task.detach()} | metrics

    def _diverged(self, loss: float) -> DivergedError:
        return DivergedError(
            f"{self.task.source} → {self.task.target}: the loss is {loss} at step {self.step + 1}; "
            "start again with a lower --lr (and --overwrite), or look for damaged features with cia-adapt check"
        )

    def cluster(self) -> None:
        """Let objectives that want it cluster or relabel all training clips, as the model describes them now."""
        if clustering := [objective for objective in self.losses if objective.clusters and self.method.needs_target]:
            model = self.evaluated if self.left_source_after else self.model
            cluster(clustering, model, self.task, self.setup, self.device, bool(self.left_source_after))
