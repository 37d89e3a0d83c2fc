"""Label-free validators against the accuracy on the target: would they have picked good epochs and good runs?"""

from collections.abc import Sequence
from typing import Final

import altair as alt
import pandas as pd

import cia_adapt.results.report.charts as charts
from cia_adapt.results.report.section import Figure, Section, Table
from cia_adapt.results.report.study import Study, direction
from cia_adapt.results.statistics import validator_summary

RUNS: Final = 60  # of more runs only the last epochs are drawn
EPOCHS: Final = 3000  # of all runs that are drawn; of more, every second, third, …


def section(study: Study) -> Section | None:
    """A scatter plot and rank correlations; None for runs without validators."""
    histories = [run.history for run in study.runs.values()]
    summary = validator_summary(histories)
    if summary.empty:
        return None
    numbers = _numbers(study)
    names = list(dict.fromkeys(numbers["validator"]))
    directions = [direction(pair) for pair in study.pairs]
    choices: dict[str, Sequence[str]] = {"validator": names, "direction": directions}
    base = charts.numbers(charts.first_choices(choices)).mark_point(filled=True, size=40, opacity=0.7)
    base = base.encode(
        x=alt.X("value:Q", title="validator, larger is better", scale=alt.Scale(zero=False)),
        y=alt.Y("accuracy:Q", title="accuracy on the target, %", scale=alt.Scale(zero=False)),
        tooltip=charts.tooltip("method", "seed", "epoch", value=".3f", accuracy=".1f"),
    )
    chart = charts.coloured(study.methods, base)
    if charts.many(study.methods):
        chart = charts.context(base) + chart
    choices |= charts.method_choices(study.methods)
    which = "last epochs" if len(study.runs) > RUNS else "epochs"
    said = ", ".join(
        f"{row['validator']} {row['within runs']:.2f}" for _, row in summary.iterrows() if pd.notna(row["within runs"])
    )
    figure = Figure(
        "validators",
        "Validators against accuracy on the target (uses target labels)",
        f"A dot for each of the runs' {which}. Mean rank correlation within runs: {said or 'none varies'}.",
        charts.specification(chart, charts.first_choices(choices), charts.HEIGHT + 60),
        numbers=numbers,
        choices=choices,
    )
    table = Table(
        "validator-correlations",
        "Spearman's rank correlation with the accuracy on the target",
        summary.round(2),
        "Within runs: over the epochs of a run, mean over runs. Across runs: over the last epochs of all runs.",
    )
    return Section("Validators", figures=[figure], tables=[table])


def _numbers(study: Study) -> pd.DataFrame:
    """A row for each validator and epoch of each run; of many runs for the last epoch alone."""
    rows = []
    step = 1 + sum(len(run.history) for run in study.runs.values()) // EPOCHS if len(study.runs) <= RUNS else None
    for group in study.in_order():
        for run in study.members(group):
            for metrics in run.history[::-1][::step] if step else run.history[-1:]:
                rows += [
                    {
                        "direction": direction(group.pair), "method": group.method, "seed": run.result["seed"],
                        "epoch": metrics.get("epoch"), "validator": key.removeprefix("validator_"), "value": value,
                        "accuracy": metrics["target_val_accuracy"],
                    }
                    for key, value in metrics.items()
                    if key.startswith("validator_") and value is not None
                ]  # fmt: skip
    return pd.DataFrame(rows)
