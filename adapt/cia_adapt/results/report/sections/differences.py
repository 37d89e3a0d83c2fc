"""Every method against the baseline, clip by clip and seed by seed: a forest plot."""

import altair as alt
import pandas as pd
from cia_extract.common.errors import DataError

import cia_adapt.results.report.charts as charts
from cia_adapt.results.comparison import compare
from cia_adapt.results.report.section import Figure, Section, Table
from cia_adapt.results.report.study import Study, direction

ALL = "all directions"


def section(study: Study) -> Section | None:
    """Differences in points with their intervals; None where there is no other method."""
    if study.baseline is None:
        return None
    numbers = _numbers(study)
    if numbers.empty:
        return None
    places = list(dict.fromkeys(numbers["direction"]))
    order = list(numbers[numbers["direction"] == places[0]].sort_values("difference", ascending=False)["method"])
    tooltip = charts.tooltip("method", "seeds", "p", difference="+.1f", low="+.1f", high="+.1f")
    kinds = {"better": charts.MORE, "worse": charts.FEWER, "not told apart": charts.MUTED}
    scale = alt.Scale(domain=list(kinds), range=list(kinds.values()))
    colour = alt.Color("verdict:N", scale=scale, legend=charts.LEGEND)
    choices = [("direction", places[0])]
    base = charts.numbers(choices).encode(
        y=alt.Y("method:N", sort=order, title=None, axis=alt.Axis(labelLimit=140)), color=colour, tooltip=tooltip
    )
    title = f"points more than {study.baseline}"
    bars = base.mark_rule(strokeWidth=2).encode(x=alt.X("low:Q", title=title, axis=alt.Axis(tickCount=8)), x2="high:Q")
    points = base.mark_point(filled=True, size=80, shape="square", opacity=1).encode(x="difference:Q")
    figure = Figure(
        "differences",
        f"Paired differences to {study.baseline}",
        f"A forest plot: each method's accuracy minus that of {study.baseline}, in points, with its 95 % interval. "
        + " ".join(_said(row) for _, row in numbers[numbers["direction"] == places[0]].iterrows()),
        charts.specification(charts.line_at(0) + bars + points, choices, alt.Step(charts.STEP + 4)),
        numbers=numbers,
        choices={"direction": places},
        note="Square: mean difference over common seeds. Line: 95 % paired bootstrap interval over seeds and clips. Where "
        "it does not cross zero, the difference is more than chance.",
    )
    shown = pd.DataFrame(
        {
            "direction": numbers["direction"], "method": numbers["method"],
            "difference": [f"{d:+.1f} [{a:+.1f}, {b:+.1f}]" for d, a, b in numbers[["difference", "low", "high"]].values],
            "McNemar's p": [f"{p:.2g}" for p in numbers["p"]], "common seeds": numbers["seeds"],
        }
    )  # fmt: skip
    table = Table(
        "difference-table",
        f"Points more than {study.baseline}",
        shown,
        "p: median over seeds, largest over directions.",
        folded=True,
    )
    return Section("Paired differences", figures=[figure], tables=[table])


def _numbers(study: Study) -> pd.DataFrame:
    """A row for each method and direction, and for all directions together where there are several."""
    assert study.baseline is not None
    rows = []
    baseline = study.of_method(study.baseline)
    for method in study.methods[1:]:
        groups = study.of_method(method)
        places = [(ALL, groups)] if len(study.pairs) > 1 else []
        for place, members in [*places, *((direction(group.pair), [group]) for group in groups)]:
            try:
                difference = compare(members, baseline, "selected")
            except DataError:  # no pair and seed in common
                continue
            points, low, high = (round(value, 4) + 0.0 for value in difference[:3])  # no "-0.0"
            rows.append(
                {
                    "direction": place,
                    "method": method,
                    "difference": points,
                    "low": low,
                    "high": high,
                    "p": difference.p,
                    "verdict": _verdict(low, high),
                    "seeds": difference.seeds,
                }
            )
    return pd.DataFrame(rows)


def _verdict(low: float, high: float) -> str:
    return "better" if low > 0 else "worse" if high < 0 else "not told apart"


def _said(row: pd.Series) -> str:
    return f"{row['method']} {row['difference']:+.1f} [{row['low']:+.1f}, {row['high']:+.1f}]."
