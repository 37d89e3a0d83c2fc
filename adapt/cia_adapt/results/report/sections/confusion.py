"""Which classes are taken for which, of every method and direction, as it is and against the baseline; and class by class."""

from collections import Counter
from collections.abc import Iterator
from typing import Any, Final

import altair as alt
import numpy as np
import pandas as pd

import cia_adapt.results.report.charts as charts
from cia_adapt.results.comparison import Group
from cia_adapt.results.report.section import Figure, Section
from cia_adapt.results.report.study import Study, direction

DRAWN: Final = 30  # classes of a matrix, those of the most clips; the CSV file has all
CELLS: Final = 40_000  # of all matrices together; further groups are named and left out
NO_CLASS: Final = "(no class of the source)"


def section(study: Study) -> Section:
    """Confusion matrices and accuracies by class of the selected epochs, means over the seeds."""
    cells, left_out = _cells(study)
    by_class = pd.DataFrame(
        [row for group in study.in_order() for label in study.labels for row in _by_class(study, group, label)]
    )
    figures = [_matrix(study, cells), *_change(study, cells)]
    if len(by_class):
        figures.append(_classes(study, by_class))
    text = ["Predictions of the selected epochs for the target's validation clips."]
    if left_out:
        text.append(f"Too many to draw, so without a matrix here: {', '.join(left_out)}. Make a report of fewer runs for them.")
    return Section("Class by class", text, figures)


def _cells(study: Study) -> tuple[pd.DataFrame, list[str]]:
    """(the matrices' cells that are not 0, a row each; the groups left out)."""
    rows: list[dict[str, Any]] = []
    left_out = []
    for group in study.in_order():
        if len(rows) > CELLS:
            left_out.append(f"{group.method}, {direction(group.pair)}")
            continue
        for label in study.labels:
            rows += _matrix_rows(study, group, label)
    return pd.DataFrame(rows), left_out


def shares(group: Group, label: str) -> dict[tuple[str, str], float]:
    """{(class, predicted class): share in % of the class's clips}, the mean over seeds, without those that are 0."""
    predictions = group.predictions
    names, truth = predictions.classes[label], predictions.truth[label]
    guesses = predictions.guesses["selected", label]  # [R, N]
    counts = np.zeros((len(names), len(names)))
    np.add.at(counts, (np.broadcast_to(truth, guesses.shape), guesses), 1 / len(guesses))
    totals = np.bincount(truth, minlength=len(names))
    return {
        (names[i] or NO_CLASS, names[j] or NO_CLASS): 100 * counts[i, j] / totals[i]
        for i, j in zip(*np.nonzero(counts), strict=True)
    }


def _matrix_rows(study: Study, group: Group, label: str) -> Iterator[dict[str, Any]]:
    """A row for each cell in which the group or the baseline has a clip."""
    baseline = study.groups.get((study.baseline or "", group.pair))
    ours = shares(group, label)
    theirs = shares(baseline, label) if baseline is not None else {}
    drawn = set(_most_frequent(group, label))
    for true, predicted in ours | theirs:
        share = ours.get((true, predicted), 0.0)
        yield {
            "direction": direction(group.pair), "method": group.method, "label": label, "class": true, "predicted": predicted,
            "share": share, "change": share - theirs.get((true, predicted), 0.0) if baseline is not None else None,
            "drawn": int(true in drawn and predicted in drawn),
        }  # fmt: skip


def _most_frequent(group: Group, label: str) -> list[str]:
    predictions = group.predictions
    names = predictions.classes[label]
    counts = Counter(dict.fromkeys(names, 0))
    counts.update(names[i] for i in predictions.truth[label].tolist())
    return [name or NO_CLASS for name, _ in counts.most_common(DRAWN)]


def _choices(study: Study, methods: list[str]) -> dict[str, list[str]]:
    choices = {"direction": [direction(pair) for pair in study.pairs], "method": methods}
    return choices | ({"label": list(study.labels)} if len(study.labels) > 1 else {})


def _matrix(study: Study, cells: pd.DataFrame) -> Figure:
    choices = _choices(study, [study.best, *(m for m in study.methods if m != study.best)])
    first = _first(cells, choices)
    wrong = first[first["class"] != first["predicted"]].sort_values("share", ascending=False).head(3)
    said = ", ".join(f"{row['class']} taken for {row['predicted']} ({row['share']:.0f} %)" for _, row in wrong.iterrows())
    return Figure(
        "confusion",
        "Confusion matrix",
        f"Rows are the clips' classes, columns the predicted ones. {study.best}, {choices['direction'][0]}; the most frequent "
        f"mistakes: {said or 'none'}.",
        _heat(first, choices, "share", charts.ACCENT),
        numbers=cells,
        choices=choices,
        note=f"Share in % of a class's clips, mean over seeds.{_cut(cells)}",
    )


def _change(study: Study, cells: pd.DataFrame) -> list[Figure]:
    """The matrix minus the baseline's, where there is a baseline."""
    if study.baseline is None:
        return []
    others = [study.best, *(m for m in study.methods if m not in (study.best, study.baseline))]
    choices = _choices(study, others)
    compared = cells[cells["change"].notna()]
    if compared.empty:
        return []
    first = _first(compared, choices)
    ordered = first.reindex(first["change"].abs().sort_values(ascending=False).index).head(3)
    said = ", ".join(f"{row['class']} as {row['predicted']} {row['change']:+.0f}" for _, row in ordered.iterrows())
    colour = alt.condition("datum.change > 0", alt.value(charts.MORE), alt.value(charts.FEWER))
    return [
        Figure(
            "confusion-change",
            f"Change against {study.baseline}",
            f"The confusion matrix minus that of {study.baseline}, in points. {study.best}, {choices['direction'][0]}; the "
            f"largest changes: {said}.",
            _heat(first, choices, "change", colour),
            numbers=compared,
            choices=choices,
            note=f"Blue: more of the class's clips than with {study.baseline}; orange: fewer. Blue is good on the diagonal, "
            f"orange beside it.{_cut(cells)}",
        )
    ]


def _cut(cells: pd.DataFrame) -> str:
    return "" if cells["drawn"].all() else f" Only the {DRAWN} classes of the most clips are drawn; the CSV file has all."


def _first(cells: pd.DataFrame, choices: dict[str, list[str]]) -> pd.DataFrame:
    """The rows that are shown at first."""
    for column, values in choices.items():
        cells = cells[cells[column] == values[0]]
    return cells


def _heat(first: pd.DataFrame, choices: dict[str, list[str]], value: str, colour: Any) -> dict[str, Any]:
    """Rows by columns, as opaque as the value is large; with the value in each cell where there are few classes."""
    classes = first["class"].nunique()
    tooltip = charts.tooltip("class", "predicted", share=".1f", change="+.1f")
    base = charts.numbers(charts.first_choices(choices)).transform_filter("datum.drawn == 1")
    base = base.transform_calculate(strength=f"abs(datum.{value})")
    base = base.encode(
        x=alt.X("predicted:N", axis=alt.Axis(labelLimit=90, labelAngle=-60, labelOverlap=False, title="predicted")),
        y=alt.Y("class:N", axis=alt.Axis(labelLimit=90, labelOverlap=False), title=None),
        tooltip=tooltip,
    )
    scale = alt.Scale(domain=[0, 100 if value == "share" else 50], range=[0.03, 0.6], clamp=True)
    colour = alt.value(colour) if isinstance(colour, str) else colour
    chart: Any = base.mark_rect().encode(color=colour, opacity=alt.Opacity("strength:Q", scale=scale, legend=None))
    if classes <= 10:
        form = ".0f" if value == "share" else "+.0f"
        text = base.transform_filter("datum.strength >= 0.5").mark_text(fontSize=10, color=charts.INK)
        chart = chart + text.encode(text=alt.Text(f"{value}:Q", format=form))
    return charts.specification(chart, charts.first_choices(choices), alt.Step(26 if classes <= 10 else 16))


def _by_class(study: Study, group: Group, label: str) -> Iterator[dict[str, Any]]:
    """Accuracy of each class of the target's clips, and its change against the baseline."""
    baseline = study.groups.get((study.baseline or "", group.pair))
    theirs = shares(baseline, label) if baseline is not None else {}
    ours = shares(group, label)
    predictions = group.predictions
    names = predictions.classes[label]
    for number, count in zip(*np.unique(predictions.truth[label], return_counts=True), strict=True):
        name = names[number]
        if name == "":
            continue
        accuracy = ours.get((name, name), 0.0)
        before = theirs.get((name, name), 0.0) if baseline is not None else None
        yield {
            "direction": direction(group.pair), "method": group.method, "label": label, "class": name, "clips": int(count),
            "accuracy": accuracy, "baseline": before, "change": accuracy - before if before is not None else None,
        }  # fmt: skip


def _classes(study: Study, by_class: pd.DataFrame) -> Figure:
    """A row for each class: the baseline's accuracy, an arrow's length to the method's."""
    choices = _choices(study, [study.best, *(m for m in study.methods if m != study.best)])
    first = _first(by_class, choices).sort_values("accuracy")
    rows = alt.Y("class:N", title=None, sort=alt.EncodingSortField("accuracy", order="descending"), axis=alt.Axis(labelLimit=140))
    tooltip = charts.tooltip("class", "clips", accuracy=".1f", baseline=".1f", change="+.1f")
    base = charts.numbers(charts.first_choices(choices)).encode(y=rows, tooltip=tooltip)
    colour = alt.condition("datum.change < 0", alt.value(charts.FEWER), alt.value(charts.MORE))
    x = alt.X("accuracy:Q", title="accuracy, %", scale=alt.Scale(domain=[0, 100]))
    chart: Any = base.mark_point(filled=True, size=80, opacity=1).encode(x=x, color=colour)
    note = "Dot: mean accuracy over seeds."
    if study.baseline is not None:
        way = base.mark_rule(strokeWidth=3, opacity=0.6).encode(x="baseline:Q", x2="accuracy:Q", color=colour)
        start = base.mark_tick(thickness=2, size=14, color=charts.MUTED).encode(x="baseline:Q")
        chart = way + start + chart
        note += f" Tick: {study.baseline}. Blue: better than it; orange: worse."
    ends = "; ".join(f"{row['class']} {row['accuracy']:.0f} %" for _, row in first.iterrows() if len(first) <= DRAWN)
    return Figure(
        "classes",
        "Accuracy by class",
        f"A dot for each class. {study.best}, {choices['direction'][0]}: {ends}.",
        charts.specification(chart, charts.first_choices(choices), alt.Step(charts.STEP)),
        numbers=by_class,
        choices=choices,
        note=note,
    )
