"""How well label-free validators rank the epochs of a run."""

from collections.abc import Mapping, Sequence
from typing import Any

import pandas as pd


def validator_correlations(history: Sequence[Mapping[str, Any]]) -> dict[str, float | None]:
    """{validator: Spearman's ρ of its values and the target's accuracies over the epochs}; None where one does not vary."""
    names = [key.removeprefix("validator_") for key in history[-1] if key.startswith("validator_")]
    history = [m for m in history if all(f"validator_{name}" in m for name in names)]  # epochs may lack validators
    return {
        name: rank_correlation([m[f"validator_{name}"] for m in history], [m["target_val_accuracy"] for m in history])
        for name in names
    }


def rank_correlation(first: Sequence[float], second: Sequence[float]) -> float | None:
    """Spearman's rank correlation ρ, −1 … 1, to four decimals; None for fewer than three values or where one side does not vary.

    >>> rank_correlation([1, 2, 3], [10, 30, 20])
    0.5
    """
    a, b = pd.Series(first, dtype=float), pd.Series(second, dtype=float)
    if len(a) < 3 or a.nunique() < 2 or b.nunique() < 2:
        return None
    return round(float(a.rank().corr(b.rank())), 4)
