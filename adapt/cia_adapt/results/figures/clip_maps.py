"""One clip of a run's target as its network sees it: consensus maps and Grad-CAM over the frames."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cia_extract.clips import Pixels
from cia_extract.common.console import Say
from cia_extract.common.errors import CiaError, UsageError
from cia_extract.common.suggest import did_you_mean
from matplotlib.figure import Figure

from cia_adapt.results.figures.drawing import maps_over_frames
from cia_adapt.results.figures.grad_cam import CONSENSUS, changed_by_pooling, explain
from cia_adapt.results.figures.trained import Trained

BATCH = 32  # clips


@dataclass(frozen=True)
class Wanted:
    """What is drawn of a clip."""

    clip: str | None = None
    """Id of a target validation clip; None: the one whose prediction SC changes most."""
    root: Path | None = None
    """Goes before the folder of the clips that the feature file names."""
    frames: Sequence[int] = ()
    """Which of the network's frames, from 1; none: all."""
    target_class: str | None = None
    """The class whose evidence Grad-CAM shows, or label=class; None: the one that is predicted."""


@dataclass(frozen=True)
class ClipMaps:
    """What a figure of a clip shows."""

    clip: str
    title: str
    pictures: list[Pixels | None]
    """S frames [224, 224, 3] as the network saw them; None where the clip cannot be read."""
    rows: list[str]
    """Names of the S frames."""
    panels: dict[str, npt.NDArray[np.float64]]
    """{panel: [S, H, W]}."""

    def draw(self) -> Figure:
        """The figure."""
        return maps_over_frames(self.pictures, self.panels, self.rows, self.title)


def most_changed(run: Trained) -> int:
    """The target validation clip whose prediction the pooling changes most. Raises UsageError for average pooling."""
    if run.method.pooling == "avg":
        raise UsageError(f"{run.folder}: {run.method.name} pools by the average, no map changes a clip; name one with --clip")
    count = len(run.task.target_val)
    changes = [
        changed_by_pooling(run.model, run.inputs(np.arange(first, min(first + BATCH, count)))).numpy()
        for first in range(0, count, BATCH)
    ]
    return int(np.concatenate(changes).argmax())


def consensus(run: Trained, wanted: Wanted, say: Say) -> ClipMaps:
    """SC's maps of a clip. Raises UsageError for a method without SC."""
    if run.method.pooling != "sc":
        raise UsageError(f"{run.folder}: {run.method.name} has no SC, and so no consensus map; figure gradcam shows any method")
    return _clip_maps(run, wanted, [CONSENSUS], say)


def grad_cam(run: Trained, wanted: Wanted, say: Say) -> ClipMaps:
    """Grad-CAM of a clip, in the order of the paper's figure 2. Raises UsageError where no modality has maps."""
    if not run.task.sizes.grids:
        raise UsageError(f"{run.folder}: its features are vectors, and Grad-CAM needs maps; extract maps too")
    return _clip_maps(run, wanted, None, say)


def _clip_maps(run: Trained, wanted: Wanted, only: Sequence[str] | None, say: Say) -> ClipMaps:
    segments = run.task.sizes.segments
    if bad := [frame for frame in wanted.frames if not 1 <= frame <= segments]:
        raise UsageError(f"--frame {bad[0]}: the network sees frames 1 to {segments} of a clip")
    position = most_changed(run) if wanted.clip is None else run.position(wanted.clip)
    clip = run.task.target_val.names[position]
    inputs = run.inputs(np.array([position]))
    label, number = 0, 0
    if wanted.target_class is not None:
        label, number = class_of(run, wanted.target_class)
    explained = explain(run.model, inputs, label, number)
    if wanted.target_class is None and (predicted_class := int(explained.probabilities[0].argmax())):
        number = predicted_class
        explained = explain(run.model, inputs, label, number)
    chosen = [frame - 1 for frame in wanted.frames] or list(range(segments))
    pictures: list[Pixels | None] = [None] * segments
    try:
        pictures = list(run.pictures(position, wanted.root))
    except CiaError as error:
        say(f"note: the maps are drawn without the clip's frames: {error}")
    names = list(run.task.classes.values())
    probabilities = explained.probabilities
    predicted = ", ".join(classes[int(p.argmax())] for classes, p in zip(names, probabilities, strict=True))
    title = f"{run.method.name}, {clip}: predicted {predicted}"
    if only is None:
        title += f"; Grad-CAM for {names[label][number]} (p = {float(probabilities[label][number]):.2f})"
    panels = {name: x.double().numpy()[chosen] for name, x in explained.maps.items() if only is None or name in only}
    return ClipMaps(clip, title, [pictures[i] for i in chosen], _frame_names(run, position, chosen), panels)


def class_of(run: Trained, text: str) -> tuple[int, int]:
    """(which label, which class) of "kick" or "noun=cupboard". Raises UsageError."""
    columns = list(run.task.classes)
    column, separator, name = text.partition("=")
    if not separator or column not in columns:
        column, name = columns[0], text
    classes = run.task.classes[column]
    if name not in classes:
        raise UsageError(f"--class {text}: no class of {column}, choose from {', '.join(classes)}{did_you_mean(name, classes)}")
    return columns.index(column), classes.index(name)


def _frame_names(run: Trained, position: int, chosen: Sequence[int]) -> list[str]:
    """ "frame 37" of the clip where the feature file says so, else its number among those that the network sees."""
    dataset = run.target.dataset
    if "clips/indices" not in dataset.regions:
        return [f"{i + 1} of {run.task.sizes.segments}" for i in chosen]
    indices = dataset.array("clips/indices")[int(run.task.target_val.rows[position])][run.frames]
    return [f"frame {indices[i]}" for i in chosen]
