"""Numbers over seeds."""

from collections.abc import Sequence
from typing import Any

import pandas as pd

KEYS = ["setup", "method", "source", "target"]
COLUMNS = ["last", "selected", "oracle", "source_val"]


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
