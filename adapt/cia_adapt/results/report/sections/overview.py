"""What was run, in plain words."""

from collections import Counter
from typing import Any

import pandas as pd

from cia_adapt.results.report.section import Section, Table
from cia_adapt.results.report.study import Study, direction
from cia_adapt.training import Advice


def section(study: Study) -> Section:
    """The protocol, the outcome in a sentence a direction, and a table of the methods."""
    return Section("What was run", [_protocol(study), *_outcomes(study), *_troubles(study)], tables=[_methods(study)])


def _protocol(study: Study) -> str:
    config = next(iter(study.runs.values())).config
    setup = config["setup"]
    seeds = sorted({len(group.seeds) for group in study.groups.values()})
    clips = ", ".join(
        f"{study.groups[next(key for key in study.groups if key[1] == pair)].results[0]['target_val_clips']} of {pair[1]}"
        for pair in study.pairs
    )
    return (
        f"{_count(len(study.runs), 'run')}: {_count(len(study.methods), 'method')}, {_count(len(study.pairs), 'direction')} of "
        f"domains, {'/'.join(map(str, seeds))} {'seed' if seeds == [1] else 'seeds'} each, by the set-up "
        f"“{study.setup}”. A run reads "
        f"the features of {' and '.join(config['modalities'])}, trains {_count(setup['epochs'], 'epoch')} on the labelled "
        f"clips of the source and the unlabelled clips of the target, and is scored on the target's validation clips ({clips}). "
        "“Selected” is the epoch that the set-up's rule picks without a target label."
    )


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("s" if number != 1 else "")


def _outcomes(study: Study) -> list[str]:
    """A sentence for each direction: the best method and the baseline, with their intervals."""
    lines = []
    for pair in study.pairs:
        shown = [
            study.groups[m, pair] for m in dict.fromkeys((study.best, study.baseline or study.best)) if (m, pair) in study.groups
        ]
        parts = []
        for group in shown:
            low, high = study.intervals[group.method, pair]
            parts.append(f"{group.method} {100 * group.right('selected').mean():.1f} % [{low:.1f}, {high:.1f}]")
        if parts:
            lines.append(f"{direction(pair)}: " + ", baseline ".join(parts) + " right.")
    return lines


def _troubles(study: Study) -> list[str]:
    """A sentence where runs ended in trouble."""
    kinds: Counter[str] = Counter()
    for run in study.runs.values():
        if run.result.get("advice"):
            kinds[Advice.read(str(run.result["advice"])).kind] += 1
    if not kinds:
        return []
    what = ", ".join(f"{count} × {kind}" for kind, count in kinds.most_common())
    return [
        f"{sum(kinds.values())} of {_count(len(study.runs), 'run')} ended in trouble ({what}); see the curves for the epochs."
    ]


def _methods(study: Study) -> Table:
    rows = []
    for method in study.methods:
        group = study.of_method(method)[0]
        config: Any = study.runs[group.folders[0]].config["method"]
        composed = [config.get(part) for part in ("refinement", "pooling", "temporal")] + list(config.get("objectives", ()))
        rows.append(
            {
                "method": method + (" (baseline)" if method == study.baseline else ""),
                "stands for": config["paper"],
                "made of": " + ".join(str(part) for part in composed if part),
                "departs in": "; ".join(group.changed),
                "reconstructed": config["reconstructed"],
                "parameters": group.results[0].get("parameters"),
            }
        )
    table = pd.DataFrame(rows)
    if not table["departs in"].any():
        table = table.drop(columns="departs in")
    note = (
        "Departs in: what the runs have otherwise than the method of that name. Reconstructed: what the paper, whose code is not "
        "public, leaves open."
    )
    return Table("methods", "Methods", table, note)
