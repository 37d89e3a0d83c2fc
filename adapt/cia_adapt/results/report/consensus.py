"""Consensus maps of a finished run over the real frames of a few target clips."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
import torch
from cia_extract.common.errors import CiaError

from cia_adapt.results.feature_file import with_frames
from cia_adapt.results.figures import opened
from cia_adapt.results.report.figures import consensus
from cia_adapt.runs import files


@dataclass(frozen=True)
class Panel:
    """The picture of one clip."""

    clip: str
    """The clip's id."""
    predicted: str
    """The class that the model predicts."""
    maps: npt.NDArray[np.float64]
    """Weights [S, 7, 7], which sum to 1 in each frame."""
    picture: bytes
    """Frames and maps, as a WebP file."""


def panels(folder: Path, root: Path | None, seed: int, count: int) -> tuple[list[Panel], list[str]]:
    """Draw the consensus maps of `count` target validation clips of the run in `folder`; `seed` picks the clips.

    Returns (the panels, a line for each clip whose frames cannot be read); nothing for a method without SC. `root` goes before
    the clips' folder that the feature file names. Raises CiaError where no clip can be drawn: the feature file is gone, has
    changed since, or does not say how clips were read.
    """
    if files.read_config(folder)["method"]["pooling"] != "sc":
        return [], []
    run = opened(folder)
    with_frames(run.target)
    clips, task = run.task.target_val, run.task
    positions = np.sort(np.random.default_rng(seed).permutation(len(clips))[:count])  # [count]
    with torch.inference_mode():
        output = run.model(run.inputs(positions))
    assert output.consensus is not None
    predicted = output.probabilities()[0].argmax(1).tolist()
    drawn, missing = [], []
    pictures = run.pictures_of_each(positions.tolist(), root)
    for position, images, maps, number in zip(positions, pictures, output.consensus.double().numpy(), predicted, strict=True):
        if isinstance(images, CiaError):
            missing.append(str(images))
            continue
        drawn.append(Panel(clips.names[position], task.classes[task.label][number], maps, consensus(images, maps)))
    return drawn, missing
