"""The domains of a feature file: clips that share their distribution, with their splits, labels and classes."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.suggest import did_you_mean

from cia_adapt.config import splits
from cia_adapt.data.foreign import open_any
from cia_adapt.data.readers import Positions
from cia_adapt.data.source import FeatureSource


@dataclass(frozen=True)
class Domain:
    """The finished clips of one domain of a feature file."""

    name: str
    dataset: FeatureSource
    """The dataset of the file in which the clips lie; other domains may lie in it too."""
    rows: Positions
    """Rows of the clips in the dataset, [N] int64."""

    @property
    def split_names(self) -> npt.NDArray[np.str_]:
        """Name of each clip's split, [N], empty where the file names none."""
        column = self.dataset.columns.get("split")
        return np.full(len(self.rows), "") if column is None else np.asarray(column[self.rows]).astype(str)

    def split(self, name: str, flag: str = "--val-split") -> Positions:
        """Rows of the split `name`; `splits.ALL` is every clip. Raises DataError quoting `flag` where the split is empty."""
        names = self.split_names
        have = sorted(set(names.tolist()) - {""})
        where = f"{self.dataset.path}: '{self.name}'"
        if name == splits.ALL:
            if splits.ALL in have and len(have) > 1:
                raise DataError(
                    f"{where} has a split called 'all', but {flag} all means every clip; rename the split with a --manifest"
                )
            names = np.full(len(self.rows), name)
        rows = self.rows[names == name]
        if not len(rows):
            if not len(self.rows):
                raise DataError(f"{where} has no finished clip; extract it first")
            existing = f"it has {', '.join(have)}{did_you_mean(name, have)}" if have else "no clip has a split"
            other = "one of these, or all for every clip" if have else "all for every clip"
            raise DataError(
                f"{where} has no finished clip in split '{name}' ({existing}); give {flag} {other}, or put clips into it with a "
                "--manifest"
            )
        return rows

    def text_labels(self, rows: Positions, column: str) -> list[str]:
        """The labels of these rows in one column, "" for none. Raises DataError where there is no such column."""
        if column not in self.dataset.columns:
            raise DataError(
                f"{self.dataset.path}: '{self.name}' has no column '{column}'; see --labels"
                f"{did_you_mean(column, self.dataset.columns)}"
            )
        return [str(label) for label in self.dataset.columns[column][rows]]

    def classes(self, rows: Positions, column: str) -> frozenset[str]:
        """Names of the classes of these rows' clips. Raises DataError where there is no such column."""
        return frozenset(self.text_labels(rows, column)) - {""}


def find_domains(path: Path, mapping: Sequence[str] = ()) -> dict[str, Domain]:
    """The domains of a feature file by name (`domains_of`). `mapping` names the arrays of a foreign file (`foreign.parse`).

    Raises DataError, and UsageError for a mapping that does not fit.
    """
    return domains_of(open_any(path, mapping).values())


def domains_of(datasets: Iterable[FeatureSource]) -> dict[str, Domain]:
    """The domains of datasets by name: each value of a dataset's column `domain`, or the dataset itself without that column.

    A value that two datasets have is called "<dataset>.<value>" in the second.
    """
    domains: dict[str, Domain] = {}
    for dataset in datasets:
        finished = np.flatnonzero(dataset.done())
        column = dataset.columns.get("domain")
        values = column if column is not None else np.full(len(dataset), dataset.name)
        for value in sorted(set(values.tolist())):
            name = str(value) if value not in domains else f"{dataset.name}.{value}"
            domains[name] = Domain(name, dataset, finished[values[finished] == value])
    return domains


def pairs(domains: Mapping[str, Domain], source: str | None, target: str | None) -> list[tuple[str, str]]:
    """The (source, target) pairs to run; what is None may be any domain.

    Raises UsageError for an unknown domain, for a source that is also the target, and for a file with one domain.
    """
    for flag, name in (("--source", source), ("--target", target)):
        if name is not None and name not in domains:
            raise UsageError(f"{flag} {name}: not in the file, which holds {', '.join(domains)}{did_you_mean(name, domains)}")
    if source is not None and source == target:
        raise UsageError(f"--target {target}: is the source as well; name two different domains")
    directions = [(s, t) for s in domains for t in domains if s != t and source in (None, s) and target in (None, t)]
    if not directions:
        only = ", ".join(domains)
        raise UsageError(f"--features: adaptation needs two domains; the file holds {only}; extract a second --dataset into it")
    return directions


def digest(*domains: Domain) -> str:
    """Identifies the features and labels that a run reads: the SHA-256 of each domain, sorted, joined by "+"."""
    digests = set()
    for domain in domains:
        clips = "\0".join(domain.dataset.columns["clip"][domain.rows])  # a manifest may leave some out
        digests.add(hashlib.sha256(f"{domain.dataset.digest()}\0{domain.name}\0{clips}".encode()).hexdigest())
    return "+".join(sorted(digests))
