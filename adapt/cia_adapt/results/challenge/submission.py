"""From what runs predict for the test clips to the zip that the challenge takes.

The softmaxes of all runs are averaged, and the logarithms of the averages are written. The challenge's evaluation
(github.com/epic-kitchens/C1-Action-Recognition, utils/scoring.py) takes a softmax of the scores before it multiplies a verb's
with a noun's: of logarithms that gives the averages back, of probabilities it would rank actions by the sum of both.
"""

import json
import zipfile
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import numpy.typing as npt
from cia_extract.common import writes
from cia_extract.common.errors import DataError, SubmissionError, UsageError

import cia_adapt.results.challenge.checking as checking
import cia_adapt.results.challenge.official as official
from cia_adapt.results.predicting import Scores

LEAST: Final = 1e-30  # probability that is written for one of 0, such as that of a class that training lacked: the log is finite
TIME: Final = (1980, 1, 1, 0, 0, 0)  # of the file in the zip: the same runs give the same bytes


@dataclass(frozen=True)
class Averaged:
    """The averaged probabilities of N clips."""

    clips: tuple[str, ...]
    probabilities: Mapping[str, npt.NDArray[np.float64]]
    """{"verb": [N, 97], "noun": [N, 300]}; 0 for classes that no run knows."""


def averaged(scores: Sequence[Scores], names: Sequence[str]) -> Averaged:
    """The mean of the runs' probabilities, clips in the order of the first. `names` are the runs', for messages.

    Raises SubmissionError where runs predict different clips, UsageError or DataError where they predict no verbs and nouns.
    """
    first = scores[0]
    sums: dict[str, npt.NDArray[np.float64]] = {}
    for one, name in zip(scores, names, strict=True):
        if differing := set(first.clips) ^ set(one.clips):
            raise SubmissionError(
                f"{names[0]} and {name} predict different clips: {official.some(differing)} of one only; give all runs the same "
                "clips with --features"
            )
        place = {clip: row for row, clip in enumerate(one.clips)}
        order = [place[clip] for clip in first.clips]
        for task, column in official.columns_of(one.classes, name).items():
            values = _numbered(task, one.classes[column], one.probabilities[column][order], name)
            sums[task] = sums[task] + values if task in sums else values
    return Averaged(first.clips, {task: total / len(scores) for task, total in sums.items()})


def _numbered(task: str, classes: Sequence[str], p: npt.NDArray[np.float32], name: str) -> npt.NDArray[np.float64]:
    """Probabilities [N, K] of a run's classes as [N, 97] or [N, 300]. Raises DataError for a class that is none of E100's."""
    all_names = official.classes()[task]
    number = {label: i for i, label in enumerate(all_names)}
    unknown = [label for label in classes if label not in number]
    if unknown:
        raise DataError(f"{name}: {official.some(unknown)} is no {task} of EPIC-KITCHENS-100; give runs of --dataset e100")
    out = np.zeros((len(p), len(all_names)))
    out[:, [number[label] for label in classes]] = p
    return out


def content(results: Mapping[str, Averaged], levels: Mapping[str, int]) -> dict[str, Any]:
    """What test.json holds.

    Args:
        results: by "results_target" and "results_source".
        levels: the challenge's supervision levels, 0 to 5, by `checking.LEVELS`.
    """
    return {**checking.HEAD, **levels} | {name: _scores(one) for name, one in results.items()}


def _scores(one: Averaged) -> dict[str, dict[str, dict[str, float]]]:
    logs = {task: np.log(np.maximum(p, LEAST)).round(5).tolist() for task, p in one.probabilities.items()}
    return {
        clip: {task: {str(i): value for i, value in enumerate(rows[row])} for task, rows in logs.items()}
        for row, clip in enumerate(one.clips)
    }


def write(path: Path, submission: Mapping[str, Any], ids: Mapping[str, Collection[str]]) -> dict[str, int]:
    """Check the submission as anybody's is checked (`checking.check`), then write the zip, whole or not at all.

    Returns the number of clips by domain. Raises SubmissionError and UsageError; nothing is written then.
    """
    check_out(path)
    text = json.dumps(submission).encode()
    counts = checking.check_text(text, f"--out {path}", ids)
    with (
        writes.translated(f"--out {path}", "choose another file"),
        writes.whole(path) as part,
        zipfile.ZipFile(part, "w") as archive,
    ):
        archive.writestr(zipfile.ZipInfo(checking.NAME, TIME), text, zipfile.ZIP_DEFLATED, compresslevel=5)
    return counts


def check_out(path: Path) -> None:
    """Raise UsageError unless a submission can be written to `path`, as far as its name tells."""
    if path.suffix != ".zip":
        raise UsageError(f"--out {path}: give it the ending .zip, which the challenge wants")
    if path.is_dir():
        raise UsageError(f"--out {path}: is a folder; name a file in it")
