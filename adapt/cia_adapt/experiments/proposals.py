"""What a search tries next: draws from a space, or what Optuna's TPE proposes, https://optuna.org.

A trial's values follow from the search's seed, the trial's number and the trials before it, so that a search that was killed
proposes the same again.
"""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal

import numpy as np
from cia_extract.common.errors import UsageError

from cia_adapt.config import Choice, Range, Space

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
        UsageError: "tpe", and Optuna is not installed.
    """
    seeds = [
        int(np.random.SeedSequence([seed, number]).generate_state(1)[0]) for number in range(len(past) + 1, len(past) + count + 1)
    ]
    drawn = [_at_random(space, of_trial) for of_trial in seeds] if sampler == "random" else _by_tpe(space, seeds, past, scores)
    return [{key: _rounded(space[key], value) for key, value in values.items()} for values in drawn]


def _at_random(space: Space, seed: int) -> dict[str, Any]:
    """One trial's values, bit for bit those of Optuna's `RandomSampler(seed)`, with which searches have been begun."""
    random = np.random.RandomState(seed)

    def of_axis(axis: Range | Choice) -> Any:
        if isinstance(axis, Choice):
            return axis.values[int(random.uniform(size=len(axis.values)).argmax())]
        half = 0.5 if axis.whole else 0.0  # so that the first and the last whole number are as likely as the others
        low, high = axis.low - half, axis.high + half
        value = math.exp(random.uniform(math.log(low), math.log(high))) if axis.log else random.uniform(low, high)
        return min(max(round(value), axis.low), axis.high) if axis.whole else value

    return {key: of_axis(axis) for key, axis in space.items()}


def _by_tpe(space: Space, seeds: Sequence[int], past: Sequence[Past], scores: int) -> list[dict[str, Any]]:
    """A trial's values for each of `seeds`. Raises UsageError: Optuna is not installed."""
    try:
        import optuna
    except ImportError:
        raise UsageError("--sampler tpe: Optuna is not installed; pip install 'cia-video[search]', or take random") from None
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    distributions = _distributions(space)
    study = optuna.create_study(directions=["maximize"] * scores)
    for values, reached in past:
        state = optuna.trial.TrialState.FAIL if reached is None else optuna.trial.TrialState.COMPLETE
        study.add_trial(optuna.trial.create_trial(params=dict(values), distributions=distributions, values=reached, state=state))
    drawn = []
    for seed in seeds:
        study.sampler = optuna.samplers.TPESampler(seed=seed, n_startup_trials=STARTUP, constant_liar=True)
        drawn.append(study.ask(distributions).params)
    return drawn


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
