"""What the page's charts have in common: colours that follow light and dark, sizes, and their specifications.

Colours are the page's CSS variables, so a chart needs no drawing anew when the theme changes or the page is printed.
"""

from collections.abc import Mapping, Sequence
from typing import Any, Final

import altair as alt

from cia_adapt.results.report.section import NUMBERS

INK, MUTED, LINE, ACCENT = "var(--ink)", "var(--muted)", "var(--line)", "var(--accent)"
MORE, FEWER, PUBLISHED = "var(--more)", "var(--fewer)", "var(--published)"
SOURCE, TARGET = "var(--source)", "var(--target)"
PALETTE: Final = tuple(f"var(--c{i})" for i in range(8))
HEIGHT: Final = 240  # pixels, of a chart over epochs or of points
STEP: Final = 20  # pixels, of one row of a chart with names down its side

CONFIG: Final = {
    "aria": False,  # the figure says in words what it shows
    "background": None,
    "font": "system-ui, sans-serif",
    "view": {"stroke": None},
    "axis": {
        "labelColor": MUTED, "titleColor": MUTED, "titleFontWeight": "normal", "labelFontSize": 12, "titleFontSize": 12,
        "gridColor": LINE, "domainColor": LINE, "tickColor": LINE, "labelLimit": 150, "labelOverlap": True, "labelSeparation": 6,
    },
    "legend": {"labelColor": INK, "titleColor": MUTED, "labelFontSize": 12, "labelLimit": 150, "orient": "top", "columns": 2},
}  # fmt: skip


LEGEND: Final = alt.Legend(title=None, symbolOpacity=1, symbolType="circle")

Choices = Sequence[tuple[str, str]]
"""(column, value at first): rows of the column's other values are not drawn; the page's menu changes the value."""


def numbers(choices: Choices = ()) -> alt.Chart:
    """A chart over those of the figure's numbers that are chosen."""
    chart = alt.Chart(alt.NamedData(NUMBERS))
    for column, _ in choices:
        chart = chart.transform_filter(f"datum[{column!r}] == {column}")
    return chart


def line_at(value: float) -> Any:
    """An upright line that marks a value."""
    return alt.Chart(alt.InlineData([{}])).mark_rule(color=INK, strokeDash=[3, 3]).encode(x=alt.datum(value))


def specification(chart: Any, choices: Choices = (), height: Any = HEIGHT) -> dict[str, Any]:
    """The Vega-Lite specification of a chart as wide as the page, made from `numbers` of the same choices.

    `height` is in pixels, or an `alt.Step`.
    """
    chart = chart.add_params(*(alt.param(name=column, value=value) for column, value in choices)) if choices else chart
    spec: dict[str, Any] = chart.properties(width="container", height=height).to_dict()
    return spec | {"config": CONFIG, "autosize": {"type": "fit-x", "contains": "padding"}}


def first_choices(choices: Mapping[str, Sequence[str]]) -> Choices:
    """What the page's menus show at first."""
    return [(name, values[0]) for name, values in choices.items()]


def tooltip(*names: str, **forms: str) -> list[alt.Tooltip]:
    """What is shown on hover: columns as they are, and numbers {column: format}."""
    plain = [alt.Tooltip(f"{name}:N") for name in names]
    return plain + [alt.Tooltip(f"{name}:Q", format=form) for name, form in forms.items()]


def many(methods: Sequence[str]) -> bool:
    """Whether there are more methods than colours: then one has a colour, which the page's menu `method` chooses."""
    return len(methods) > len(PALETTE)


def coloured(methods: Sequence[str], base: Any) -> Any:
    """The chart with a colour for each method; of many, only the chosen one, to lie over `context`."""
    if many(methods):
        return base.transform_filter("datum.method == method").encode(color=alt.value(PALETTE[1]))
    scale = alt.Scale(domain=list(methods), range=list(PALETTE[: len(methods)]))
    return base.encode(color=alt.Color("method:N", scale=scale, legend=LEGEND if len(methods) > 1 else None))


def context(base: Any) -> Any:
    """The chart of many methods in grey."""
    return base.encode(color=alt.value(LINE))


def method_choices(methods: Sequence[str]) -> dict[str, Sequence[str]]:
    """The menu that `coloured` needs; the first method of the list is the baseline, so the second is shown at first."""
    return {"method": [*methods[1:], methods[0]]} if many(methods) else {}
