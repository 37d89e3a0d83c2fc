"""What the challenge defines: the numbers of verbs and nouns, its tail classes, and the ids of its clips."""

from collections import Counter
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Final

from cia_extract.common import text_files
from cia_extract.common.errors import DataError, SubmissionError, UsageError
from cia_extract.common.names import printable
from cia_extract.datasets import definition

DATASET: Final = "e100"
SHOWN: Final = 5  # ids in a message


def classes() -> dict[str, list[str]]:
    """{"verb": names of the 97 verbs, "noun": names of the 300 nouns}; a class's number is its position."""
    defined = definition.load(DATASET)
    return {"verb": defined.classes, "noun": defined.nouns}


def tail() -> dict[str, frozenset[str]]:
    """{"verb": names of the tail verbs, "noun": names of the tail nouns}."""
    defined = definition.load(DATASET)
    numbers = {"verb": defined.tail, "noun": defined.tail_nouns}
    return {task: frozenset(names[number] for number in numbers[task]) for task, names in classes().items()}


def columns_of(run_classes: Mapping[str, object], where: str) -> dict[str, str]:
    """{"verb": a run's label column of verbs, "noun": that of nouns}. Raises UsageError for a run that predicts others."""
    columns = list(run_classes)
    if len(columns) == 2 and columns[0] in ("label", "verb") and columns[1] == "noun":
        return {"verb": columns[0], "noun": columns[1]}
    raise UsageError(f"{where}: predicts {', '.join(columns)}; the challenge wants verbs and nouns: train with --setup e100")


def ids(path: Path) -> list[str]:
    """The column narration_id of a CSV of timestamps, in order. Raises DataError."""
    kind, advice = "CSV of timestamps", "take EPIC_100_uda_target_test_timestamps.csv as published"
    lines = [cells for _, cells in text_files.table(path, text_files.read_text(path, kind, advice), kind, advice)]
    if len(lines) < 2 or "narration_id" not in lines[0]:
        raise DataError(f"{path}: has no column narration_id, or no clip; {advice}")
    column = lines[0].index("narration_id")
    if any(len(cells) <= column for cells in lines):
        raise DataError(f"{path}: has a row that is too short; {advice}")
    listed = [cells[column] for cells in lines[1:]]
    if twice := [name for name, count in Counter(listed).items() if count > 1]:
        raise DataError(f"{path}: lists {some(twice)} twice; {advice}")
    return listed


def some(names: Collection[str]) -> str:
    """At most `SHOWN` ids for a message, and how many more.

    >>> some(["P01_1", "P01_2"])
    'P01_1, P01_2'
    """
    shown = ", ".join(printable(name[:60]) or "''" for name in sorted(names)[:SHOWN])
    return shown + (f" and {len(names) - SHOWN} more" if len(names) > SHOWN else "")


def refused(where: str, faults: Collection[str], remedy: str) -> SubmissionError:
    """The error of a submission with these faults, the first `SHOWN` of them in its one line."""
    more = f"; and {len(faults) - SHOWN} more faults" if len(faults) > SHOWN else ""
    return SubmissionError(f"{where}: no valid submission: {'; '.join(list(faults)[:SHOWN])}{more}; {remedy}")
