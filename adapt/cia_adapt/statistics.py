"""Numbers over seeds."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

COLUMNS = ("last", "selected", "oracle")


@dataclass(frozen=True)
class Row:
    """One line of a results table: a method on a pair, its seeds' accuracies in percent by column."""

    setup: str
    method: str
    source: str
    target: str
    values: dict[str, list[float]]
    target_val_clips: int

    @property
    def seeds(self) -> int:
        return len(self.values["last"])


def rows(results: Sequence[dict[str, Any]]) -> list[Row]:
    """Group results by set-up, method and pair, in the order of appearance."""
    grouped: dict[tuple[str, str, str, str], list[dict[str, Any]]] = defaultdict(list)
    for result in results:
        grouped[result["setup"], result["method"], result["source"], result["target"]].append(result)
    return [
        Row(*key, {column: [r[column] for r in group] for column in (*COLUMNS, "source_val")}, group[0]["target_val_clips"])
        for key, group in grouped.items()
    ]


def mean_sd(values: Sequence[float]) -> str:
    """Mean and standard deviation in percent, as text; the sd (n − 1) only where there are two seeds or more.

    >>> mean_sd([80.0]), mean_sd([80.0, 82.0])
    ('80.0', '81.0 ± 1.4')
    """
    mean = f"{np.mean(values):.1f}"
    return f"{mean} ± {np.std(values, ddof=1):.1f}" if len(values) > 1 else mean
