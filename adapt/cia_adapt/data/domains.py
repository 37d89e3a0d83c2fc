"""The domains of a feature file: clips that share their distribution, with their splits, labels and classes."""

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.suggest import did_you_mean

from cia_adapt.config import splits
from cia_adapt.data.foreign import open_any
from cia_adapt.data.joined import JoinedDataset
from cia_adapt.data.readers import Positions
from cia_adapt.data.source import FeatureSource

JOINING = "+"
"""Stands between the names of several sources in the name of all: "olympic+ucf"."""


@dataclass(frozen=True)
class Domain:
    """The finished clips of one domain of a feature file."""

    name: str
    dataset: FeatureSource
    """The dataset of the file in which the clips lie; other domains may lie in it too."""
    rows: Positions
    """Rows of the clips in the dataset, [N] int64."""

    @property
    def each(self) -> tuple["Domain", ...]:
        """The domains of the file that it is made of: itself."""
        return (self,)

    @property
    def split_names(self) -> npt.NDArray[Any]:
        """Name of each clip's split, [N], empty where the file names none."""
        column = self.dataset.columns.get("split")
        return np.full(len(self.rows), "", dtype=object) if column is None else np.asarray(column[self.rows], dtype=object)

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

    def by_source(self, rows: Positions) -> dict[str, Positions]:
        """{name of a source: the positions in `rows` of its clips} where several are joined, else empty."""
        return {}

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


@dataclass(frozen=True)
class JoinedDomain(Domain):
    """Several sources as one domain: the clips of the first, then those of the second, …"""

    dataset: JoinedDataset
    """A member for each source."""
    sources: tuple[Domain, ...]
    """The domains of the file, by name."""

    @classmethod
    def of(cls, sources: Sequence[Domain]) -> "JoinedDomain":
        """These domains in this order."""
        name = name_of([source.name for source in sources])
        dataset = JoinedDataset.of(name, [source.dataset for source in sources])
        rows = [begin + source.rows for begin, source in zip(dataset.begins[:-1], sources, strict=True)]
        return cls(name, dataset, np.concatenate(rows), tuple(sources))

    @property
    def each(self) -> tuple[Domain, ...]:
        """The domains of the file that it is made of."""
        return self.sources

    def split(self, name: str, flag: str = "--val-split") -> Positions:
        """As `Domain.split`; every source must have such clips."""
        begins = self.dataset.begins
        return np.concatenate([begin + source.split(name, flag) for begin, source in zip(begins, self.sources, strict=False)])

    def text_labels(self, rows: Positions, column: str) -> list[str]:
        """As `Domain.text_labels`."""
        labels = np.empty(len(rows), dtype=object)
        for source, begin, positions in zip(self.sources, self.dataset.begins, self.by_source(rows).values(), strict=False):
            labels[positions] = source.text_labels(rows[positions] - begin, column)
        return list(labels)

    def by_source(self, rows: Positions) -> dict[str, Positions]:
        """As `Domain.by_source`."""
        member = self.dataset.member_of(rows)
        return {source.name: np.flatnonzero(member == i) for i, source in enumerate(self.sources)}


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


def pairs(domains: Mapping[str, Domain], sources: Sequence[str], target: str | None) -> list[tuple[tuple[str, ...], str]]:
    """The (sources, target) pairs to run. Without a source, or a target, every domain is one in turn.

    Raises UsageError for an unknown domain, for a source that is named twice or is also the target, and where no domain is left.
    """
    for name in sources:
        several = [part.strip() for part in re.split("[,+]", name)]
        if name not in domains and all(part in domains for part in several):
            raise UsageError(f"--source {name}: name each source on its own: {' '.join(f'--source {part}' for part in several)}")
    for flag, name in (*(("--source", name) for name in sources), *([("--target", target)] if target is not None else [])):
        if name not in domains:
            raise UsageError(f"{flag} {name}: not in the file, which holds {', '.join(domains)}{did_you_mean(name, domains)}")
    for name in sources:
        if list(sources).count(name) > 1:
            raise UsageError(f"--source {name}: is named twice; name each source once")
        if name == target:
            raise UsageError(f"--target {target}: is the source as well; name two different domains")
    asked = [tuple(sources)] if sources else [(name,) for name in domains]
    directions = [(s, t) for s in asked for t in domains if t not in s and target in (None, t)]
    if directions:
        return directions
    if len(sources) > 1:
        raise UsageError(f"--source: all {len(sources)} domains of the file are sources; leave one out, to be the target")
    only = ", ".join(domains)
    raise UsageError(f"--features: adaptation needs two domains; the file holds {only}; extract a second --dataset into it")


def as_one(sources: Sequence[Domain]) -> Domain:
    """Several sources as one domain, by name, so that the order of the flags changes no number. One stays as it is."""
    return sources[0] if len(sources) == 1 else JoinedDomain.of(sorted(sources, key=lambda source: source.name))


def name_of(sources: Sequence[str]) -> str:
    """The name of these sources together, in runs and their folders.

    >>> name_of(["ucf", "olympic"]), name_of(["ucf"])
    ('olympic+ucf', 'ucf')
    """
    return JOINING.join(sorted(sources))


def called(domains: Mapping[str, Domain], name: str) -> Domain | None:
    """The domain, or several sources as one, that a run names so; None where `domains` does not have them."""
    several = name.split(JOINING)
    known = [domains[source] for source in several if source in domains]
    return domains.get(name) or (as_one(known) if len(known) == len(several) else None)


def digest(*domains: Domain) -> str:
    """Identifies the features and labels that a run reads: the SHA-256 of each domain, sorted, joined by "+"."""
    digests = set()
    for domain in (one for several in domains for one in several.each):
        clips = "\0".join(domain.dataset.columns["clip"][domain.rows])  # a manifest may leave some out
        digests.add(hashlib.sha256(f"{domain.dataset.digest()}\0{domain.name}\0{clips}".encode()).hexdigest())
    return "+".join(sorted(digests))
