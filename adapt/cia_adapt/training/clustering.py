"""Before each epoch: objectives that want it cluster or relabel all training clips, as the model describes them now."""

from collections.abc import Sequence

import torch

from cia_adapt.config import Setup
from cia_adapt.data import Task
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import Objective
from cia_adapt.training.evaluate import describe


def cluster(
    objectives: Sequence[Objective], model: VideoModel, task: Task, setup: Setup, device: torch.device, left_source: bool
) -> None:
    """Call `relabel` of each objective where the source has been left, else `cluster`."""
    target = describe(model, task.target_train, setup.segments, device)
    if left_source:
        for objective in objectives:
            objective.relabel(target)
        return
    train = task.source_train
    source = describe(model, train.clips, setup.segments, device)
    labels = torch.from_numpy(train.labels[:, 0]).to(device)
    for objective in objectives:
        objective.cluster(source, labels, target)
