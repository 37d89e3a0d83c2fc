"""Verb, noun and action side by side, where the clips have two labels."""

from typing import Any

import altair as alt
import pandas as pd

import cia_adapt.results.report.charts as charts
from cia_adapt.results.report.section import Figure, Section, Table
from cia_adapt.results.report.study import Study, direction
from cia_adapt.results.statistics import mean_sd


def section(study: Study) -> Section | None:
    """Top-1 and top-5 of each label, and of the action; None where the clips have one label."""
    if len(study.labels) < 2:
        return None
    rows: list[dict[str, Any]] = []
    cells: list[dict[str, Any]] = []
    for group in study.in_order():
        scores = [result.get("selected_by_label") or {} for result in group.results]
        cell: dict[str, Any] = {"direction": direction(group.pair), "method": group.method}
        for name in scores[0]:
            values = [float(of_run[name]) for of_run in scores if name in of_run]
            label, _, k = name.rpartition("@")
            label = "verb" if label == "label" else label
            rows.append(cell | {"label": label, "top": f"top-{k}", "accuracy": sum(values) / len(values), "seeds": len(values)})
            cells.append({"name": f"{label}, top-{k}", "value": mean_sd(values)} | cell)
    if not rows:
        return None
    numbers = pd.DataFrame(rows)
    order = list(dict.fromkeys(one["name"] for one in cells))
    table = pd.DataFrame(cells).pivot(index=["direction", "method"], columns="name", values="value")[order].reset_index()
    directions = [direction(pair) for pair in study.pairs]
    labels = list(dict.fromkeys(numbers["label"]))
    choices = [("direction", directions[0]), ("top", "top-1")]
    base = charts.numbers(choices).encode(
        y=alt.Y("method:N", sort=list(study.methods), title=None, axis=alt.Axis(labelLimit=140))
    )
    points = base.mark_point(filled=True, size=80, opacity=1).encode(
        x=alt.X("accuracy:Q", title="accuracy, %", scale=alt.Scale(zero=False, padding=8)),
        color=alt.Color(
            "label:N", scale=alt.Scale(domain=labels, range=list(charts.PALETTE[: len(labels)])), legend=charts.LEGEND
        ),
        tooltip=charts.tooltip("method", "label", "top", "seeds", accuracy=".1f"),
    )
    first = numbers[(numbers["direction"] == directions[0]) & (numbers["top"] == "top-1") & (numbers["method"] == study.best)]
    figure = Figure(
        "labels",
        "Accuracy by label",
        f"Dots for {', '.join(labels)} of each method. {study.best}, {directions[0]}, top-1: "
        + ", ".join(f"{row['label']} {row['accuracy']:.1f} %" for _, row in first.iterrows())
        + ".",
        charts.specification(points, choices, alt.Step(charts.STEP + 4)),
        numbers=numbers,
        choices={"direction": directions, "top": list(dict.fromkeys(numbers["top"]))},
    )
    return Section(
        "By label",
        ["An action is right where all its labels are; its top-5 ranks pairs by the products of their probabilities."],
        [figure],
        [Table("label-table", "Accuracy by label, %", table)],
    )
