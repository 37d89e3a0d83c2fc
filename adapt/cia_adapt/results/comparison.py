"""Runs side by side: which predictions were right, by method and pair; and whether runs may be compared at all."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from cia_extract.common import differences
from cia_extract.common.errors import DataError, MismatchError, UsageError

from cia_adapt import runs
from cia_adapt.config import load
from cia_adapt.results.statistics import Right, mcnemar, paired
from cia_adapt.runs import files

Number = Literal["selected", "last"]


@dataclass(frozen=True)
class Group:
    """The seeds of one method on one pair."""

    method: str
    pair: tuple[str, str]
    folders: tuple[Path, ...]
    results: tuple[runs.Result, ...]
    labels: tuple[str, ...]
    changed: tuple[str, ...] = ()
    """In what its runs depart from the method and set-up of that name."""

    @property
    def seeds(self) -> tuple[int, ...]:
        return tuple(int(result["seed"]) for result in self.results)

    def right(self, number: Number, label: str | None = None, seeds: Sequence[int] | None = None) -> Right:
        """[seeds, clips] from the runs' predictions, clips in their file's order; `label` None: all labels right."""
        rows = []
        for folder, seed in zip(self.folders, self.seeds, strict=True):
            if seeds is None or seed in seeds:
                rows.append(_right(folder, self.labels, number, label))
        if len({len(row) for row in rows}) > 1:
            raise DataError(f"{self.folders[0].parent}: its runs have predictions of different clips")
        return np.stack(rows)


def groups(folders: Sequence[Path]) -> dict[tuple[str, tuple[str, str]], Group]:
    """{(method, (source, target)): Group}. Raises MismatchError where runs must not stand in one table."""
    found: dict[tuple[str, tuple[str, str]], list[Path]] = defaultdict(list)
    for folder in folders:
        result = files.read(folder)
        found[result["method"], (result["source"], result["target"])].append(folder)
    check_comparable(folders)
    made = {}
    for (method, pair), members in found.items():
        runs.check_alike(members)
        members = sorted(members, key=lambda folder: int(files.read(folder)["seed"]))
        config = files.read_config(members[0])
        labels = tuple(config.get("classes", ()))
        if not labels:
            raise DataError(f"{members[0]}/config.json: names no classes; train the run again with --overwrite, or leave it out")
        made[method, pair] = Group(method, pair, tuple(members), tuple(files.read(f) for f in members), labels, _changed(config))
    return made


def _changed(run: Mapping[str, Any]) -> tuple[str, ...]:
    """What flags made of a named method and set-up, one line each; epochs, batch and segments are shared by a table."""
    try:
        chosen = load(run["setup"]["name"], run["method"]["name"], {})
    except UsageError:
        return ("no method or set-up of that name here",)
    named = {"method": asdict(chosen.for_pair(run["source"], run["target"])), "setup": asdict(chosen.setup)}
    differing = runs.compare(json.loads(json.dumps(named)), {"method": run["method"], "setup": run["setup"]})
    return tuple(str(one) for one in differing if one.field not in {"setup.epochs", "setup.batch", "setup.segments"})


def check_comparable(folders: Sequence[Path]) -> None:
    """All runs read the same features and labels of their domains, in the same set-up, modalities and precision; a method may
    bring its own optimiser. Raises MismatchError with two runs and what differs.
    """
    first: tuple[Path, Mapping[str, object]] | None = None
    pairs: dict[frozenset[str], tuple[Path, frozenset[str]]] = {}
    common: dict[str, frozenset[str]] = {}
    for folder in folders:
        config = files.read_config(folder)
        setup = {key: value for key, value in runs.completed(config["setup"]).items() if key not in {"optimiser", "lr", "select"}}
        compared = {"modalities": config["modalities"], "precision": config["precision"], "setup": setup}
        first = first or (folder, compared)
        differing = differences.between(first[1], compared)
        if differing:
            raise MismatchError(
                f"{folder} and {first[0]} are not comparable ({differences.listed(differing)}); put them into different tables"
            )
        # A run has the digests of its two domains, without saying whose is whose: all runs of these two domains have the same
        # ones, and all of one domain have one in common.
        digests = frozenset(config["features"].split("+"))
        both = frozenset((config["source"], config["target"]))
        other, known = pairs.setdefault(both, (folder, digests))
        for name in both:
            common[name] = common.get(name, digests) & digests
        if known != digests or not all(common[name] for name in both):
            raise MismatchError(
                f"{folder} and {other if known != digests else first[0]} are not comparable (features: made or labelled "
                "differently); put them into different tables"
            )


def compare(
    a: Sequence[Group], b: Sequence[Group], number: Number, label: str | None = None
) -> tuple[float, float, float, float, int]:
    """Method a − method b over their common pairs and seeds: (points, low, high, McNemar's p as the largest over pairs, seeds).

    Raises DataError where they have no seed in common.
    """
    rights_a, rights_b, ps, counts = [], [], [], []
    partner = {group.pair: group for group in b}
    for group in a:
        other = partner.get(group.pair)
        seeds = sorted(set(group.seeds) & set(other.seeds)) if other else []
        if other is None or not seeds:
            continue
        rights_a.append(group.right(number, label, seeds))
        rights_b.append(other.right(number, label, seeds))
        ps.append(mcnemar(rights_a[-1], rights_b[-1]))
        counts.append(len(seeds))
    if not rights_a:
        raise DataError(f"{a[0].method} and {b[0].method} have no pair and seed in common")
    return (*paired(rights_a, rights_b), max(ps), min(counts))


def _right(folder: Path, labels: Sequence[str], number: Number, label: str | None) -> Right:
    rows = files.read_predictions(folder)
    columns = []
    for name in labels:
        guess = number if len(labels) == 1 else f"{name}_{number}"
        if not {name, guess} <= rows[0].keys():
            raise DataError(f"{folder}/predictions.csv: has no column {name} or {guess}; train the run again with --overwrite")
        if label in (None, name):
            columns.append(np.array([row[name] == row[guess] and row[name] != "" for row in rows]))
    if not columns:
        raise DataError(f"{folder}: has no label '{label}'; its labels are {', '.join(labels)}")
    return np.asarray(np.stack(columns).all(0))
