"""Table 1 of the supplement: parameters and multiply-accumulates of the methods, as `cia-adapt cost` counts them."""

from typing import Any, Final

import pandas as pd

from cia_adapt.config import Method
from cia_adapt.results.cost import RULES, Cost, of_method
from cia_adapt.results.report.section import Section, Table
from cia_adapt.results.report.study import Study

MOST: Final = 8  # methods: the baseline and the best of the others
PUBLISHED: Final = ("published M parameters (not ours)", "published GMac (not ours)")


def section(study: Study) -> Section:
    """Sums with and without the backbone, and every module."""
    costs = [_cost(study, method) for method in study.methods[:MOST]]
    totals = pd.DataFrame([_totals(cost) for cost in costs])
    if not totals[list(PUBLISHED)].notna().any(axis=None):
        totals = totals.drop(columns=list(PUBLISHED))
    modules = pd.DataFrame([row for cost in costs for row in _modules(cost)])
    text = ["A clip's prediction: MACs are multiply-accumulates.", *(f"{rule[0].upper()}{rule[1:]}." for rule in RULES)]
    sums = Table("cost", "Parameters and multiply-accumulates", totals, muted=PUBLISHED)
    return Section("Cost", text, tables=[sums, Table("cost-modules", "Cost by module", modules, folded=True)])


def _cost(study: Study, name: str) -> Cost:
    config = study.runs[study.of_method(name)[0].folders[0]].config
    method, setup = Method(**config["method"]), config["setup"]
    segments = 1 if method.temporal == "tsn" else setup["segments"]  # a window, as in table 1, where frames are averaged
    classes = [len(names) for names in config["classes"].values()]
    return of_method(method, config["modalities"], classes, segments, setup.get("shared_features", 512))


def _totals(cost: Cost) -> dict[str, Any]:
    published = cost.published or (None, None)
    return {
        "method": cost.method,
        "windows": cost.segments,
        "M parameters": cost.without_backbone.parameters / 1e6,
        "GMac": cost.without_backbone.macs / 1e9,
        "M parameters with backbone": cost.with_backbone.parameters / 1e6,
        "GMac with backbone": cost.with_backbone.macs / 1e9,
        PUBLISHED[0]: published[0],
        PUBLISHED[1]: published[1],
    }


def _modules(cost: Cost) -> list[dict[str, Any]]:
    groups = {"prediction": cost.head, "training only": cost.training, "backbone": cost.backbone}
    return [
        {"method": cost.method, "when": when, "module": row.module, "parameters": row.parameters, "MACs": row.macs}
        for when, rows in groups.items()
        for row in rows
    ]
