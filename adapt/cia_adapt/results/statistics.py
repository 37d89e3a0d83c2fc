"""Statistics over seeds, clips and epochs: means, bootstrap intervals, McNemar's test, rank correlations."""

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from cia_adapt.runs import rank_correlation, validator_correlations

KEYS = ["setup", "method", "source", "target"]  # runs that agree in these differ in their seed alone

COLUMNS = ["last", "selected", "oracle", "source_val"]  # accuracies of a run, in %

NO_LABELS: Final = "n/a"

ROUNDS: Final = 2000  # resamples of a bootstrap

Right = npt.NDArray[np.bool_]  # [seeds, clips]: which predictions are right


def summary(results: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """A table of results (of result.json): a row for each set-up, method and pair, in the order of appearance.

    It has `KEYS`, `COLUMNS` as "mean ± sd" over seeds in %, `clips` (target validation clips) and `seeds` (their number).
    """
    grouped = pd.DataFrame(results).groupby(KEYS, sort=False)
    table = grouped[COLUMNS].agg(mean_sd)
    table["clips"] = grouped["target_val_clips"].first()
    table["seeds"] = grouped.size()
    return table.reset_index()


def mean_sd(percentages: Sequence[float | None]) -> str:
    """Mean and standard deviation (over n − 1) of a number's values over seeds, as text; of one seed the value alone.

    >>> mean_sd([80.0]), mean_sd([80.0, 82.0]), mean_sd([None])
    ('80.0', '81.0 ± 1.4', 'n/a')
    """
    values = np.array(percentages, dtype=float)
    if np.isnan(values).any():  # the target has no labels
        return NO_LABELS
    return f"{values.mean():.1f} ± {values.std(ddof=1):.1f}" if len(values) > 1 else f"{values.mean():.1f}"


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half of the values; values at its ends count in part.

    Agarwal et al., "Deep Reinforcement Learning at the Edge of the Statistical Precipice", NeurIPS 2021,
    https://arxiv.org/abs/2108.13264.

    >>> interquartile_mean([0.0, 1.0, 2.0, 100.0])
    1.5
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    edges = np.clip(np.arange(n + 1), n / 4, 3 * n / 4)
    weights = np.diff(edges)  # [n]: how much of [i, i + 1] lies in the middle half
    return float((ordered * weights).sum() / weights.sum())


def interval(strata: Sequence[Right], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval (low, high), in %, of the accuracy: the mean over strata, of the mean over seeds and clips.

    A stratum is a pair of domains, [seeds, clips]. Seeds and clips are drawn anew within each, so that the interval holds for
    other seeds and other clips of the same kind.
    """
    return _quantiles(np.mean([_resampled(right.astype(float), seed + i) for i, right in enumerate(strata)], axis=0))


def paired(first: Sequence[Right], second: Sequence[Right], seed: int = 0) -> tuple[float, float, float]:
    """(difference first − second of the accuracy in points, low and high end of its 95 % bootstrap interval).

    `first` and `second` have an array [seeds, clips] for each pair of domains; the same seeds and clips are drawn for both.
    """
    differences = [a.astype(float) - b.astype(float) for a, b in zip(first, second, strict=True)]
    low, high = _quantiles(np.mean([_resampled(d, seed + i) for i, d in enumerate(differences)], axis=0))
    return 100 * float(np.mean([d.mean() for d in differences])), low, high


def _resampled(values: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """Means [ROUNDS] of values [seeds, clips]; each resample draws seeds and clips with replacement."""
    row, column = _draws(*values.shape, seed)
    return np.asarray(np.einsum("rs,sc,rc->r", row, values, column, optimize=True))


@lru_cache(maxsize=12)  # the groups of a table have few shapes
def _draws(seeds: int, clips: int, seed: int) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """How often each resample draws each seed [ROUNDS, seeds] and each clip [ROUNDS, clips], as shares."""
    random = np.random.default_rng(seed)
    row = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=ROUNDS) / seeds
    column = random.multinomial(clips, np.full(clips, 1 / clips), size=ROUNDS) / clips
    return row, column


def _quantiles(means: npt.NDArray[np.float64]) -> tuple[float, float]:
    """The middle 95 % of the means, in %."""
    low, high = 100 * np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def mcnemar(first: Right, second: Right) -> float:
    """Exact two-sided p of McNemar's test between two methods on the same clips, [seeds, clips] each.

    It is the median over the seeds, whose tests are not independent.

    >>> mcnemar(np.array([[True] * 8 + [False] * 2]), np.array([[False] * 8 + [False] * 2]))
    0.0078125
    """
    from scipy.stats import binomtest

    values = []
    for a, b in zip(first, second, strict=True):
        only_first, only_second = int((a & ~b).sum()), int((b & ~a).sum())
        total = only_first + only_second
        values.append(float(binomtest(only_first, total).pvalue) if total else 1.0)
    return float(np.median(values))


def validator_summary(histories: Iterable[Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """A table with a row for each validator, from the metrics of each run's epochs, which are looked at once.

    "within runs" is the mean over `runs` runs of Spearman's ρ over the epochs between the validator and the target's accuracy;
    "across runs" is ρ over the last epochs of all runs.
    """
    within: dict[str, list[float]] = {}
    ends = []
    for history in histories:
        ends.append(history[-1])
        for name, rho in validator_correlations(history).items():
            within.setdefault(name, [])
            if rho is not None:
                within[name].append(rho)
    rows = []
    for name, values in within.items():
        last = [(end[f"validator_{name}"], end["target_val_accuracy"]) for end in ends if f"validator_{name}" in end]
        across = rank_correlation(*zip(*last, strict=True))
        rows.append(
            {"validator": name, "within runs": np.mean(values) if values else None, "runs": len(values), "across runs": across}
        )
    return pd.DataFrame(rows)
