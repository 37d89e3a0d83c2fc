"""What objectives may learn before the first epoch, from a pilot run: training on a part of the source (G-Blend, §3)."""

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
        objective.prepare(labels, np.random.default_rng([trainer.seed, 2]), lambda *asked: _pilot(trainer, *asked))


def pilot_epochs(trainer: Trainer) -> int:
    """Epochs that `prepare` trains."""
    return sum(objective.pilot_epochs for objective in trainer.losses)


def _pilot(trainer: Trainer, kept: Positions, held: Positions, epochs: int) -> tuple[Losses, Losses]:
    """`interface.Pilot`: a model of its own, without objectives."""
    train, held_out = (subset(trainer.task.source_train, positions) for positions in (kept, held))
    task, setup = replace(trainer.task, source_train=train), replace(trainer.setup, epochs=epochs)
    method = replace(trainer.method, objectives=())
    pilot = Trainer(task, setup, method, trainer.seed, trainer.device, trainer.precision, trunk=trainer.untrained)
    before = _losses(pilot, train, held_out)
    for _ in range(epochs):
        pilot.epoch()
    after = _losses(pilot, train, held_out)
    torch.manual_seed(trainer.seed)
    return before, after


def _losses(pilot: Trainer, train: LabelledClips, held_out: LabelledClips) -> Losses:
    trained, unseen = (_class_losses(pilot, labelled) for labelled in (train, held_out))
    return {stream: (trained[stream], unseen[stream]) for stream in trained}


@torch.inference_mode()
def _class_losses(pilot: Trainer, labelled: LabelledClips) -> dict[str, float]:
    """{stream: mean class loss of these clips}, at their centre frames."""
    pilot.model.eval()
    frames = centre_frames(labelled.clips.frames, pilot.setup.segments)
    outputs = (
        (pilot.model(inputs), torch.from_numpy(labelled.labels[positions]).to(pilot.device))
        for positions, inputs in batches(labelled.clips, frames, pilot.device, pilot.model.trunk is not None)
    )
    return mean_losses(outputs, len(labelled.clips))


def mean_losses(outputs: Iterable[tuple[Output, Tensor]], clips: int) -> dict[str, float]:
    """Mean class loss of each stream over batches (output, labels [B, L]) of `clips` clips together."""
    means: dict[str, float] = {}
    for output, labels in outputs:
        for stream, loss in output.class_losses(labels).items():
            means[stream] = means.get(stream, 0.0) + float(loss) * len(labels) / clips
    return means
