"""Numbers over seeds, clips and epochs."""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import pandas as pd

from cia_adapt.runs import rank_correlation, validator_correlations

KEYS = ["setup", "method", "source", "target"]

COLUMNS = ["last", "selected", "oracle", "source_val"]

ROUNDS: Final = 2000  # of the bootstrap

Right = npt.NDArray[np.bool_]  # [seeds, clips]: which predictions are right


def summary(results: Sequence[dict[str, Any]]) -> pd.DataFrame:
    """One row per set-up, method and pair, in the order of appearance: `COLUMNS` as "mean ± sd" over seeds, clips, seeds."""
    grouped = pd.DataFrame(results).groupby(KEYS, sort=False)
    table = grouped[COLUMNS].agg(mean_sd)
    table["clips"] = grouped["target_val_clips"].first()
    table["seeds"] = grouped.size()
    return table.reset_index()


def mean_sd(percentages: Sequence[float]) -> str:
    """Mean and standard deviation as text; the sd (n − 1) only where there are two seeds or more.

    >>> mean_sd([80.0]), mean_sd([80.0, 82.0])
    ('80.0', '81.0 ± 1.4')
    """
    values = pd.Series(percentages)
    return f"{values.mean():.1f} ± {values.std():.1f}" if len(values) > 1 else f"{values.mean():.1f}"


def interquartile_mean(values: Sequence[float]) -> float:
    """Mean of the middle half (Agarwal et al., NeurIPS 2021, https://arxiv.org/abs/2108.13264), values at its ends in part.

    >>> interquartile_mean([0.0, 1.0, 2.0, 100.0])
    1.5
    """
    ordered = np.sort(np.asarray(values, dtype=float))
    n = len(ordered)
    edges = np.clip(np.arange(n + 1), n / 4, 3 * n / 4)  # what of [i, i + 1] lies in the middle half
    weights = np.diff(edges)
    return float((ordered * weights).sum() / weights.sum())


def interval(strata: Sequence[Right], seed: int = 0) -> tuple[float, float]:
    """95 % bootstrap interval, in percent, of the mean over strata (pairs of domains) of the accuracy over seeds and clips.

    Seeds and clips are drawn anew within each stratum, so that it holds for other seeds and other clips of the same kind.
    """
    return _quantiles(np.mean([_resampled(right.astype(float), seed + i) for i, right in enumerate(strata)], axis=0))


def paired(first: Sequence[Right], second: Sequence[Right], seed: int = 0) -> tuple[float, float, float]:
    """(difference first − second in points, and its 95 % interval): the same seeds and clips are drawn for both."""
    differences = [a.astype(float) - b.astype(float) for a, b in zip(first, second, strict=True)]
    low, high = _quantiles(np.mean([_resampled(d, seed + i) for i, d in enumerate(differences)], axis=0))
    return 100 * float(np.mean([d.mean() for d in differences])), low, high


def _resampled(values: npt.NDArray[np.float64], seed: int) -> npt.NDArray[np.float64]:
    """[ROUNDS] means of [seeds, clips] with both drawn with replacement."""
    random = np.random.default_rng(seed)
    seeds, clips = values.shape
    row = random.multinomial(seeds, np.full(seeds, 1 / seeds), size=ROUNDS) / seeds
    column = random.multinomial(clips, np.full(clips, 1 / clips), size=ROUNDS) / clips
    return np.asarray(np.einsum("rs,sc,rc->r", row, values, column, optimize=True))


def _quantiles(means: npt.NDArray[np.float64]) -> tuple[float, float]:
    low, high = 100 * np.quantile(means, [0.025, 0.975])
    return float(low), float(high)


def mcnemar(first: Right, second: Right) -> float:
    """Exact two-sided p of McNemar's test, the median over seeds (the seeds' tests are not independent).

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


def validator_summary(histories: Sequence[Sequence[Mapping[str, Any]]]) -> pd.DataFrame:
    """One row a validator: mean ρ over the epochs within runs, and ρ over all runs' last epochs."""
    within: dict[str, list[float]] = {}
    for history in histories:
        for name, rho in validator_correlations(history).items():
            within.setdefault(name, [])
            if rho is not None:
                within[name].append(rho)
    rows = []
    for name, values in within.items():
        last = [(h[-1][f"validator_{name}"], h[-1]["target_val_accuracy"]) for h in histories if f"validator_{name}" in h[-1]]
        across = rank_correlation(*zip(*last, strict=True))
        rows.append(
            {"validator": name, "within runs": np.mean(values) if values else None, "runs": len(values), "across runs": across}
        )
    return pd.DataFrame(rows)
