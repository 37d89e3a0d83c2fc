"""`--manifest`: labels, splits and other columns of a CSV instead of those in the feature file, without extracting anew."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from cia_extract.common.console import Say
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.suggest import did_you_mean
from cia_extract.datasets import manifest

from cia_adapt.data.clips import Dataset
from cia_adapt.data.domains import Domain


def relabelled(domains: Mapping[str, Domain], entries: Sequence[str], say: Say) -> dict[str, Domain]:
    """Apply `[DOMAIN=]FILE` entries by clip id; clips of the file that a manifest does not list are left out.

    An entry without a domain is for all. Raises UsageError for an unknown domain, DataError where no clip matches.
    """
    result = dict(domains)
    for entry in entries:
        names, path = parse(entry, domains)
        listed = manifest.read(path)
        row_of = {clip: row for row, clip in enumerate(listed.columns["clip"])}
        for domain_name in names:
            domain = result[domain_name]
            clips = domain.dataset.columns["clip"]
            if not len(domain.rows):
                raise DataError(f"--manifest {path}: '{domain_name}' has no finished clip to label; extract it first")
            kept = np.array([row for row in domain.rows if str(clips[row]) in row_of], dtype=np.int64)
            if not len(kept):
                raise DataError(f"--manifest {path}: lists no clip of '{domain_name}'; its ids look like {clips[domain.rows[0]]}")
            if len(kept) < len(domain.rows):
                say(f"note: {len(domain.rows) - len(kept)} clips of '{domain_name}' are not in {path}; left out")
            result[domain_name] = Domain(domain_name, _with_columns(domain.dataset, listed, row_of), kept)
    return result


def parse(entry: str, domains: Mapping[str, Domain]) -> tuple[list[str], Path]:
    """(the domains that a `[DOMAIN=]FILE` is for, the file). Raises UsageError for an unknown one."""
    name, separator, path = entry.rpartition("=")
    if separator and name not in domains:
        have = f"{', '.join(domains)}{did_you_mean(name, domains)}"
        raise UsageError(f"--manifest {entry}: no domain {name} in the file, it has {have}")
    return [name] if separator else list(domains), Path(path)


def _with_columns(dataset: Dataset, listed: manifest.Manifest, row_of: Mapping[str, int]) -> Dataset:
    """The dataset with the manifest's columns; rows that it does not list keep theirs."""
    columns = dict(dataset.columns)
    for column, values in listed.columns.items():
        old = columns.get(column, np.full(len(dataset), ""))
        columns[column] = np.array(
            [
                values[row_of[str(clip)]] if str(clip) in row_of else before
                for clip, before in zip(columns["clip"], old, strict=True)
            ]
        ).astype(str)
    return replace(dataset, columns=columns)
