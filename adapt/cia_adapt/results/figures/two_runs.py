"""The clips of several runs as t-SNE places them, side by side, with their ids and classes."""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cia_extract.common import spreadsheets
from cia_extract.common.console import Say
from cia_extract.common.errors import CiaError, DataError, UsageError
from matplotlib.figure import Figure

from cia_adapt.data import rows_of
from cia_adapt.results.feature_file import domains_of
from cia_adapt.results.figures.drawing import scatter
from cia_adapt.results.figures.embedding import drawn_clips, tsne
from cia_adapt.runs import files, setup_of

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Placed:
    """The validation clips of one domain of a run."""

    domain: str
    points: Floats
    """[n, 2]."""
    clips: list[str]
    """Their ids, "" where the run does not know them."""
    classes: list[str]
    """Names of their classes, the first label's; "" where it is not known."""


@dataclass(frozen=True)
class Picture:
    """One run: what it is called, and its two domains."""

    title: str
    method: str
    source: Placed
    target: Placed


def place(folder: Path, seed: int, say: Say) -> Picture:
    """t-SNE of a run's selected features, equal numbers of both domains' validation clips. Raises DataError."""
    config, result = files.read_config(folder), files.read(folder)
    scores = files.load_scores(folder)
    features = [scores[f"selected/{role}_features"].double().numpy() for role in ("source", "target")]
    points = tsne(features[0], features[1], seed)
    picked = drawn_clips(len(features[0]), len(features[1]), seed)
    both = (_source_clips(folder, len(features[0]), say), _target_clips(folder, len(features[1])))
    source, target = (
        Placed(config[role], xy, [clips[i] for i in at], [classes[i] for i in at])
        for role, xy, at, (clips, classes) in zip(("source", "target"), points, picked, both, strict=True)
    )
    accuracy = "" if result["selected"] is None else f", {result['selected']:.2f} %"
    title = f"{config['method']['name']}: {config['source']} → {config['target']}{accuracy}"
    return Picture(title, config["method"]["name"], source, target)


def draw(pictures: Sequence[Picture]) -> Figure:
    """The runs side by side. Raises UsageError for runs of different domains: one legend could not serve them."""
    domains = {(picture.source.domain, picture.target.domain) for picture in pictures}
    if len(domains) > 1:
        pairs = ", ".join(sorted(f"{source} → {target}" for source, target in domains))
        raise UsageError(f"runs of different directions ({pairs}); name runs of the same one")
    titles = [picture.title for picture in pictures]
    titles = [f"{i}. {title}" if titles.count(title) > 1 else title for i, title in enumerate(titles, 1)]
    panels = {
        title: [(placed.points, placed.classes) for placed in (picture.source, picture.target)]
        for title, picture in zip(titles, pictures, strict=True)
    }
    return scatter(panels, next(iter(domains)))


def as_csv(folders: Sequence[Path], pictures: Sequence[Picture]) -> str:
    """The coordinates as CSV, a row a clip."""
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(["run", "method", "role", "domain", "clip", "class", "x", "y"])
    for folder, picture in zip(folders, pictures, strict=True):
        for role, placed in (("source", picture.source), ("target", picture.target)):
            for (x, y), clip, name in zip(placed.points, placed.clips, placed.classes, strict=True):
                cells = (str(folder), picture.method, role, placed.domain, clip, name)
                writer.writerow([*map(spreadsheets.cell, cells), f"{x:.4f}", f"{y:.4f}"])
    return buffer.getvalue()


def _target_clips(folder: Path, count: int) -> tuple[list[str], list[str]]:
    """(ids, classes) of the target's validation clips; the run keeps them beside its predictions. Raises DataError."""
    rows = files.read_predictions(folder)
    column = next((name for name in rows[0] if name != "clip"), "")
    if "clip" not in rows[0] or not column or len(rows) != count:
        raise DataError(f"{folder}: predictions.csv and scores.safetensors are not of the same clips; {files.AGAIN}")
    return [row["clip"] for row in rows], [row[column] for row in rows]


def _source_clips(folder: Path, count: int, say: Say) -> tuple[list[str], list[str]]:
    """(ids, classes) of the source's validation clips, from the feature file; blanks, and a note, where it is gone."""
    config = files.read_config(folder)
    try:
        source, target = domains_of(config, files.read_stamp(folder))
        setup = setup_of(config, folder)
        rows = rows_of(source, target, setup).source_val
        if len(rows) != count:
            raise DataError(f"{folder}: scores.safetensors has {count} of {len(rows)} clips; {files.AGAIN}")
        return [str(clip) for clip in source.dataset.columns["clip"][rows]], source.text_labels(rows, setup.label_columns[0])
    except CiaError as error:
        say(f"note: the source's clips are drawn without their classes: {error}")
        return [""] * count, [""] * count
