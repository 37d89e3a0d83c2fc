"""From a draw to the tensors of its batch: each view's clips of the source, then of the target, in one tensor a modality."""

import numpy as np
import torch
from torch import Tensor

from cia_adapt.data import Clips, Draw, Positions, Task, joined
from cia_adapt.footage import CROPS

Inputs = dict[str, Tensor]
Part = tuple[Clips, Positions, Positions]


def read(task: Task, draw: Draw) -> list[Inputs]:
    """The inputs of each view: features, or frames and beside them how they are cropped."""
    views = [joined(parts) for parts in _parts(task, draw)]
    for view, crops in zip(views, draw.crops, strict=False):
        view[CROPS] = torch.from_numpy(np.concatenate(crops))
    return views


def announce(task: Task, draw: Draw) -> None:
    """That it will be read next."""
    for clips, positions, frames in (part for view in _parts(task, draw) for part in view):
        clips.announce(positions, frames)


def _parts(task: Task, draw: Draw) -> list[list[Part]]:
    source, target = task.source_train.clips, task.target_train
    parts = [
        [(source, draw.source, source_frames), (target, draw.target, target_frames)]
        for source_frames, target_frames in draw.views
    ]
    return [[part for part in view if len(part[1])] for view in parts]  # a domain without clips is not touched
