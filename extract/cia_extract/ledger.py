"""What became of each clip and modality: the outcomes, as the feature file, `failed.csv` and the summary name them."""

import csv
import os
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

import numpy as np

from cia_extract import spreadsheets
from cia_extract.errors import DataError
from cia_extract.names import printable

if TYPE_CHECKING:
    from cia_extract.features import DatasetFeatures

# Stored as uint8 by position; only append. "ok", "short", "no audio" and "damaged" go with status "done", others with "failed".
OUTCOMES: Final = (
    "",
    "ok",
    "short",  # fewer frames than are described, or sound shorter than its windows: frames repeat, sound is padded and masked
    "no audio",  # zeros, all masked
    "partial decode",  # ends before its header says it should
    "decode error",
    "timeout",
    "not finite",
    "missing",  # no such file
    "damaged",  # usable, but the decoder concealed errors in some frames
)
MESSAGE_BYTES: Final = 240


@dataclass(frozen=True)
class Outcome:
    """One of OUTCOMES and, where there is something to say, one line about it."""

    name: str
    message: str = ""

    @property
    def code(self) -> int:
        return OUTCOMES.index(self.name)


OK: Final = Outcome("ok")


class ClipError(DataError):
    """A clip that cannot be used, and the outcome it is recorded with."""

    def __init__(self, message: str, outcome: str = "decode error") -> None:
        super().__init__(message)
        self.outcome = Outcome(outcome, message)

    def __reduce__(self) -> tuple[type["ClipError"], tuple[str, str]]:  # crosses from worker processes
        return ClipError, (str(self), self.outcome.name)


@dataclass(frozen=True)
class Entry:
    """A row of the ledger: a clip's modality that is done or failed."""

    clip: str
    modality: str
    outcome: str
    message: str


def entries(dataset: "DatasetFeatures", status: int) -> list[Entry]:
    """The ledger's rows with this status, in the file's order. Files made before there was a ledger give empty outcomes."""
    found = []
    clips = dataset.columns["clip"]
    has_ledger = "outcome" in dataset.regions
    for row, column in np.argwhere(dataset.array("status") == status):
        code = int(dataset.array("outcome")[row, column]) if has_ledger else 0
        message = bytes(dataset.array("message")[row, column]).decode(errors="replace") if has_ledger else ""
        name = OUTCOMES[code] if code < len(OUTCOMES) else "unknown"
        found.append(Entry(str(clips[row]), dataset.modalities[column], name, message))
    return found


def counts(dataset: "DatasetFeatures") -> dict[str, dict[str, int]]:
    """{modality: {outcome: rows}} of all rows that are done or failed."""
    if "outcome" not in dataset.regions:
        return {}
    table = {}
    outcomes = np.where(np.isin(dataset.array("status"), (1, 2)), dataset.array("outcome"), 0)
    for column, modality in enumerate(dataset.modalities):
        found = Counter(outcomes[:, column].tolist())
        table[modality] = {OUTCOMES[code]: found[code] for code in sorted(found) if 0 < code < len(OUTCOMES)}
    return table


def damaged(dataset: "DatasetFeatures") -> dict[str, str]:
    """Clip → message of those that are done but damaged, in the file's order."""
    if "outcome" not in dataset.regions:
        return {}
    rows = (dataset.array("status") == 1) & (dataset.array("outcome") == OUTCOMES.index("damaged"))
    clips, messages = dataset.columns["clip"], dataset.array("message")
    return {
        str(clips[row]): bytes(messages[row, rows[row].argmax()]).decode(errors="replace") for row in np.flatnonzero(rows.any(1))
    }


def first_line(error: BaseException) -> str:
    """An unexpected error as a message: some libraries write whole paragraphs."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def encoded(message: str) -> bytes:
    """A message as it is stored: UTF-8, cut to MESSAGE_BYTES without splitting a character."""
    return message.encode(errors="replace")[:MESSAGE_BYTES].decode(errors="ignore").encode()


def failures_path(out: Path) -> Path:
    return out.with_suffix(".failed.csv")


def write_failures(out: Path, failed: dict[str, list[Entry]]) -> None:
    """`<out>.failed.csv` (dataset, clip, modality, outcome, message) for all datasets of a file; none when nothing failed."""
    path = failures_path(out)
    if not any(failed.values()):
        path.unlink(missing_ok=True)
        return
    part = path.with_name(f".{path.name}.{os.getpid()}.part")  # several processes may fill one file
    with part.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(["dataset", "clip", "modality", "outcome", "message"])
        for dataset, rows in failed.items():
            for row in rows:
                texts = (dataset, row.clip, row.modality, row.outcome, row.message)
                writer.writerow(spreadsheets.cell(printable(text)) for text in texts)
    os.replace(part, path)
