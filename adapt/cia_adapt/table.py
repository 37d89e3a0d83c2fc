"""The results table on the terminal."""

import sys
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from cia_adapt import statistics

NOTE = (
    "accuracy on the target's validation clips in %; last: final epoch; selected: epoch of best source validation accuracy; "
    "oracle: best epoch by target labels, no honest result"
)


def print_results(results: Sequence[dict[str, Any]]) -> None:
    """Print `last`, `selected`, `oracle` side by side, one line per method and pair (mean ± sd over seeds)."""
    table = Table(caption=NOTE, caption_justify="left")
    for heading in ("set-up", "method", "source → target"):
        table.add_column(heading)
    for heading, style in (("last", ""), ("selected", "bold"), ("oracle", "dim")):
        table.add_column(heading, justify="right", style=style)
    for heading in ("source val", "clips", "seeds"):
        table.add_column(heading, justify="right")
    for row in statistics.summary(results).to_dict("records"):
        cells = [str(row[column]) for column in (*statistics.COLUMNS, "clips", "seeds")]
        table.add_row(row["setup"], row["method"], f"{row['source']} → {row['target']}", *cells)
    width = None if sys.stdout.isatty() else 120
    Console(width=width).print(table)
