"""Runs side by side: which predictions were right, by method and pair; and whether the runs may be compared."""

import json
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from cia_extract.common import differences
from cia_extract.common.errors import DataError, MismatchError

from cia_adapt import runs
from cia_adapt.config import load, names, read
from cia_adapt.results.predictions import Number, Predictions, read_predictions
from cia_adapt.results.statistics import Right, mcnemar, paired
from cia_adapt.runs import files


@dataclass(frozen=True)
class Group:
    """The runs of one method on one pair of domains, which differ in their seed."""

    method: str
    pair: tuple[str, str]
    """(source, target)."""
    folders: tuple[Path, ...]
    """A run's folder for each seed, in the order of the seeds."""
    results: tuple[runs.Result, ...]
    """Their results, in the same order."""
    labels: tuple[str, ...]
    """Names of the label columns."""
    changed: tuple[str, ...] = ()
    """Lines "field: named → run" for what the runs have otherwise than the method and set-up of their names."""

    @property
    def seeds(self) -> tuple[int, ...]:
        """The runs' seeds, in order."""
        return tuple(int(result["seed"]) for result in self.results)

    @property
    def labelled(self) -> bool:
        """Whether the target's clips have labels, and the runs an accuracy on them."""
        return self.results[0]["selected"] is not None

    def right(self, number: Number, label: str | None = None, seeds: Sequence[int] | None = None) -> Right:
        """Which predictions are right, [seeds, clips] bool, clips in the order of predictions.csv.

        Args:
            number: the epoch of the predictions, "selected" or "last".
            label: name of one label column; None: a clip is right where all its labels are.
            seeds: the seeds to take; None: all.

        Raises DataError where the runs' predictions cannot be read or are of different clips.
        """
        if label not in (None, *self.labels):
            raise DataError(f"{self.folders[0]}: has no label '{label}'; its labels are {', '.join(self.labels)}")
        by_label = [self.predictions.right(number, name) for name in self.labels if label in (None, name)]
        chosen = [i for i, seed in enumerate(self.seeds) if seeds is None or seed in seeds]
        return np.asarray(np.stack(by_label).all(axis=0))[chosen]

    @cached_property
    def predictions(self) -> Predictions:
        """What the runs predict, read once. Raises DataError where it cannot be read, or is of different clips."""
        return read_predictions(self.folders, self.labels)


def groups(folders: Sequence[Path]) -> dict[tuple[str, tuple[str, str]], Group]:
    """{(method, (source, target)): Group} of the runs in these folders.

    Raises MismatchError where the runs must not stand in one table, DataError where one cannot be read.
    """
    folders_of: dict[tuple[str, tuple[str, str]], list[Path]] = defaultdict(list)
    results_of = {folder: files.read(folder) for folder in folders}
    for folder, result in results_of.items():
        folders_of[result["method"], (result["source"], result["target"])].append(folder)
    check_comparable(folders)
    by_method_and_pair = {}
    for (method, pair), members in folders_of.items():
        runs.check_alike(members)
        members = sorted(members, key=lambda folder: int(results_of[folder]["seed"]))
        config = files.read_config(members[0])
        labels = tuple(config.get("classes", ()))
        if not labels:
            raise DataError(f"{members[0]}/config.json: names no classes; {files.AGAIN}")
        results = tuple(results_of[folder] for folder in members)
        by_method_and_pair[method, pair] = Group(method, pair, tuple(members), results, labels, _changed(config))
    return by_method_and_pair


def _changed(run: Mapping[str, Any]) -> tuple[str, ...]:
    """What flags changed in a named method and set-up, a line each; epochs, batch and segments are equal in a table anyway.

    Of the winner of a search: that its settings were searched, which, and by what.
    """
    if searched := run["method"].get("searched"):
        values = ", ".join(f"{key} = {_value(run, key)}" for key in _searched(run))
        return (f"its own searched settings: trial {searched['trial']} by {searched['by']}: {values}",)
    setup, method = run["setup"]["name"], run["method"]["name"]
    if setup not in names("setups") or method not in names("methods"):  # nor is a TOML read that the run names
        return ("no method or set-up of that name here",)
    shipped = load(setup, method, {})
    named = {"method": asdict(shipped.for_pair(run["source"], run["target"])), "setup": asdict(shipped.setup)}
    differing = runs.compare(json.loads(json.dumps(named)), {"method": run["method"], "setup": run["setup"]})
    return tuple(
        str(difference) for difference in differing if difference.field not in {"setup.epochs", "setup.batch", "setup.segments"}
    )


def _searched(run: Mapping[str, Any]) -> list[str]:
    """The settings that a search chose for the run's method, "setup.lr" or "part.option"; none where it is no winner of one."""
    settings: str = run["method"].get("searched", {}).get("settings", "")
    return [key for key in settings.split(", ") if key]


def _own_setup(run: Mapping[str, Any]) -> list[str]:
    """The settings of the set-up that a built-in method's TOML has, where the run has them so."""
    return [f"setup.{key}" for key, value in _setup_of(run["method"]["name"]).items() if run["setup"].get(key) == value]


@cache
def _setup_of(method: str) -> Mapping[str, Any]:
    """What a built-in method's TOML says of the set-up."""
    return read("methods", method).get("setup", {}) if method in names("methods") else {}


def _value(run: Mapping[str, Any], key: str) -> object:
    """What a run has for a setting."""
    part, _, option = key.partition(".")
    values = run["setup"] if part == "setup" else run["method"].get("options", {}).get(part, {})
    return values.get(option, "–")


def check_comparable(folders: Sequence[Path]) -> None:
    """Raise MismatchError, with two runs and what differs, for runs whose numbers do not compare.

    Runs compare that read the same features and labels of a domain, with the same set-up, modalities and precision. A method may
    have its own optimiser and what its TOML says of the set-up, the winner of a search the settings that were searched for it.
    """
    seen: dict[str, tuple[Path, object]] = {}
    pairs: dict[frozenset[str], tuple[Path, frozenset[str]]] = {}
    common: dict[str, frozenset[str]] = {}
    for folder in folders:
        config = files.read_config(folder)
        own = {"setup.optimiser", "setup.lr", "setup.select", *_searched(config), *_own_setup(config)}
        compared = {f"setup.{key}": value for key, value in runs.completed(config["setup"]).items()}
        compared = {key: value for key, value in compared.items() if key not in own}
        compared |= {"modalities": config["modalities"], "precision": config["precision"]}
        for key, value in compared.items():
            seen.setdefault(key, (folder, value))
        if other := next((seen[key][0] for key, value in compared.items() if seen[key][1] != value), None):
            differing = [
                differences.Difference(key, seen[key][1], value)
                for key, value in sorted(compared.items())
                if seen[key][0] == other and seen[key][1] != value
            ]
            raise MismatchError(
                f"{folder} and {other} are not comparable ({differences.listed(differing)}); put them into different tables"
            )
        # A run has the digests of its two domains, but not which digest is whose. So all runs of these two domains must have the
        # same two, and all runs of one domain must have one in common.
        digests = frozenset(config["features"].split("+"))
        both = frozenset((config["source"], config["target"]))
        earlier, earlier_digests = pairs.setdefault(both, (folder, digests))
        for name in both:
            common[name] = common.get(name, digests) & digests
        if earlier_digests != digests or not all(common[name] for name in both):
            other = earlier if earlier_digests != digests else folders[0]
            raise MismatchError(
                f"{folder} and {other} are not comparable (their features were extracted or labelled differently); put them into "
                "different tables"
            )


class Difference(NamedTuple):
    """The accuracy of one method minus that of another, over their common pairs and seeds."""

    points: float
    """Mean over pairs, in percentage points."""
    low: float
    """Low end of its 95 % bootstrap interval, in points."""
    high: float
    """High end."""
    p: float
    """McNemar's p, the largest over pairs."""
    seeds: int
    """Number of common seeds, the smallest over pairs."""


def compare(a: Sequence[Group], b: Sequence[Group], number: Number, label: str | None = None) -> Difference:
    """Method a − method b over their common pairs and seeds; `number` and `label` as in `Group.right`.

    Raises DataError where the methods have no pair and seed in common.
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
        raise DataError(f"{a[0].method} and {b[0].method} have no pair and seed in common; train both with one seed on one pair")
    return Difference(*paired(rights_a, rights_b), max(ps), min(counts))
