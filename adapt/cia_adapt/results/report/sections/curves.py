"""Losses and accuracies by epoch, a curve for each method, with the notes on its health at their epochs."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from typing import Final

import altair as alt
import pandas as pd

import cia_adapt.results.report.charts as charts
from cia_adapt.results.comparison import Group
from cia_adapt.results.report.section import Figure, Section, Table
from cia_adapt.results.report.study import Study, direction
from cia_adapt.training import Advice

# Metric of an epoch → its chart's name, title and axis.
LEVELS: Final = {
    "class_loss": ("class-loss", "Class loss on the source", "cross-entropy, nats"),
    "source_val_accuracy": ("source-accuracy", "Accuracy on the source's validation clips", "%"),
    "target_val_accuracy": ("target-accuracy", "Accuracy on the target's validation clips (uses target labels)", "%"),
}
BANDS: Final = 4  # methods; with more the bands would hide each other
DISCRIMINATORS: Final = ("video", "frame", "relation", "region", "conditional")


def section(study: Study) -> Section:
    """A chart for each level of `LEVELS`, one of the discriminators, and the notes on health as a table."""
    figures = [_figure(study, metric, *texts) for metric, texts in LEVELS.items()]
    return Section(
        "Training",
        [
            f"A line is the mean over a method's seeds{', its band their range' if _banded(study) else ''}. A triangle marks an "
            "epoch after which something was wrong with a run's health."
        ],
        [*figures, *_discriminators(study)],
        _notes(study),
    )


def _figure(study: Study, metric: str, name: str, title: str, axis: str) -> Figure:
    numbers = pd.DataFrame([row for group in study.in_order() for row in _rows(study, group, metric)])
    noted = {key: "; ".join(kinds) for key, kinds in _kinds(study).items()}
    numbers["health"] = [noted.get((d, m, e), "") for d, m, e in numbers[["direction", "method", "epoch"]].values]
    directions = [direction(pair) for pair in study.pairs]
    return Figure(
        name,
        title,
        f"{title} by epoch, a line for each method. " + _ends(numbers, directions[0]),
        _chart(study, axis, {"direction": directions}),
        numbers=numbers,
        choices={"direction": directions} | charts.method_choices(study.methods),
    )


def _discriminators(study: Study) -> list[Figure]:
    """How well the discriminators tell the domains apart, where there are any."""
    rows = []
    for level in DISCRIMINATORS:
        for group in study.in_order():
            rows += [row | {"level": level} for row in _rows(study, group, f"{level}_domain_accuracy")]
    if not rows:
        return []
    numbers = pd.DataFrame(rows).assign(health="")
    directions, levels = list(dict.fromkeys(numbers["direction"])), list(dict.fromkeys(numbers["level"]))
    first = numbers[numbers["level"] == levels[0]]
    return [
        Figure(
            "discriminators",
            "Domains told apart by the discriminator",
            "Share of clips whose domain a discriminator tells, by epoch, a line for each method; 50 % is chance. "
            + _ends(first, directions[0]),
            _chart(study, "%", {"direction": directions, "level": levels}),
            numbers=numbers,
            choices={"direction": directions, "level": levels} | charts.method_choices(study.methods),
            note="50 % is chance for equal batches: near it, the features of the two domains look alike to the discriminator.",
        )
    ]


def _chart(study: Study, axis: str, choices: dict[str, Sequence[str]]) -> dict[str, object]:
    """Lines over the epochs; of many methods all in grey and the chosen one over them."""
    methods = charts.method_choices(study.methods)
    base = charts.numbers(charts.first_choices(choices)).encode(
        x=alt.X("epoch:Q", axis=alt.Axis(tickMinStep=1, grid=False)),
        detail="method:N",
        tooltip=charts.tooltip("method", "epoch", "health", mean=".2f", lowest=".2f", highest=".2f"),
    )
    y = alt.Y("mean:Q", title=axis, scale=alt.Scale(zero=False))
    shown = charts.coloured(study.methods, base)
    band = shown.mark_area(opacity=0.15).encode(y=alt.Y("lowest:Q", title=axis), y2="highest:Q")
    line = shown.mark_line(strokeWidth=2).encode(y=y)
    points = shown.mark_point(filled=True, size=60, opacity=0).encode(y=y)  # what the pointer meets
    notes = shown.transform_filter("datum.health != ''").mark_point(shape="triangle-down", filled=True, size=90, opacity=1)
    chart = line + notes.encode(y=y) + points
    if _banded(study):
        chart = band + chart
    if methods:
        chart = charts.context(base).mark_line(strokeWidth=1).encode(y=y) + chart
    return charts.specification(chart, charts.first_choices(choices | methods))


def _banded(study: Study) -> bool:
    """Whether bands can be told apart."""
    return len(study.methods) <= BANDS or charts.many(study.methods)


def _rows(study: Study, group: Group, metric: str) -> Iterator[dict[str, object]]:
    """The metric's mean and range over the group's seeds, at each epoch that has it."""
    by_epoch: dict[int, list[float]] = defaultdict(list)
    for run in study.members(group):
        for number, metrics in enumerate(run.history, 1):
            if metrics.get(metric) is not None:
                by_epoch[int(metrics.get("epoch") or number)].append(float(metrics[metric]))
    for epoch, values in by_epoch.items():
        yield {
            "direction": direction(group.pair), "method": group.method, "epoch": epoch, "mean": sum(values) / len(values),
            "lowest": min(values), "highest": max(values), "seeds": len(values),
        }  # fmt: skip


def _kinds(study: Study) -> dict[tuple[str, str, int], list[str]]:
    """{(direction, method, epoch): the kinds of trouble and in how many seeds}."""
    counts: dict[tuple[str, str, int], dict[str, int]] = defaultdict(lambda: defaultdict(int))
    for group in study.in_order():
        for run in study.members(group):
            for number, metrics in enumerate(run.history, 1):
                if metrics.get("advice"):
                    epoch = int(metrics.get("epoch") or number)
                    counts[direction(group.pair), group.method, epoch][Advice.read(str(metrics["advice"])).kind] += 1
    return {key: [f"{kind} (seeds: {count})" for kind, count in kinds.items()] for key, kinds in counts.items()}


def _notes(study: Study) -> list[Table]:
    """A row for each run and kind of trouble: the epochs, and the sentence of the last of them."""
    rows = []
    for group in study.in_order():
        for run in study.members(group):
            epochs: dict[str, list[int]] = defaultdict(list)
            sentence = {}
            for number, metrics in enumerate(run.history, 1):
                if metrics.get("advice"):
                    advice = Advice.read(str(metrics["advice"]))
                    epochs[advice.kind].append(int(metrics.get("epoch") or number))
                    sentence[advice.kind] = advice.sentence
            rows += [
                {
                    "direction": direction(group.pair), "method": group.method, "seed": run.result["seed"], "trouble": kind,
                    "epochs": ", ".join(map(str, numbers)), "the latest note": sentence[kind],
                }
                for kind, numbers in epochs.items()
            ]  # fmt: skip
    return [Table("health", "Notes on health", pd.DataFrame(rows), folded=True)] if rows else []


def _ends(numbers: pd.DataFrame, chosen: str) -> str:
    """Where each curve ends, for who does not see it; of many, the first five."""
    last = numbers[numbers["direction"] == chosen].groupby("method", sort=False).last()
    parts = [f"{method} ends at {row['mean']:.1f}" for method, row in last.head(5).iterrows()]
    return f"{chosen}: " + ", ".join(parts) + ("." if len(last) <= 5 else f", and {len(last) - 5} more.")
