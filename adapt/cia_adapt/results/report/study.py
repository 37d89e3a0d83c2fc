"""What a report is about: the finished runs of one set-up, by method and direction."""

from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cia_extract.common.errors import CiaError, DataError, UsageError
from cia_extract.common.suggest import did_you_mean

from cia_adapt import runs
from cia_adapt.results.comparison import Group, groups
from cia_adapt.results.predictions import read_predictions
from cia_adapt.results.statistics import interval
from cia_adapt.runs import files
from cia_adapt.training import Metrics

BASELINES: Final = ("source-only", "concat")  # what the others are compared with, unless the reader says otherwise

Pair = tuple[str, str]
LeaveOut = Callable[[str], None]
"""Takes a line that says what is left out of the report, and why."""


@dataclass(frozen=True)
class Wanted:
    """What the reader asks of a report, beside the runs."""

    baseline: str | None = None
    """The method that the others are compared with; None: the first of `BASELINES` that was run, else the first method."""
    root: Path | None = None
    """Goes before the clips' folder that the feature file names."""
    seed: int = 0
    """Draws the clips of the pictures and the halves of the domain distance."""
    clips: int = 4
    """Number of clips of a kind whose frames are shown."""


@dataclass(frozen=True)
class Run:
    """The files of a finished run that are small."""

    folder: Path
    result: runs.Result
    config: Mapping[str, Any]
    stamp: Mapping[str, Any]
    history: Sequence[Metrics]


@dataclass(frozen=True)
class Study:
    """The runs of one set-up that may stand side by side."""

    setup: str
    groups: Mapping[tuple[str, Pair], Group]
    runs: Mapping[Path, Run]
    wanted: Wanted

    @cached_property
    def methods(self) -> tuple[str, ...]:
        """The methods' names: the baseline, then by mean accuracy of the selected epochs, the best first."""

        def order(method: str) -> tuple[bool, float]:
            return method != self.baseline, -self.accuracy(method)

        return tuple(sorted(dict.fromkeys(method for method, _ in self.groups), key=order))

    @cached_property
    def pairs(self) -> tuple[Pair, ...]:
        """The (source, target) pairs, sorted."""
        return tuple(sorted({pair for _, pair in self.groups}))

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the label columns; all runs of a set-up have the same."""
        return next(iter(self.groups.values())).labels

    @cached_property
    def baseline(self) -> str | None:
        """The method that the others are compared with; None where there is only one."""
        methods = sorted({method for method, _ in self.groups})
        known = [name for name in (self.wanted.baseline, *BASELINES, *methods) if name in methods]
        return known[0] if len(methods) > 1 else None

    @cached_property
    def intervals(self) -> Mapping[tuple[str, Pair], tuple[float, float]]:
        """{(method, pair): 95 % bootstrap interval, in %, of the selected epochs' accuracy}."""
        return {key: interval([group.right("selected")]) for key, group in self.groups.items()}

    @cached_property
    def best(self) -> str:
        """The method of the highest mean accuracy of the selected epochs, the baseline apart where there are others.

        Methods that were trained on target labels are bounds and come last.
        """
        bounds = {g.method for g in self.groups.values() if g.results[0].get("trained_on_target_labels")}
        others = [method for method in self.methods if method != self.baseline] or list(self.methods)
        return min(others, key=lambda method: (method in bounds, -self.accuracy(method)))

    def accuracy(self, method: str) -> float:
        """Mean over the method's runs of the selected epoch's accuracy on the target, in %."""
        return self._accuracies[method]

    @cached_property
    def _accuracies(self) -> Mapping[str, float]:
        values: dict[str, list[float]] = defaultdict(list)
        for (method, _), group in self.groups.items():
            values[method] += [float(result["selected"]) for result in group.results]
        return {method: sum(of_runs) / len(of_runs) for method, of_runs in values.items()}

    def in_order(self) -> list[Group]:
        """The groups by direction, and within one in the order of `methods`."""
        return [self.groups[method, pair] for pair in self.pairs for method in self.methods if (method, pair) in self.groups]

    def of_method(self, method: str) -> list[Group]:
        """The method's groups, by direction."""
        return [self.groups[method, pair] for pair in self.pairs if (method, pair) in self.groups]

    def members(self, group: Group) -> list[Run]:
        """The group's runs, by seed."""
        return [self.runs[folder] for folder in group.folders]


def direction(pair: Pair) -> str:
    """How a pair is called in the page."""
    return f"{pair[0]} → {pair[1]}"


def read(folders: Sequence[Path], wanted: Wanted, leave_out: LeaveOut) -> list[Study]:
    """The studies of the runs in these folders, one a set-up; a run that cannot be read is left out.

    Raises DataError where none can be read, MismatchError where runs of one set-up must not stand side by side, UsageError for a
    baseline that was not run.
    """
    by_setup: dict[str, dict[Path, Run]] = defaultdict(dict)
    for folder in folders:
        try:
            run = _run(folder)
        except CiaError as error:
            leave_out(str(error))
        else:
            by_setup[str(run.result["setup"])][folder] = run
    studies = [one for setup, members in sorted(by_setup.items()) if (one := _study(setup, members, wanted, leave_out)).runs]
    if not studies:
        raise DataError("none of these runs can be read, see above; train them again with --overwrite")
    methods = {method for one in studies for method, _ in one.groups}
    if wanted.baseline is not None and wanted.baseline not in methods:
        have = ", ".join(sorted(methods))
        raise UsageError(
            f"--baseline {wanted.baseline}: no run of that method; choose from {have}{did_you_mean(wanted.baseline, methods)}"
        )
    return studies


def _study(setup: str, members: Mapping[Path, Run], wanted: Wanted, leave_out: LeaveOut) -> Study:
    """The study of those runs whose predictions can be read, and are of the same clips as those of their group's first seed."""
    by_name: dict[tuple[str, ...], list[Path]] = defaultdict(list)
    for folder, run in members.items():
        by_name[tuple(str(run.result[key]) for key in ("method", "source", "target"))].append(folder)
    for alike in by_name.values():
        runs.check_alike(alike)
    while True:
        study = Study(setup, groups(list(members)), members, wanted)
        unreadable = [line for group in study.groups.values() for line in _unreadable(group)]
        if not unreadable:
            return study
        for _, reason in unreadable:
            leave_out(reason)
        members = {folder: run for folder, run in members.items() if folder not in dict(unreadable)}


def _run(folder: Path) -> Run:
    """The small files of a run. Raises DataError where one is missing, damaged or of another version."""
    run = Run(folder, files.read(folder), files.read_config(folder), files.read_stamp(folder), files.read_metrics(folder))
    parts = {"refinement": str, "temporal": str, "objectives": [str], "options": ({},)}
    files.check(folder / "config.json", run.config, {"classes": ([str],), "method": parts})
    runs.setup_of(run.config, folder), runs.method_of(run.config, folder)
    if not run.config["classes"]:
        raise DataError(f"{folder}/config.json: names no classes; {files.AGAIN}")
    if run.result["selected"] is None:
        raise DataError(f"{folder}: its target has no labels, so there is no accuracy to report; see cia-adapt predict")
    return run


def _unreadable(group: Group) -> list[tuple[Path, str]]:
    """(folder, why) of the group's runs that have no predictions, or those of other clips than the first run that has some."""
    try:
        group.predictions  # noqa: B018
    except DataError:
        reasons: list[tuple[Path, str]] = []
        readable: list[Path] = []
        for folder in group.folders:
            try:
                read_predictions([*readable[:1], folder], group.labels)
                readable.append(folder)
            except DataError as error:
                reasons.append((folder, str(error)))
        return reasons
    return []
