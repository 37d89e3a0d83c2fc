"""t-SNE of the clips' features of both domains, and SC's consensus maps over the frames, of the baseline and the best method."""

import pandas as pd
from cia_extract.common.errors import CiaError

import cia_adapt.results.report.consensus as consensus
import cia_adapt.results.report.figures as figures
from cia_adapt.results.comparison import Group
from cia_adapt.results.figures import tsne
from cia_adapt.results.report.section import Figure, Section
from cia_adapt.results.report.study import LeaveOut, Study, direction
from cia_adapt.runs import files

MOST = 12  # groups: of more, t-SNE takes minutes


def pictured(study: Study) -> list[Group]:
    """The groups that are drawn: all of few, else those of the best method and the baseline."""
    groups = study.in_order()
    if len(groups) > MOST:
        groups = [group for group in groups if group.method in (study.best, study.baseline)]
    return groups[:MOST]


def embedding(study: Study, leave_out: LeaveOut) -> Section | None:
    """A picture for each direction and method; of the first seed's selected epoch."""
    drawn: list[Figure] = []
    for group in pictured(study):
        title = f"{group.method}: {direction(group.pair)}"
        try:
            scores = files.load_scores(group.folders[0])
            both = [scores[f"selected/{side}_features"].double().numpy() for side in ("source", "target")]
            coordinates = tsne(both[0], both[1], study.wanted.seed)
        except (CiaError, ValueError) as error:
            leave_out(f"the t-SNE of {title}: {error}")
            continue
        rows = [
            {
                "setup": study.setup,
                "method": group.method,
                "source": group.pair[0],
                "target": group.pair[1],
                "domain": domain,
                "x": x,
                "y": y,
            }
            for domain, points in zip(group.pair, coordinates, strict=True)
            for x, y in points
        ]
        alt = f"t-SNE of clip features, source blue, target red, {title}"
        picture = figures.tsne(*coordinates, title)
        name = f"tsne-{len(drawn)}-{group.method}"
        drawn.append(Figure(name, title, alt, picture=picture, numbers=pd.DataFrame(rows)))
    if not drawn:
        return None
    text = "t-SNE of the selected epoch's clip features of both validation sets, equal numbers a domain, PCA start; first seed."
    return Section("Features", [text], drawn)


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
            alt = f"Consensus maps over frames of the target clip {panel.clip}, {title}"
            drawn.append(Figure(f"maps-{len(drawn)}-{group.method}", title, alt, picture=panel.png))
    if not drawn:
        return None
    text = (
        "What share of the pooled feature each of the 7×7 cells gives; frames above, maps over them below. The white line on the "
        "scale is average pooling (1/49). Target validation clips, drawn by the report's seed."
    )
    return Section("Consensus maps", [text], drawn)
