"""What became of each clip and modality: the outcomes, as the feature file, `failed.csv` and the summary name them."""

import csv
from collections import Counter
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from cia_extract.common import spreadsheets
from cia_extract.common.errors import CiaError
from cia_extract.common.outcomes import OUTCOMES
from cia_extract.common.writes import whole
from cia_extract.features.reader import DatasetFeatures, open_features
from cia_extract.features.schema import FAILED


@dataclass(frozen=True)
class Entry:
    """A row of the ledger: a clip's modality that is done or failed."""

    clip: str
    modality: str
    outcome: str
    message: str


def entries(dataset: DatasetFeatures, status: int) -> list[Entry]:
    """The ledger's rows with this status, in the file's order. Files made before there was a ledger give empty outcomes."""
    listed = []
    clips = dataset.columns["clip"]
    for row, column in np.argwhere(dataset.array("status") == status).tolist():
        code, message = dataset.note(row, column)
        name = OUTCOMES[code] if code < len(OUTCOMES) else "unknown"
        listed.append(Entry(str(clips[row]), dataset.modalities[column], name, message.decode(errors="replace")))
    return listed


def counts(dataset: DatasetFeatures) -> dict[str, dict[str, int]]:
    """{modality: {outcome: rows}} of all rows that are done or failed."""
    if "outcome" not in dataset.regions:
        return {}
    table = {}
    outcomes = np.where(np.isin(dataset.array("status"), (1, 2)), dataset.array("outcome"), 0)
    for column, modality in enumerate(dataset.modalities):
        tally = Counter(outcomes[:, column].tolist())
        table[modality] = {OUTCOMES[code]: tally[code] for code in sorted(tally) if 0 < code < len(OUTCOMES)}
    return table


def damaged(dataset: DatasetFeatures) -> dict[str, str]:
    """Clip → message of those that are done but damaged, in the file's order."""
    if "outcome" not in dataset.regions:
        return {}
    rows = (dataset.array("status") == 1) & (dataset.array("outcome") == OUTCOMES.index("damaged"))
    clips, messages = dataset.columns["clip"], dataset.array("message")
    return {
        str(clips[row]): bytes(messages[row, rows[row].argmax()]).decode(errors="replace") for row in np.flatnonzero(rows.any(1))
    }


def failures_path(out: Path) -> Path:
    """The table of failures beside a feature file."""
    return out.with_suffix(".failed.csv")


def write_table(out: Path, failed: dict[str, list[Entry]]) -> None:
    """`<out>.failed.csv` (dataset, clip, modality, outcome, message) for all datasets of a file; none when nothing failed."""
    path = failures_path(out)
    if not any(failed.values()):
        path.unlink(missing_ok=True)
        return
    with whole(path) as part, part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["dataset", "clip", "modality", "outcome", "message"])
        for dataset, rows in failed.items():
            for row in rows:
                texts = (dataset, row.clip, row.modality, row.outcome, row.message)
                writer.writerow(map(spreadsheets.cell, texts))


def write_failures(out: Path) -> str:
    """Bring `failed.csv` up to what the file says, for all its datasets. Returns what went wrong: it is a convenience only."""
    try:
        datasets = open_features(out)
        write_table(out, {name: entries(dataset, FAILED) for name, dataset in datasets.items()})
    except (OSError, CiaError) as error:
        return f"{failures_path(out)}: not written ({error}); cia-extract info {out} has the numbers"
    return ""
