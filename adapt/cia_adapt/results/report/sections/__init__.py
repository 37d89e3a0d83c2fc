"""The sections of the page, in its order: a function each, from a study to a section, or None where there is nothing to show."""

from collections.abc import Callable, Mapping
from typing import Final

from cia_adapt.results.report.section import Section
from cia_adapt.results.report.sections import (
    changed,
    confusion,
    costs,
    curves,
    differences,
    distance,
    features,
    labels,
    overview,
    papers,
    provenance,
    results,
    validators,
)
from cia_adapt.results.report.study import LeaveOut, Study

Builder = Callable[[Study, LeaveOut], Section | None]

BUILDERS: Final[Mapping[str, Builder]] = {
    "what was run": lambda study, _: overview.section(study),
    "the results": lambda study, _: results.section(study),
    "the differences": lambda study, _: differences.section(study),
    "the paper's tables": lambda study, _: papers.section(study),
    "the curves": lambda study, _: curves.section(study),
    "the classes": lambda study, _: confusion.section(study),
    "the labels": lambda study, _: labels.section(study),
    "the validators": lambda study, _: validators.section(study),
    "the domain distance": distance.section,
    "the t-SNE": features.embedding,
    "the consensus maps": features.maps,
    "the clips that changed": changed.section,
    "the cost": lambda study, _: costs.section(study),
    "the provenance": provenance.section,
}
