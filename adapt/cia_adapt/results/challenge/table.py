"""Runs on EPIC-KITCHENS-100 in the layout of the challenge: verbs, nouns and actions, top-1 and top-5, of all clips, of tail
classes and of unseen participants.

As in the challenge's evaluation (github.com/epic-kitchens/C1-Action-Recognition, utils/metrics.py): an action is ranked by the
product of its verb's and its noun's softmax; it is of the tail where its verb or its noun is; of tail classes and of unseen
participants top-1 is reported.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
import torch
from cia_extract.common.errors import CiaError, DataError, UsageError

import cia_adapt.results.challenge.official as official
from cia_adapt.config import splits
from cia_adapt.data import find_domains
from cia_adapt.results.comparison import Group
from cia_adapt.results.feature_file import filmed, own_clips
from cia_adapt.results.formats import Grid
from cia_adapt.results.statistics import NO_LABELS, Right, interval, mean_sd
from cia_adapt.results.table import cautions
from cia_adapt.runs import files
from cia_adapt.training import Prediction

TASKS: Final = ("verb", "noun", "action")
ALL, TAIL, UNSEEN = "all", "tail classes", "unseen participants"


@dataclass(frozen=True)
class Measured:
    """One run's predictions for N clips held against their labels."""

    right: Mapping[tuple[str, int], npt.NDArray[np.bool_]]
    """{(task, k): [N], whether the label is in the top k}."""
    of_set: Mapping[tuple[str, str], npt.NDArray[np.bool_]]
    """{(set of clips, task): [N], whether a clip counts}; without the sets that are not known or have no clip."""


def table(groups: Mapping[tuple[str, tuple[str, str]], Group], which: str) -> Grid:
    """Runs of E100, a row for each set of clips and method.

    Args:
        groups: the runs, as `comparison.groups` gives them.
        which: the epoch, selected or last.

    Raises UsageError for runs that do not predict verbs and nouns or an oracle, whose scores are not kept; DataError.
    """
    if which == "oracle":
        raise UsageError("--which oracle: top-5 needs scores, which runs keep of selected and last; take one of these")
    measured = {key: [measure(folder, which) for folder in group.folders] for key, group in groups.items()}
    header = ["clips", "method", *(f"{task}@{k}" for k in (1, 5) for task in TASKS)]
    several_pairs = len({pair for _, pair in groups}) > 1
    rows, departs = [], []
    for name in (ALL, TAIL, UNSEEN):
        for (method, pair), runs in sorted(measured.items()):
            if not any((name, task) in runs[0].of_set for task in TASKS):
                continue
            label = f"{method}, {pair[0]} → {pair[1]}" if several_pairs else method
            changed = groups[method, pair].changed
            cells = [_cell(runs, name, task, k) for k in (1, 5) for task in TASKS]
            if not groups[method, pair].labelled:
                cells = [NO_LABELS] * len(cells)
            rows.append([name, label + ("*" if changed else ""), *cells])
            departs.append("; ".join(changed))
    return Grid("EPIC-KITCHENS-100 UDA, accuracy in %", header, rows, _notes(groups, measured, which), which, departs)


def measure(folder: Path, which: str) -> Measured:
    """The predictions of the run in `folder` at the epoch `which` against the labels in its predictions.csv."""
    classes = {column: tuple(names) for column, names in files.read_config(folder)["classes"].items()}
    columns = official.columns_of(classes, str(folder))
    scores, rows = files.load_scores(folder), files.read_predictions(folder)
    if "clip" not in rows[0]:
        raise DataError(f"{folder}/predictions.csv: has no column clip; {files.AGAIN}")
    names: dict[str, list[str]] = {}
    probabilities = []
    for task, column in columns.items():
        p = scores.get(f"{which}/target_probabilities/{column}")
        if p is None or p.shape != (len(rows), len(classes[column])) or not torch.isfinite(p).all() or column not in rows[0]:
            raise DataError(f"{folder}: its scores do not fit its predictions; {files.AGAIN}")
        probabilities.append(p.float())
        names[task] = [row[column] for row in rows]
    numbers = [{name: i for i, name in enumerate(classes[column])} for column in columns.values()]
    labels = np.array([[n.get(name, -1) for name in names[task]] for n, task in zip(numbers, names, strict=True)]).T
    prediction = Prediction(tuple(probabilities), torch.empty(len(rows), 0))
    right = {(task, k): values for k in (1, 5) for task, values in prediction.right_by_label(labels, tuple(columns), k).items()}
    return Measured(right, _sets(folder, names, [row["clip"] for row in rows]))


def _sets(folder: Path, names: Mapping[str, Sequence[str]], clips: Sequence[str]) -> dict[tuple[str, str], npt.NDArray[np.bool_]]:
    """{(set, task): [N]} of the sets that have a clip."""
    tail = {task: np.isin(names[task], sorted(classes)) for task, classes in official.tail().items()}
    tail["action"] = tail["verb"] | tail["noun"]
    sets = {(ALL, task): np.ones(len(clips), bool) for task in TASKS}
    sets |= {(TAIL, task): mask for task, mask in tail.items()}
    unseen = _unseen(folder, clips)
    if unseen is not None:
        sets |= {(UNSEEN, task): unseen for task in TASKS}
    return {key: mask for key, mask in sets.items() if mask.any()}


def _unseen(folder: Path, clips: Sequence[str]) -> npt.NDArray[np.bool_] | None:
    """[N]: whether a clip's participant has no clip that trained, labelled or not.

    The run's feature file, or the manifest of its clips, tells the participants, "P01" of the video "P01_101"; None where it is
    gone or has no videos' names.
    """
    config, stamp = files.read_config(folder), files.read_stamp(folder)
    try:
        footage = own_clips(stamp, "black")
        domains = filmed(folder, footage, lambda message: None) if footage else find_domains(Path(stamp["feature_file"]))
        seen: set[str] = set()
        for role in splits.ROLES:
            domain = domains[config[role]]
            videos = domain.dataset.columns["group"][domain.split(splits.of_role(config["setup"]["train_split"], role))]
            seen |= {_participant(video) for video in videos}
        target = domains[config["target"]].dataset.columns
        video_of = dict(zip(target["clip"].tolist(), target["group"].tolist(), strict=True))
        return np.array([_participant(video_of[clip]) not in seen for clip in clips])
    except (CiaError, KeyError):
        return None


def _participant(video: str) -> str:
    return str(video).split("_")[0]


def _cell(runs: Sequence[Measured], name: str, task: str, k: int) -> str:
    """Mean ± sd over seeds [95 % interval] in %; – for what the challenge does not report."""
    mask = runs[0].of_set.get((name, task))
    if mask is None or (k > 1 and name != ALL):
        return "–"
    right: Right = np.stack([run.right[task, k][mask] for run in runs])
    low, high = interval([right])
    return f"{mean_sd((100 * right.mean(1)).tolist())} [{low:.1f}, {high:.1f}]"


def _notes(
    groups: Mapping[tuple[str, tuple[str, str]], Group],
    measured: Mapping[tuple[str, tuple[str, str]], list[Measured]],
    which: str,
) -> list[str]:
    """The lines below the table: what its numbers are, and how many clips each set has."""
    runs = next(iter(measured.values()))
    seeds = "/".join(map(str, sorted({len(group.seeds) for group in groups.values()})))
    counts = [
        f"{name}: {', '.join(f'{int(mask.sum())} for {task}' for (of, task), mask in runs[0].of_set.items() if of == name)}"
        for name in (ALL, TAIL, UNSEEN)
        if any(of == name for of, _ in runs[0].of_set)
    ]
    return [
        f"ours: {which}, mean ± sd over {seeds} seeds, 95 % bootstrap interval over seeds and clips",
        "actions are ranked by products of the softmaxes of verb and noun; an action is of the tail where its verb or noun is",
        f"clips: {'; '.join(counts)}",
        *cautions([result for group in groups.values() for result in group.results]),
        *(f"* {method}: {'; '.join(group.changed)}" for (method, _), group in groups.items() if group.changed),
    ]
