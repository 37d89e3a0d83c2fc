"""What objectives may learn before the first epoch, from training runs on a part of the source (G-Blend, §3)."""

from collections.abc import Iterable
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from cia_adapt.data import LabelledClips, Positions, centre_frames, subset
from cia_adapt.parts.interface import Losses, Output
from cia_adapt.training.evaluate import batches
from cia_adapt.training.trainer import Trainer


def prepare(trainer: Trainer) -> None:
    """Let each objective prepare itself; the random states of the run stay as they were."""
    labels = trainer.task.source_train.labels[:, 0]
    for objective in trainer.losses:
        objective.check_labels(labels.tolist(), trainer.task.source)
        objective.prepare(labels, np.random.default_rng([trainer.seed, 2]), lambda *asked: _trial(trainer, *asked))


def trial_epochs(trainer: Trainer) -> int:
    """Epochs that `prepare` trains."""
    return sum(objective.trial_epochs for objective in trainer.losses)


def _trial(trainer: Trainer, kept: Positions, held: Positions, epochs: int) -> tuple[Losses, Losses]:
    """`interface.Trial`: a model of its own, without objectives."""
    train, held_out = (subset(trainer.task.source_train, positions) for positions in (kept, held))
    task, setup = replace(trainer.task, source_train=train), replace(trainer.setup, epochs=epochs)
    method = replace(trainer.method, objectives=())
    trial = Trainer(task, setup, method, trainer.seed, trainer.device, trainer.precision, trunk=trainer.untrained)
    before = _losses(trial, train, held_out)
    for _ in range(epochs):
        trial.epoch()
    after = _losses(trial, train, held_out)
    torch.manual_seed(trainer.seed)
    return before, after


def _losses(trial: Trainer, train: LabelledClips, held_out: LabelledClips) -> Losses:
    trained, unseen = (_class_losses(trial, labelled) for labelled in (train, held_out))
    return {stream: (trained[stream], unseen[stream]) for stream in trained}


@torch.inference_mode()
def _class_losses(trial: Trainer, labelled: LabelledClips) -> dict[str, float]:
    """{stream: mean class loss of these clips}, at their centre frames."""
    trial.model.eval()
    frames = centre_frames(labelled.clips.frames, trial.setup.segments)
    outputs = (
        (trial.model(inputs), torch.from_numpy(labelled.labels[positions]).to(trial.device))
        for positions, inputs in batches(labelled.clips, frames, trial.device, trial.model.trunk is not None)
    )
    return mean_losses(outputs, len(labelled.clips))


def mean_losses(outputs: Iterable[tuple[Output, Tensor]], clips: int) -> dict[str, float]:
    """Mean class loss of each stream over batches (output, labels [B, L]) of `clips` clips together."""
    means: dict[str, float] = {}
    for output, labels in outputs:
        for stream, loss in output.class_losses(labels).items():
            means[stream] = means.get(stream, 0.0) + float(loss) * len(labels) / clips
    return means
