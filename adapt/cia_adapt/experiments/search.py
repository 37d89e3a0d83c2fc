"""`cia-adapt search`: settings of a method by label-free validators. No target label takes part in a search.

SEARCHES/<set-up>/<method>/
search.json                 space, sampler, set-up and method, which every call of a search must share
<method>-trial000.toml      the method as it is; -trial001 …: with values of the space. Written before a trial trains
runs/                       the trials' runs, as everywhere
<method>-searched.toml      the winner, for --method; <set-up>-searched.toml: its set-up alone, for --setup and other methods
report.txt                  what the command printed

A search goes on where it was killed: trials with a TOML are the same again, and their finished runs are read.
"""

import json
import shlex
import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from cia_extract.common import names, writes
from cia_extract.common.console import Say
from cia_extract.common.differences import listed
from cia_extract.common.errors import CiaError, DataError, MismatchError

import cia_adapt.experiments.sweep as sweep
from cia_adapt import config, runs
from cia_adapt.config import Chosen, Space
from cia_adapt.experiments.proposals import STARTUP, Sampler, proposed
from cia_adapt.experiments.request import Request
from cia_adapt.runs import Result, files
from cia_adapt.training import VALIDATORS, best_epoch

GUARD: Final = "source_val"  # a winner is not below the method as it is in this, whatever ranks
CONFIG: Final = {
    "setup": {"name": str},
    "method": {"refinement": str, "pooling": str, "temporal": str, "objectives": [str], "options": ({},)},
}


@dataclass(frozen=True, kw_only=True)
class Search:
    """What a search is asked for."""

    request: Request
    """The method as it is: features, directions, seeds, machine."""
    setup: str
    """Name or file of the set-up."""
    method: str
    """Name or file of the method."""
    load: Callable[[str], Chosen]
    """From a method's file to set-up and method, under the flags of the search."""
    space: Space
    """What varies."""
    trials: int
    """How many, beside the method as it is."""
    by: tuple[str, ...]
    """Validators that rank, as in `training.validators`; several: by the mean of their ranks."""
    sampler: Sampler
    seed: int
    """Of the sampler."""
    jobs: int
    ray: str | None

    @property
    def name(self) -> str:
        """The method's name."""
        return self.request.chosen.method.name

    @property
    def folder(self) -> Path:
        """Where all of the search lies. Raises DataError for names that no folder can have."""
        setup = self.request.chosen.setup.name
        return self.request.runs / names.check(setup, "set-up") / names.check(self.name, "method")


@dataclass(frozen=True)
class Trial:
    """One trial and what came of it."""

    number: int
    """0: the method as it is."""
    values: Mapping[str, Any]
    """Of the space."""
    file: Path
    """Its method's TOML."""
    scores: Mapping[str, float] | None = None
    """{validator: mean over the runs, each at its selected epoch}; None where a run failed."""
    results: tuple[Result, ...] = ()
    """Of the runs. They have accuracies on the target, which must not rank."""


@dataclass(frozen=True)
class Results:
    """What a search ends with."""

    ranked: list[Trial]
    """Finished trials, the best first."""
    behind: frozenset[int]
    """Numbers of those that fall behind the method as it is, and so cannot win."""
    failed: list[sweep.Failed]
    files: list[Path]
    """The winner's TOMLs: the method's, and the set-up's where it differs."""


def run(search: Search, say: Say) -> Results:
    """Train all trials that are not finished, and write the winner. Raises MismatchError for a folder of another search."""
    _check_same(search)
    trials: list[Trial] = []
    failed: list[sweep.Failed] = []
    batch = [_written(search, 0, {}), *_known(search)]
    if len(batch) <= STARTUP:  # what is drawn at random waits for no scores
        batch += _drawn(search, batch)
    while batch:
        more, more_failed = _trained(search, batch, say)
        trials, failed = trials + more, failed + more_failed
        batch = _drawn(search, trials)
    order = ranked(trials, search.by)
    if not order:
        raise DataError(f"{search.folder}: no trial finished; the first that failed: {failed[0].what}: {failed[0].message}")
    return Results(
        order, frozenset(t.number for t in order if behind(t, trials[0], search.by)), failed, _write_winner(search, order[0])
    )


def ranked(trials: Sequence[Trial], by: Sequence[str]) -> list[Trial]:
    """Finished trials, the best first: by the mean of their ranks in the validators `by`, the earlier of equals.

    Behind all others stand those that are below trial 0, the method as it is, in one of them or on the source's validation clips:
    a validator alone can be fooled, by a model that is sure of everything.
    """
    finished = [trial for trial in trials if trial.scores is not None]

    def place(trial: Trial) -> tuple[bool, float, int]:
        assert trial.scores is not None
        better = [sum(other.scores[name] > trial.scores[name] for other in finished if other.scores) for name in by]
        return behind(trial, trials[0], by), sum(better) / len(by), trial.number

    return sorted(finished, key=place)


def counted(by: Sequence[str]) -> list[str]:
    """The validators in which a winner is not below the method as it is: those that rank, and the guard, each once."""
    return list(dict.fromkeys((*by, GUARD)))


def behind(trial: Trial, default: Trial, by: Sequence[str]) -> bool:
    """Whether a trial is below the method as it is in a validator that counts."""
    if trial.scores is None or default.scores is None:
        return trial.scores is None
    return any(trial.scores[name] < default.scores[name] for name in counted(by))


def begun_in(search: Search, space: Space) -> bool:
    """Whether the folder holds a search over this space. Raises DataError."""
    path = search.folder / "search.json"
    return path.exists() and files.read_json(path).get("space") == _recorded(space)


def _known(search: Search) -> list[Trial]:
    """Trials that an earlier call began, without the method as it is. Raises DataError for a TOML that is of another search."""
    trials: list[Trial] = []
    while len(trials) < search.trials and (path := _file(search, len(trials) + 1)).exists():
        values = config.values_of(config.read("methods", str(path)), search.space)
        if values is None:
            raise DataError(f"{path}: is not a trial of this search; delete it, and the search draws it again")
        trials.append(Trial(len(trials) + 1, values, path))
    return trials


def _drawn(search: Search, trials: Sequence[Trial]) -> list[Trial]:
    """The next trials, which train together: all that are left, or as many as TPE draws before it looks at their scores."""
    left = search.trials + 1 - len(trials)
    together = left if search.sampler == "random" else max(STARTUP + 1 - len(trials), search.jobs)
    past = [(t.values, [t.scores[name] for name in search.by] if t.scores else None) for t in trials[1:]]
    values = proposed(search.space, search.sampler, search.seed, past, min(left, together), len(search.by))
    return [_written(search, number, one) for number, one in enumerate(values, len(trials))]


def _file(search: Search, number: int) -> Path:
    return search.folder / f"{search.name}-trial{number:03d}.toml"


def _written(search: Search, number: int, values: Mapping[str, Any]) -> Trial:
    """A trial with its TOML."""
    trial = Trial(number, values, _file(search, number))
    _write_method(search, trial.file, values, f"Trial {number} of a search without target labels.")
    return trial


def _write_method(search: Search, path: Path, values: Mapping[str, Any], remark: str, searched: Mapping[str, str] = {}) -> None:
    table = config.with_values(config.read("methods", search.method), values)
    table = {key: value for key, value in table.items() if key not in ("name", "searched")}
    _write(path, config.toml_text(table | ({"searched": dict(searched)} if searched else {}), remark))


def _write(path: Path, text: str) -> None:
    """Write a file of the search. Raises UsageError where the disk refuses."""
    with writes.translated(str(path), "make room or choose another --runs folder"):
        path.parent.mkdir(parents=True, exist_ok=True)
        writes.text(path, text)


def _write_winner(search: Search, winner: Trial) -> list[Path]:
    """The winner's TOMLs."""
    by = ", ".join(search.by)
    remark = f"Trial {winner.number} of {search.trials}, the best by {by}: no target label took part (cia-adapt search)."
    if winner.number == 0:
        remark = (
            f"Its own settings: none of {search.trials} trials was better by {by}; no target label took part (cia-adapt search)."
        )
    remark += f"\nThe search: cia-adapt {shlex.join(sys.argv[1:])}"
    paths = [search.folder / f"{search.name}-searched.toml"]
    told = {"trial": f"{winner.number} of {search.trials}", "by": by, "settings": ", ".join(winner.values)}
    command = f"cia-adapt --features feats.h5 --method {paths[0]}"
    _write_method(search, paths[0], winner.values, f"{remark}\n{command}", told if winner.number else {})
    of_setup = {key.split(".")[1]: value for key, value in winner.values.items() if key.startswith("setup.")}
    if of_setup:
        paths.append(search.folder / f"{search.request.chosen.setup.name}-searched.toml")
        table = {key: value for key, value in config.read("setups", search.setup).items() if key != "name"} | of_setup
        _write(paths[1], config.toml_text(table, f"{remark}\ncia-adapt --features feats.h5 --setup {paths[1]}"))
    return paths


def _trained(search: Search, trials: Sequence[Trial], say: Say) -> tuple[list[Trial], list[sweep.Failed]]:
    """The trials with their scores, and the runs that failed."""
    requests = [replace(search.request, chosen=search.load(str(trial.file)), runs=search.folder / "runs") for trial in trials]
    try:
        results, failed = sweep.run(requests, search.jobs, search.ray, say, _line)
    except CiaError as error:  # none of these fits the features
        if not trials[0].number:
            raise
        return list(trials), [sweep.Failed(trial.file.stem, str(error), error.exit_code) for trial in trials]
    return [_scored(trial, results, failed, search.folder / "runs") for trial in trials], failed


def _line(result: Result) -> str:
    """How a run that is done is shown during a search: without what the target's labels say of it."""
    return f"{result['method']} {result['source']} → {result['target']} seed {result['seed']}"


def _scored(trial: Trial, results: Sequence[Result], failed: Sequence[sweep.Failed], folder: Path) -> Trial:
    name = trial.file.stem
    own = tuple(result for result in results if result["method"] == name)
    if not own or any(f"{one.what} ".startswith(f"{name} ") for one in failed):
        return trial
    of_runs = [_validators(folder / r["setup"] / name / f"{r['source']}-{r['target']}" / f"seed{r['seed']}") for r in own]
    scores = {name: sum(one[name] for one in of_runs) / len(of_runs) for name in VALIDATORS}
    return replace(trial, scores=scores, results=own)


def _validators(folder: Path) -> dict[str, float]:
    """{validator: its value at the selected epoch} of a run. Raises DataError."""
    rule = files.read_config(folder)["setup"]["select"]
    history = files.read_metrics(folder)
    columns = {f"validator_{name}" for name in VALIDATORS} | ({"validator_dev"} if rule == "dev" else set())
    for metrics in history:
        files.check(folder / "metrics.jsonl", metrics, dict.fromkeys(columns, float))
    selected = history[best_epoch(history, rule) - 1]
    return {name: selected[f"validator_{name}"] for name in VALIDATORS}


def _recorded(space: Space) -> Any:
    """A space as search.json has it."""
    return json.loads(json.dumps({key: asdict(axis) for key, axis in space.items()}))


def _check_same(search: Search) -> None:
    """Write search.json, or compare it with what is asked now. Raises MismatchError, DataError."""
    chosen = search.request.chosen
    asked: dict[str, Any] = {
        "space": _recorded(search.space),
        "sampler": {"name": search.sampler, "seed": search.seed} | ({"by": search.by} if search.sampler == "tpe" else {}),
        "setup": asdict(chosen.setup),
        "method": asdict(chosen.method),
        "pairs": chosen.pairs,
        "settings": chosen.sets,
        "sources": list(search.request.sources),
        "target": search.request.target,
    }
    asked = json.loads(json.dumps(asked))
    path = search.folder / "search.json"
    if not path.exists():
        _write(path, json.dumps(asked, indent=2, ensure_ascii=False) + "\n")
        return
    known = files.read_json(path)
    files.check(path, known, CONFIG)
    known = {"sources": asked["sources"], "target": asked["target"]} | known  # files made before these were recorded
    if differing := runs.compare(known, asked):
        raise MismatchError(f"{search.folder}: holds another search ({listed(differing)}); give another --runs folder")
