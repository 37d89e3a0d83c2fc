"""One feature file from several that were made apart: other datasets side by side, the same dataset's rows filled in."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import cia_extract.features.writer as writer
from cia_extract.common.console import Progress, Say
from cia_extract.common.errors import DataError, MismatchError
from cia_extract.features.failures import write_failures
from cia_extract.features.filling import tidy, to_fill
from cia_extract.features.reader import DatasetFeatures, open_features
from cia_extract.features.schema import DONE, FAILED, TO_DO


def merge(files: list[Path], out: Path, say: Say) -> Iterator[str]:
    """Copy every finished row that `out` lacks, checked against its CRC32C; yields one line a dataset and file.

    Raises MismatchError where one dataset was extracted with two recipes, DataError at the end for rows that are damaged.
    """
    if out.resolve() in {file.resolve() for file in files}:
        raise MismatchError(f"--out {out}: is one of the files to merge; choose another name, the parts stay as they are")
    damaged: list[str] = []
    opened = {file: open_features(file) for file in files}
    wholes = writer.open_to_fill(out)
    for file, datasets in opened.items():
        for name, part in datasets.items():
            columns = {column: values.tolist() for column, values in part.columns.items()}
            wholes[name] = writer.begin_or_continue(
                out, name, columns, part.provenance, Path(part.root), overwrite=False, datasets=wholes
            )
            copied, bad = _copy(part, wholes[name], say)
            damaged += bad
            tidy(wholes[name])
            yield f"{file}: '{name}': {copied} rows copied"
    write_failures(out)
    for name, dataset in open_features(out).items():
        yield f"{out}: '{name}': {int(dataset.done().sum())} of {len(dataset)} clips done"
    if damaged:
        more = f" and {len(damaged) - 1} more" if len(damaged) > 1 else ""
        raise DataError(f"{damaged[0]}{more}; not copied: mend that file with cia-extract verify --redo and its extraction again")


def _copy(part: DatasetFeatures, whole: DatasetFeatures, say: Say) -> tuple[int, list[str]]:
    """Rows copied, and lines on those that are damaged. Failures are copied where the whole knows nothing better."""
    _check_same_clips(part, whole)
    of_part, of_whole = np.array(part.array("status")), np.array(whole.array("status"))
    lacking = (of_whole != DONE) & (of_part == DONE) | (of_whole == TO_DO) & (of_part == FAILED)
    rows = np.argwhere(lacking)
    copied, damaged = 0, []
    with (
        open(part.path, "rb") as source,
        to_fill(whole, say) as (claims, target),
        Progress(len(rows), f"{part.path.name}: {part.name}") as progress,
    ):
        for row, column in rows.tolist():
            modality = part.modalities[column]
            if fault := part.fault(row, modality, source.fileno()):
                damaged.append(f"{part.path}: {part.columns['clip'][row]}: {fault}")
                continue
            if not claims.take(row):  # whoever has it writes it
                continue
            if target.state(row)[column] == of_whole[row, column]:
                copied += of_part[row, column] == DONE
                target.copy_row(part, row, modality)
            claims.give_back(row)
            progress.step()
    return copied, damaged


def _check_same_clips(part: DatasetFeatures, whole: DatasetFeatures) -> None:
    if part.columns["clip"].tolist() != whole.columns["clip"].tolist():  # the manifest hash of their provenance should have told
        raise MismatchError(f"{part.path}: '{part.name}' has other clips than {whole.path}")
