"""What the runs of one method and pair, which differ in their seed, predict for each target validation clip."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import numpy.typing as npt
from cia_extract.common.errors import DataError

from cia_adapt.results.statistics import Right
from cia_adapt.runs import files

Number = Literal["selected", "last"]
Numbers = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Predictions:
    """N clips in the order of predictions.csv, by R seeds; classes as numbers into `classes`."""

    clips: tuple[str, ...]
    classes: Mapping[str, tuple[str, ...]]
    """{label: its classes' names, sorted}; "" is the class of a clip that has none among the classes that trained."""
    truth: Mapping[str, Numbers]
    """{label: each clip's class [N]}."""
    guesses: Mapping[tuple[Number, str], Numbers]
    """{(epoch, label): each seed's predictions [R, N]}."""

    def right(self, number: Number, label: str) -> Right:
        """Which predictions of one label are right, [R, N]; none is right for a clip without a class."""
        truth = self.truth[label]
        known = np.array([name != "" for name in self.classes[label]])[truth]
        return np.asarray((self.guesses[number, label] == truth) & known)


def read_predictions(folders: Sequence[Path], labels: Sequence[str]) -> Predictions:
    """The predictions in these runs' folders. Raises DataError where they cannot be read, or are of different clips."""
    tables = [_table(folder, labels) for folder in folders]
    fixed = ("clip", *labels)
    for folder, table in zip(folders[1:], tables[1:], strict=True):
        if any(table[column] != tables[0][column] for column in fixed):
            raise DataError(f"{folder} and {folders[0]} have predictions of different clips; {files.AGAIN}")
    classes, truth, guesses = {}, {}, {}
    for label in labels:
        columns: dict[Number, str] = {number: _column(labels, label, number) for number in ("selected", "last")}
        names = sorted({name for table in tables for column in (label, *columns.values()) for name in table[column]})
        position = {name: i for i, name in enumerate(names)}
        classes[label] = tuple(names)
        truth[label] = np.array([position[name] for name in tables[0][label]])
        for number, column in columns.items():
            guesses[number, label] = np.array([[position[name] for name in table[column]] for table in tables])
    return Predictions(tuple(tables[0]["clip"]), classes, truth, guesses)


def _column(labels: Sequence[str], label: str, number: Number) -> str:
    """The column of predictions.csv that has a label's predictions."""
    return number if len(labels) == 1 else f"{label}_{number}"


def _table(folder: Path, labels: Sequence[str]) -> dict[str, list[str]]:
    """{column: its cells} of a run's predictions.csv. Raises DataError where a column is missing."""
    rows = files.read_predictions(folder)
    for label in labels:
        for column in ("clip", label, _column(labels, label, "last"), _column(labels, label, "selected")):
            if column not in rows[0]:
                raise DataError(f"{folder}/predictions.csv: has no column {column}; {files.AGAIN}")
    return {column: [row[column] for row in rows] for column in rows[0]}
