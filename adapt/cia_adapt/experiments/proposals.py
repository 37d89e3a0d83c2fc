"""What a search tries next: Optuna's samplers over a space. https://optuna.org

A trial's values follow from the search's seed, the trial's number and the trials before it, so that a search that was killed
proposes the same again.
"""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from cia_extract.common.errors import UsageError

from cia_adapt.config import Range, Space

if TYPE_CHECKING:
    from optuna.distributions import BaseDistribution

Sampler = Literal["random", "tpe"]
STARTUP: Final = 10  # trials that TPE draws at random first
DIGITS: Final = 4  # of a number that is proposed, for people who read it

Past = tuple[Mapping[str, Any], Sequence[float] | None]
"""(values, scores) of an earlier trial: one score for each validator that ranks, None where the trial failed."""


def proposed(space: Space, sampler: Sampler, seed: int, past: Sequence[Past], count: int, scores: int) -> list[dict[str, Any]]:
    """Values of the next `count` trials.

    Args:
        space: what varies.
        sampler: "random", or "tpe": Bergstra et al., NIPS 2011, https://papers.nips.cc/paper/4443; with several scores
            multi-objective, Ozaki et al., GECCO 2020.
        seed: of the search.
        past: all trials before, in order.
        count: how many trials are trained together.
        scores: how many scores a trial has; the larger, the better.

    Raises:
        UsageError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError:
        raise UsageError("search: Optuna is not installed; pip install 'cia-video[search]'") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = _distributions(space)
    study = optuna.create_study(directions=["maximize"] * scores)
    for values, reached in past if sampler == "tpe" else ():
        state = optuna.trial.TrialState.FAIL if reached is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(optuna.trial.create_trial(params=dict(values), distributions=distributions, values=reached, state=state))
    values_of_trials = []
    for number in range(len(past) + 1, len(past) + count + 1):
        drawn_by = int(np.random.SeedSequence([seed, number]).generate_state(1)[0])
        study.sampler = (
            optuna.samplers.RandomSampler(drawn_by)
            if sampler == "random"
            else optuna.samplers.TPESampler(seed=drawn_by, n_startup_trials=STARTUP, constant_liar=True)
        )
        values_of_trials.append({key: _rounded(space[key], value) for key, value in study.ask(distributions).params.items()})
    return values_of_trials


def _distributions(space: Space) -> "dict[str, BaseDistribution]":
    from optuna import distributions

    def of_axis(axis: Any) -> "BaseDistribution":
        if not isinstance(axis, Range):
            return distributions.CategoricalDistribution(axis.values)
        if isinstance(axis.low, int) and isinstance(axis.high, int):
            return distributions.IntDistribution(axis.low, axis.high, log=axis.log)
        return distributions.FloatDistribution(axis.low, axis.high, log=axis.log)

    return {key: of_axis(axis) for key, axis in space.items()}


def _rounded(axis: Any, value: Any) -> Any:
    """A number with `DIGITS` significant digits, still inside its range."""
    if not isinstance(axis, Range) or axis.whole:
        return value
    return min(max(float(f"{value:.{DIGITS}g}"), axis.low), axis.high)
