"""t-SNE of the clips' features of both domains, and SC's consensus maps over the frames, of the baseline and the best method."""

from typing import Final

import altair as alt
import numpy as np
import pandas as pd
from cia_extract.common.errors import CiaError

import cia_adapt.results.report.charts as charts
import cia_adapt.results.report.consensus as consensus
from cia_adapt.results.comparison import Group
from cia_adapt.results.figures import two_runs
from cia_adapt.results.report.section import Figure, Section
from cia_adapt.results.report.study import LeaveOut, Study, direction

MOST: Final = 12  # groups: of more, t-SNE takes minutes


def pictured(study: Study) -> list[Group]:
    """The groups that are drawn: all of few, else those of the best method and the baseline."""
    groups = study.in_order()
    if len(groups) > MOST:
        groups = [group for group in groups if group.method in (study.best, study.baseline)]
    return groups[:MOST]


def embedding(study: Study, leave_out: LeaveOut) -> Section | None:
    """A chart for each direction and method: the selected epoch's features of the first seed."""
    drawn: list[Figure] = []
    for group in pictured(study):
        title = f"{group.method}: {direction(group.pair)}"
        try:
            placed = two_runs.place(group.folders[0], study.wanted.seed, leave_out)
        except (CiaError, ValueError) as error:
            leave_out(f"the t-SNE of {title}: {error}")
            continue
        names = {"setup": study.setup, "method": group.method, "source": group.pair[0], "target": group.pair[1]}
        numbers = pd.DataFrame(
            [
                names | {"role": role, "domain": one.domain, "clip": clip, "class": name, "x": x, "y": y}
                for role, one in (("source", placed.source), ("target", placed.target))
                for (x, y), clip, name in zip(one.points, one.clips, one.classes, strict=True)
            ]
        )
        alt_text = f"t-SNE of the clips' features, {group.pair[0]} (source) in blue and {group.pair[1]} (target) in red; {title}."
        drawn.append(Figure(f"tsne-{len(drawn)}", title, alt_text, charts.specification(_scatter(), height=300), numbers=numbers))
    if not drawn:
        return None
    text = "t-SNE of the selected epoch's clip features of both validation sets, equal numbers a domain, PCA start; first seed."
    return Section("Features", [text], drawn)


def _scatter() -> alt.Chart:
    """The source blue, the target red, without axes: distances between clusters have no meaning."""
    scale = alt.Scale(domain=["source", "target"], range=[charts.SOURCE, charts.TARGET])
    return (
        charts.numbers()
        .properties(view=alt.ViewBackground(stroke=charts.LINE))
        .mark_point(filled=True, size=35, opacity=0.75)
        .encode(
            x=alt.X("x:Q", axis=None, scale=alt.Scale(zero=False)),
            y=alt.Y("y:Q", axis=None, scale=alt.Scale(zero=False)),
            color=alt.Color("role:N", scale=scale, legend=charts.LEGEND),
            tooltip=charts.tooltip("role", "domain", "class", "clip"),
        )
    )


def maps(study: Study, leave_out: LeaveOut) -> Section | None:
    """Consensus maps of a few target clips of the methods that pool with SC; of the first seed."""
    drawn: list[Figure] = []
    for group in pictured(study):
        title = f"{group.method}: {direction(group.pair)}"
        try:
            panels, missing = consensus.panels(group.folders[0], study.wanted.root, study.wanted.seed, study.wanted.clips)
        except (CiaError, ArithmeticError, LookupError, RuntimeError, TypeError, ValueError) as error:
            leave_out(f"consensus maps of {title}: {error}")
            continue
        if missing:
            leave_out(f"consensus maps of {title}: {len(missing)} of {len(panels) + len(missing)} clips, the first: {missing[0]}")
        for panel in panels:
            drawn.append(_mapped(panel, title, f"maps-{len(drawn)}-{group.method}"))
    if not drawn:
        return None
    text = (
        "What share of a frame's pooled feature each of the 7×7 cells gives; frames above, maps over them below. Bright is much, "
        "in each clip's own scale. Target validation clips, drawn by the report's seed."
    )
    return Section("Consensus maps", [text], drawn)


def _mapped(panel: consensus.Panel, title: str, name: str) -> Figure:
    """A clip's frames and maps, and the weight of every cell."""
    words = f"{panel.clip}: predicted {panel.predicted}."
    frames, rows, columns = np.indices(panel.maps.shape) + 1
    numbers = {"frame": frames.ravel(), "row": rows.ravel(), "column": columns.ravel(), "share": panel.maps.ravel()}
    scale = f"The brightest cell gives {panel.maps.max():.1%}; under average pooling each gives {1 / panel.maps[0].size:.1%}."
    return Figure(
        name,
        title,
        f"Consensus maps over frames of the target clip {words}",
        picture=panel.picture,
        numbers=pd.DataFrame({"clip": panel.clip, **numbers}),
        note=f"{words} {scale}",
    )
