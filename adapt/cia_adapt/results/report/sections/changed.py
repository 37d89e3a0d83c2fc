"""Which clips a method gets right and the baseline does not, and the reverse, with their frames where they can be read."""

import io
from typing import Any, Final

import numpy as np
import pandas as pd
from cia_extract.clips import Pixels
from cia_extract.common.errors import CiaError
from PIL import Image

from cia_adapt.data import centre_frames
from cia_adapt.results.comparison import Group
from cia_adapt.results.feature_file import domains_of, with_frames
from cia_adapt.results.figures import frames_of_each
from cia_adapt.results.report.section import Figure, Section, Table
from cia_adapt.results.report.study import LeaveOut, Pair, Study, direction

LISTED: Final = 20  # clips of each group, gained and lost each
GROUPS: Final = 40
PICTURED: Final = 6  # directions
SIDE: Final = 150  # pixels of a frame in the page
COLUMNS: Final = ("direction", "method", "clip", "class", "baseline says", "method says", "baseline right, %", "method right, %")


def section(study: Study, leave_out: LeaveOut) -> Section | None:
    """Tables of the clips that changed most, and frames of the best method's; None where there is no baseline."""
    if study.baseline is None:
        return None
    rows = []
    for group in [g for g in study.in_order() if g.method != study.baseline][:GROUPS]:
        baseline = study.groups.get((study.baseline, group.pair))
        if baseline is not None:
            rows += _rows(group, baseline)
    if not rows:
        return None
    table = pd.DataFrame(rows, columns=[*COLUMNS, "change"])
    figures = []
    for pair in study.pairs[:PICTURED]:
        figures += _pictures(study, pair, table, leave_out)
    text = f"Clips that are right more or less often than with {study.baseline}, over the seeds; at most {LISTED} each way."
    shown = f" Pictures: {study.best}; the first, middle and last of the frames that it was tested on." if figures else ""
    return Section(
        "Clips that changed", [text + shown], figures, [Table("changed-clips", "Clips that changed", table, folded=True)]
    )


def _rows(group: Group, baseline: Group) -> list[dict[str, Any]]:
    """The clips of which other seeds are right than the baseline's, those of the largest change first, gained and lost."""
    ours, theirs = 100 * group.right("selected").mean(0), 100 * baseline.right("selected").mean(0)
    change = ours - theirs
    order = np.argsort(-np.abs(change), kind="stable")
    chosen = [*order[change[order] > 0][:LISTED], *order[change[order] < 0][:LISTED]]
    predictions = group.predictions
    return [
        dict(
            zip(
                (*COLUMNS, "change"),
                (
                    direction(group.pair), group.method, predictions.clips[i],
                    " ".join(predictions.classes[label][predictions.truth[label][i]] for label in group.labels),
                    said(baseline, i), said(group, i), float(theirs[i]), float(ours[i]), float(change[i]),
                ),
                strict=True,
            )
        )
        for i in chosen
    ]  # fmt: skip


def said(group: Group, clip: int) -> str:
    """What most seeds predict for a clip; with several labels one after the other."""
    words = []
    for label in group.labels:
        guesses = group.predictions.guesses["selected", label][:, clip]
        words.append(group.predictions.classes[label][int(np.bincount(guesses).argmax())])
    return " ".join(words)


def _pictures(study: Study, pair: Pair, table: pd.DataFrame, leave_out: LeaveOut) -> list[Figure]:
    """Frames of the clips of one direction that the best method changed most."""
    count = study.wanted.clips
    rows = table[(table["direction"] == direction(pair)) & (table["method"] == study.best)]
    if not count or rows.empty:
        return []
    figures: list[Figure] = []
    missing: list[str] = []
    try:
        run = study.members(study.groups[study.best, pair])[0]
        target = domains_of(run.config, run.stamp)[1]
        dataset = with_frames(target)
        places = {str(name): int(row) for name, row in zip(dataset.columns["clip"][target.rows], target.rows, strict=True)}
        shown = centre_frames(dataset.frames, run.config["setup"]["segments"])
        shown = shown[np.unique([0, len(shown) // 2, len(shown) - 1])]
        most = pd.concat([rows[rows["change"] > 0].head(count), rows[rows["change"] < 0].head(count)])
        indices = {places[clip]: dataset.array("clips/indices")[places[clip], shown].tolist() for clip in most["clip"]}
        pictures = frames_of_each(dataset, study.wanted.root, indices)
    except CiaError as error:
        leave_out(f"frames of the clips that changed, {direction(pair)}: {error}")
        return []
    for _, row in most.iterrows():
        frames = pictures[places[row["clip"]]]
        if isinstance(frames, CiaError):
            missing.append(str(frames))
            continue
        words = f"{row['clip']}: {row['class']}. {study.baseline} says {row['baseline says']}, {study.best} {row['method says']}"
        figures.append(
            Figure(
                f"changed-{len(figures)}-{pair[0]}-{pair[1]}",
                f"{'Gained' if row['change'] > 0 else 'Lost'}, {direction(pair)}",
                f"Frames of the clip {words}.",
                picture=sheet(frames),
                note=f"{words} ({row['change']:+.0f} points of the seeds).",
            )
        )
    if missing:
        leave_out(f"frames of {len(missing)} clips that changed, {direction(pair)}, the first: {missing[0]}")
    return figures


def sheet(frames: list[Pixels]) -> bytes:
    """Frames side by side, as a JPEG file."""
    image = Image.new("RGB", (SIDE * len(frames), SIDE))
    for i, frame in enumerate(frames):
        image.paste(Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.LANCZOS), (SIDE * i, 0))
    buffer = io.BytesIO()
    image.save(buffer, format="JPEG", quality=80, optimize=True)
    return buffer.getvalue()
