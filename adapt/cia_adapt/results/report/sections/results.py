"""Accuracies of every method and direction, with intervals, and the published numbers beside them."""

import altair as alt
import pandas as pd

import cia_adapt.results.report.charts as charts
from cia_adapt.results.comparison import Group
from cia_adapt.results.report.section import Figure, Section, Table
from cia_adapt.results.report.study import Study, direction
from cia_adapt.results.statistics import mean_sd
from cia_adapt.results.table import NOTE, PUBLISHED_NOTE, cautions, definition

PUBLISHED = "published (not ours)"


def section(study: Study) -> Section:
    """A chart and a table of all groups, and a table of all runs."""
    groups = study.in_order()
    numbers = pd.DataFrame([_numbers(study, group) for group in groups])
    results = [result for group in groups for result in group.results]
    table = Table(
        "results",
        "Accuracy on the target",
        pd.DataFrame([_row(study, group) for group in groups]),
        "; ".join([NOTE, *cautions(results), PUBLISHED_NOTE])
        + ". ± is the standard deviation over seeds, [ ] the 95 % bootstrap interval over seeds and clips. One clip is "
        "100 / clips points.",
        muted=("oracle (uses target labels)", PUBLISHED),
    )
    return Section("Results", figures=[_figure(study, numbers)], tables=[table, _runs(study)])


def published(group: Group, published_numbers: dict[str, float]) -> float | None:
    """The published number of the group's method, where the group's direction is one of table 3: U→H or H→U."""
    for column, pair in definition("3")["columns"].items():
        if tuple(pair) == group.pair and column in published_numbers:
            return published_numbers[column]
    return None


def _numbers(study: Study, group: Group) -> dict[str, object]:
    right = group.right("selected")
    low, high = study.intervals[group.method, group.pair]
    values = [float(result["selected"]) for result in group.results]
    return {
        "direction": direction(group.pair), "method": group.method, "accuracy": 100 * float(right.mean()),
        "low": low, "high": high, "lowest seed": min(values), "highest seed": max(values), "seeds": len(values),
    }  # fmt: skip


def _row(study: Study, group: Group) -> dict[str, object]:
    low, high = study.intervals[group.method, group.pair]
    config = study.runs[group.folders[0]].config["method"]
    exact = published(group, config["published"])
    others = ", ".join(f"{column} {value:.2f}" for column, value in config["published"].items())
    means = {
        key: mean_sd([float(result[key]) for result in group.results]) for key in ("last", "selected", "oracle", "source_val")
    }
    return {
        "direction": direction(group.pair),
        "method": group.method + ("*" if group.changed else ""),
        "selected": f"{means['selected']} [{low:.1f}, {high:.1f}]",
        "last": means["last"],
        "oracle (uses target labels)": means["oracle"],
        "source val": means["source_val"],
        PUBLISHED: f"{exact:.2f}" if exact is not None else others,
        "clips": group.results[0]["target_val_clips"],
        "seeds": len(group.seeds),
    }


def _figure(study: Study, numbers: pd.DataFrame) -> Figure:
    numbers["published"] = [
        published(group, study.runs[group.folders[0]].config["method"]["published"]) for group in study.in_order()
    ]
    tooltip = charts.tooltip("method", "seeds", "published", accuracy=".1f", low=".1f", high=".1f")
    rows = alt.Y("method:N", sort=list(study.methods), title=None, axis=alt.Axis(labelLimit=140))
    scale = alt.Scale(zero=False, nice=True, padding=6)
    directions = [direction(pair) for pair in study.pairs]
    choices = [("direction", directions[0])]
    base = charts.numbers(choices).encode(y=rows, tooltip=tooltip)
    bars = base.mark_rule(strokeWidth=2, color=charts.ACCENT).encode(
        x=alt.X("low:Q", scale=scale, title="accuracy, %", axis=alt.Axis(tickCount=8)), x2="high:Q"
    )
    seeds = base.mark_rule(strokeWidth=6, opacity=0.35, color=charts.ACCENT).encode(x="lowest seed:Q", x2="highest seed:Q")
    points = base.mark_point(filled=True, size=80, color=charts.ACCENT, opacity=1).encode(x="accuracy:Q")
    papers = base.mark_point(shape="diamond", size=90, color=charts.PUBLISHED).encode(x="published:Q")
    chart = bars + seeds + points + (papers if numbers["published"].notna().any() else alt.layer())
    return Figure(
        "accuracy",
        "Accuracy of the selected epochs",
        "A dot for each method: mean accuracy on the target's validation clips, with its 95 % interval. "
        + _said(numbers, directions[0]),
        charts.specification(chart, choices, alt.Step(charts.STEP + 4)),
        numbers=numbers,
        choices={"direction": directions},
        note="Dot: mean over seeds. Thin line: 95 % interval over seeds and clips. Thick line: from the lowest to the "
        "highest seed. "
        "Hollow diamond: published, not ours; only for U→H and H→U.",
    )


def _said(numbers: pd.DataFrame, chosen: str) -> str:
    """The ends of the order of methods, for who does not see the chart."""
    rows = numbers[numbers["direction"] == chosen].sort_values("accuracy")
    parts = [f"{row['method']} {row['accuracy']:.1f} %" for _, row in rows.iloc[[-1, 0] if len(rows) > 1 else [0]].iterrows()]
    return f"{chosen}: from {parts[-1]} to {parts[0]}." if len(parts) > 1 else f"{chosen}: {parts[0]}."


def _runs(study: Study) -> Table:
    rows = []
    for group in study.in_order():
        for run in study.members(group):
            result = run.result
            rows.append(
                {
                    "direction": direction(group.pair), "method": group.method, "seed": result["seed"],
                    "selected": result["selected"], "selected epoch": result.get("selected_epoch"), "last": result["last"],
                    "oracle (uses target labels)": result["oracle"], "source val": result["source_val"],
                    "health at the last epoch": result.get("advice") or "", "folder": str(run.folder),
                }
            )  # fmt: skip
    return Table("runs", "Every run", pd.DataFrame(rows), muted=("oracle (uses target labels)",), folded=True)
