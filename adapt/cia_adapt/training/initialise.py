"""Where the shared layer starts: by the source's features instead of by their number alone."""

from typing import Final, cast

import torch
from torch import Tensor, nn

from cia_adapt.config import Setup
from cia_adapt.data import Clips, centre_frames, to_device
from cia_adapt.model import VideoModel
from cia_adapt.parts.layers import SharedLayer

MOST_CLIPS: Final = 256  # evenly spaced among the source's training clips; a unit's mean and spread need no more
AT_ONCE: Final = 32


def initialise_shared_layers(model: VideoModel, clips: Clips, setup: Setup, device: torch.device) -> None:
    """What the set-up's `initialise` says, with the source's training clips."""
    if setup.initialise == "data":
        fit_shared_layers(model, clips, setup.segments, device)


@torch.no_grad()
def fit_shared_layers(model: VideoModel, clips: Clips, segments: int, device: torch.device) -> None:
    """Scale and shift each unit of the shared layers so that it has mean 0 and standard deviation 1 over these clips' frames.

    Krähenbühl, Doersch, Donahue and Darrell, "Data-dependent Initializations of Convolutional Neural Networks", ICLR 2016,
    https://arxiv.org/abs/1511.06856 (§3.1; there from a random batch too). A stored feature is positive and small: its mean over
    clips is larger than its spread, and torch's initialisation gives a unit a spread of about 0.05. Adam's first step at 3e-3
    then moves the unit by many times its spread, the same way for all clips, and it dies or answers to all alike.

    A unit that is constant over the clips stays as it is. No label is read, and no random state moves.
    """
    positions = torch.linspace(0, len(clips) - 1, min(MOST_CLIPS, len(clips))).round().long().numpy()
    frames = centre_frames(clips.frames, segments)
    raw: dict[str, list[Tensor]] = {stream: [] for stream in model.shared}
    training = model.training
    model.eval()
    for first in range(0, len(positions), AT_ONCE):
        some = positions[first : first + AT_ONCE]
        inputs = to_device(clips.batch(some, frames[None].repeat(len(some), 0)), device)
        for stream, features in model(inputs).raw.items():
            if stream in raw:
                raw[stream].append(features.flatten(0, 1))  # [n · S, D]
    model.train(training)
    for stream, layer in model.shared.items():
        sd, mean = torch.std_mean(torch.cat(raw[stream]), dim=0)
        varies = sd > 0
        sd, mean = sd.where(varies, 1), mean.where(varies, 0)
        linear = cast(nn.Linear, cast(SharedLayer, layer).layers[0])
        linear.weight.div_(sd[:, None])
        linear.bias.copy_((linear.bias - mean) / sd)
