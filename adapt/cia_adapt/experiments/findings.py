"""What a search says when it ends: its trials, how well the validators agree, and, set apart, what the target's labels say."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import pandas as pd

from cia_adapt import parts
from cia_adapt.experiments.search import Results, Search, Trial, counted
from cia_adapt.runs import rank_correlation
from cia_adapt.training import VALIDATORS

Agreement = dict[str, dict[str, float | None]]


def agreement(trials: Sequence[Trial]) -> Agreement:
    """{validator: {validator: Spearman's ρ over the trials}}; None where one does not vary."""
    columns = {name: _column(trials, name) for name in VALIDATORS}
    return {a: {b: rank_correlation(columns[a], columns[b]) for b in VALIDATORS} for a in VALIDATORS}


def with_target_labels(results: Results) -> dict[str, Any]:
    """What nothing above may use: accuracies in % on the target, means over the runs, and the validators' ρ with them.

    All are None where the target has no labels.
    """
    trials = results.ranked
    if any(result["selected"] is None for trial in trials for result in trial.results):
        return dict.fromkeys(("winner", "as_it_is", "best_of_all")) | {"validators": dict.fromkeys(VALIDATORS)}
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
    winner, known = results.ranked[0], agreement(results.ranked)
    lines = [
        f"{len(results.ranked)} trials of {search.name}, the best by {by} first. Trial 0 has the method's own settings. A trial "
        f"marked < is below trial 0 in {' or '.join(counted(search.by))}, and cannot win.",
        _frame([_row(search, trial, trial.number in results.behind) for trial in results.ranked]),
        "",
        "How well the validators agree: Spearman's ρ over these trials. 1: the same order; 0: unrelated orders",
        _frame([{"": a, **{b: _rho(rho) for b, rho in row.items()}} for a, row in known.items()]),
        *(_sentence(name, known[name]) for name in search.by),
        *_trained_for(search),
        "",
        f"winner: trial {winner.number}" + "".join(f", {key} = {value}" for key, value in winner.values.items()),
        *_gains(search, results),
        f"  --method {results.files[0]}",
        *(f"  --setup {path}  its set-up alone, for other methods" for path in results.files[1:]),
        "",
        _remark(with_target_labels(results)),
    ]
    return "\n".join(lines) + "\n"


def _remark(known: Mapping[str, Any]) -> str:
    if known["winner"] is None:
        return "The target has no labels: there is no accuracy on it to compare with."
    rhos = ", ".join(f"{name} {_rho(rho)}" for name, rho in known["validators"].items())
    before = "failed" if known["as_it_is"] is None else f"{known['as_it_is']:.1f} %"
    return (
        "Remark, WITH TARGET LABELS, which nothing above uses. Accuracy on the target: winner "
        f"{known['winner']:.1f} %, own settings {before}, best of all {known['best_of_all']:.1f} % (a bound, not a result). "
        f"ρ of each validator with it over the trials: {rhos}."
    )


def _gains(search: Search, results: Results) -> Iterator[str]:
    """How far the winner is above trial 0 in what ranks, and on the source's validation clips."""
    own = next((trial for trial in results.ranked if trial.number == 0), None)
    winner = results.ranked[0]
    if own is None or own.number == winner.number:
        return
    assert own.scores is not None and winner.scores is not None
    gains = [f"{name} {own.scores[name]:.4g} → {winner.scores[name]:.4g}" for name in counted(search.by)]
    yield f"  from the method's own settings to the winner: {', '.join(gains)}"


def _sentence(name: str, agreeing: Mapping[str, float | None]) -> str:
    """The validators that a ranking one agrees with most and least."""
    others = {other: rho for other, rho in agreeing.items() if other != name and rho is not None}
    if not others:
        return f"{name}: too few trials, or no validator varies"
    most, least = max(others, key=others.__getitem__), min(others, key=others.__getitem__)
    return f"{name} agrees most with {most} ({_rho(others[most])}) and least with {least} ({_rho(others[least])})"


def _trained_for(search: Search) -> Iterator[str]:
    """The validators that rank and that the method's own loss makes better, whatever becomes of the target's accuracy."""
    for objective in search.request.chosen.method.objectives:
        trained = [name for name in getattr(parts.find("objectives", objective), "MINIMISES", ()) if name in search.by]
        if trained:
            yield (
                f"{' and '.join(trained)}: what {objective} minimises, so this ranks those trials first that train it hardest; "
                "see what the other validators say, or rank --by another"
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
