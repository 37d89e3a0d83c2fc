"""What a search says when it ends: its trials, how well the validators agree, and, set apart, what the target's labels say."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd

from cia_adapt.experiments.search import Results, Search, Trial
from cia_adapt.runs import rank_correlation
from cia_adapt.training import VALIDATORS

Agreement = dict[str, dict[str, float | None]]


def agreement(trials: Sequence[Trial]) -> Agreement:
    """{validator: {validator: Spearman's ρ over the trials}}; None where one does not vary."""
    columns = {name: _column(trials, name) for name in VALIDATORS}
    return {a: {b: rank_correlation(columns[a], columns[b]) for b in VALIDATORS} for a in VALIDATORS}


def with_target_labels(results: Results) -> dict[str, Any]:
    """What nothing above may use: accuracies in % on the target, means over the runs, and the validators' ρ with them."""
    trials = results.ranked
    accuracies = {trial.number: sum(r["selected"] for r in trial.results) / len(trial.results) for trial in trials}
    return {
        "winner": accuracies[trials[0].number],
        "as_it_is": accuracies.get(0),
        "best_of_all": max(accuracies.values()),
        "validators": {name: rank_correlation(_column(trials, name), list(accuracies.values())) for name in VALIDATORS},
    }


def as_json(search: Search, results: Results) -> dict[str, Any]:
    """The search as one object."""
    return {
        "winner": _trial(results.ranked[0]),
        "files": [str(path) for path in results.files],
        "by": list(search.by),
        "trials": [_trial(trial) | {"behind": trial.number in results.behind} for trial in results.ranked],
        "failed": [one.fields() for one in results.failed],
        "agreement": agreement(results.ranked),
        "with_target_labels": with_target_labels(results),
    }


def text(search: Search, results: Results) -> str:
    """The search as people read it."""
    by = ", ".join(search.by)
    winner = results.ranked[0]
    lines = [
        f"{len(results.ranked)} trials of {search.name}, the best by {by} first. Trial 0 is the method as it is; those marked < "
        f"are below it in {by} or source_val, and cannot win.",
        _frame([_row(search, trial, trial.number in results.behind) for trial in results.ranked]),
        "",
        "How well the validators agree: Spearman's ρ over these trials",
        _frame([{"": a, **{b: _rho(rho) for b, rho in row.items()}} for a, row in agreement(results.ranked).items()]),
        "",
        f"winner: trial {winner.number}" + "".join(f", {key} = {value}" for key, value in winner.values.items()),
        f"  --method {results.files[0]}",
        *(f"  --setup {path}  its set-up alone, for other methods" for path in results.files[1:]),
        "",
        _remark(with_target_labels(results)),
    ]
    return "\n".join(lines) + "\n"


def _remark(known: Mapping[str, Any]) -> str:
    rhos = ", ".join(f"{name} {_rho(rho)}" for name, rho in known["validators"].items())
    before = "failed" if known["as_it_is"] is None else f"{known['as_it_is']:.1f} %"
    return (
        "Remark, WITH TARGET LABELS, which took no part in anything above. Accuracy on the target: winner "
        f"{known['winner']:.1f} %, method as it is {before}, best of all {known['best_of_all']:.1f} % (a bound, no result). "
        f"ρ of the validators with it over the trials: {rhos}."
    )


def _row(search: Search, trial: Trial, is_behind: bool) -> dict[str, Any]:
    assert trial.scores is not None
    values = {key: f"{trial.values.get(key, '')}" for key in search.space}
    return {"trial": trial.number, "": "<" if is_behind else "", **values, **{k: f"{v:.4g}" for k, v in trial.scores.items()}}


def _trial(trial: Trial) -> dict[str, Any]:
    return {"number": trial.number, "values": dict(trial.values), "validators": trial.scores}


def _column(trials: Sequence[Trial], name: str) -> list[float]:
    return [trial.scores[name] for trial in trials if trial.scores is not None]


def _rho(rho: float | None) -> str:
    return "–" if rho is None else f"{rho:.2f}"


def _frame(rows: Sequence[Mapping[str, Any]]) -> str:
    return pd.DataFrame(rows).to_string(index=False)
