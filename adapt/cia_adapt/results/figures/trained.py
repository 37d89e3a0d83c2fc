"""A finished run, opened again: its model, and the clips that it was tested on."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from cia_extract.clips import Pixels
from cia_extract.common.errors import CiaError, DataError, UsageError
from cia_extract.common.suggest import did_you_mean
from torch import Tensor

from cia_adapt.config import Method
from cia_adapt.data import Domain, Positions, Stores, Task, centre_frames, make_task
from cia_adapt.model import VideoModel, restored
from cia_adapt.results.feature_file import domains_of, with_frames
from cia_adapt.results.figures.frames import frames_of, frames_of_each
from cia_adapt.runs import files, method_of, setup_of


@dataclass(frozen=True)
class Trained:
    """A run's selected model, on the CPU, and its pair of domains."""

    folder: Path
    method: Method
    model: VideoModel
    task: Task
    target: Domain

    @property
    def frames(self) -> Positions:
        """Which of a clip's stored frames the model is tested on, [S]."""
        return centre_frames(self.task.target_val.frames, self.task.sizes.segments)

    def inputs(self, positions: Positions) -> dict[str, Tensor]:
        """{modality: maps [B, S, C, H, W] or vectors [B, S, C]} of the target's validation clips at these positions."""
        return self.task.target_val.batch(positions, np.tile(self.frames, (len(positions), 1)))

    def position(self, clip: str) -> int:
        """Which of the target's validation clips has this id. Raises UsageError."""
        names = self.task.target_val.names
        if clip not in names:
            raise UsageError(
                f"--clip {clip}: none of the {len(names)} clips that {self.folder} was tested on{did_you_mean(clip, names)}"
            )
        return names.index(clip)

    def pictures(self, position: int, root: Path | None) -> list[Pixels]:
        """The S frames [224, 224, 3] of a target validation clip that the model saw. Raises CiaError as `frames_of`."""
        dataset, row = with_frames(self.target), int(self.task.target_val.rows[position])
        return frames_of(dataset, row, root, dataset.array("clips/indices")[row, self.frames].tolist())

    def pictures_of_each(self, positions: list[int], root: Path | None) -> list[list[Pixels] | CiaError]:
        """As `pictures`, of several clips; for a clip whose frames cannot be read, why."""
        dataset, rows = with_frames(self.target), self.task.target_val.rows[positions].tolist()
        indices = {row: dataset.array("clips/indices")[row, self.frames].tolist() for row in rows}
        frames = frames_of_each(dataset, root, indices)
        return [frames[row] for row in rows]


def opened(folder: Path) -> Trained:
    """The run in `folder`. Maps are read wherever the file has them, also for a method that was trained on vectors.

    Raises DataError: the run is damaged or of another version; the feature file is gone or has changed since.
    """
    config, stamp = files.read_config(folder), files.read_stamp(folder)
    source, target = domains_of(config, stamp)
    try:
        method, setup = method_of(config, folder), setup_of(config, folder)
        task, _ = make_task(source, target, config["modalities"], True, setup, Stores(torch.device("cpu"), "map"))
        model = restored(method, task.sizes, files.load_model(folder, "selected"))
    except (CiaError, OSError):
        raise
    except (RuntimeError, TypeError, LookupError) as error:
        raise DataError(
            f"{folder}: its model is of another version of cia-adapt; train it again with --overwrite ({type(error).__name__})"
        ) from None
    model.eval()
    return Trained(folder, method, model, task, target)
