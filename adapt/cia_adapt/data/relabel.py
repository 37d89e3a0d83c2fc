"""`--manifest`: labels, splits and other columns from a CSV file in place of the feature file's, without extracting again."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from cia_extract.common.console import Say
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.suggest import did_you_mean
from cia_extract.datasets import manifest

from cia_adapt.data.domains import Domain
from cia_adapt.data.source import FeatureSource, with_columns


def relabelled(domains: Mapping[str, Domain], entries: Sequence[str], say: Say) -> dict[str, Domain]:
    """The domains with the columns of the `[DOMAIN=]FILE` entries, matched by clip id.

    Clips that the manifest does not list are left out, and `say` tells how many. An entry without a domain is for all domains.
    Raises UsageError for an unknown domain, DataError where no clip matches.
    """
    result = dict(domains)
    for entry in entries:
        names, path = parse(entry, domains)
        listed = manifest.read(path, needs_path=False)
        row_of = {clip: row for row, clip in enumerate(listed.columns["clip"])}
        for domain_name in names:
            domain = result[domain_name]
            clips = domain.dataset.columns["clip"]
            if not len(domain.rows):
                raise DataError(f"--manifest {path}: '{domain_name}' has no finished clip to label; extract it first")
            rows = np.array([row for row in domain.rows if str(clips[row]) in row_of], dtype=np.int64)
            if not len(rows):
                raise DataError(
                    f"--manifest {path}: lists no clip of '{domain_name}'; that domain's ids look like {clips[domain.rows[0]]}"
                )
            if len(rows) < len(domain.rows):
                say(f"note: {len(domain.rows) - len(rows)} clips of '{domain_name}' are not in {path}; left out")
            result[domain_name] = Domain(domain_name, _with_columns(domain.dataset, listed, row_of), rows)
    return result


def parse(entry: str, domains: Mapping[str, Domain]) -> tuple[list[str], Path]:
    """`[DOMAIN=]FILE` → (names of the domains it is for, the file). Raises UsageError for an unknown domain."""
    name, separator, path = entry.rpartition("=")
    if separator and name not in domains:
        have = f"{', '.join(domains)}{did_you_mean(name, domains)}"
        raise UsageError(f"--manifest {entry}: no domain {name} in the feature file, which has {have}")
    return [name] if separator else list(domains), Path(path)


def _with_columns(dataset: FeatureSource, listed: manifest.Manifest, row_of: Mapping[str, int]) -> FeatureSource:
    """The dataset with the manifest's columns; rows that the manifest does not list keep their values, paths if it has none."""
    columns = dict(dataset.columns)
    without_paths = "path" in columns and listed.columns["path"] == listed.columns["clip"]
    for column, values in listed.columns.items():
        if column == "path" and without_paths:
            continue
        old = columns.get(column, [""] * len(dataset))
        texts = [
            values[row_of[str(clip)]] if str(clip) in row_of else str(before)
            for clip, before in zip(columns["clip"], old, strict=True)
        ]
        columns[column] = np.array(texts, dtype=object)
    return with_columns(dataset, columns)
