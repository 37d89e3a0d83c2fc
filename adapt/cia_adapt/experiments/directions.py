"""The source → target directions of a request. All are checked before features are read."""

from collections.abc import Iterator
from dataclasses import replace

from cia_extract.common import names
from cia_extract.common.console import Say
from cia_extract.common.errors import UsageError

import cia_adapt.experiments.clips as clips
from cia_adapt.data import (
    Domain,
    SealedLabels,
    Stores,
    Task,
    as_one,
    domains_of,
    find_domains,
    make_task,
    pairs,
    quoted,
    relabelled,
)
from cia_adapt.experiments.checks import check
from cia_adapt.experiments.request import Direction, Request


def prepared(request: Request, say: Say) -> Iterator[Direction]:
    """All directions, checked before the first is yielded; notes are said once each. Raises UsageError, DataError."""
    domains = relabelled(_domains(request, say), request.manifests, say)
    weights = {} if request.footage is None else clips.first_weights(request, say)
    checked, notes = [], []
    for sources, target in pairs(domains, request.sources, request.target):
        source = as_one([domains[name] for name in sources])
        direction = replace(_direction(request, source, domains[target]), weights=weights)
        notes += check(request, direction)
        checked.append(direction)
    for note in dict.fromkeys(notes):
        say(f"note: {note}")
    yield from checked


def _domains(request: Request, say: Say) -> dict[str, Domain]:
    if request.footage is not None:
        return domains_of(clips.datasets(request, say))
    assert request.features is not None
    return find_domains(request.features, request.mapping)


def task_of(direction: Direction, stores: Stores) -> tuple[Task, SealedLabels]:
    """(task, sealed labels) of a direction."""
    method, setup = direction.method, direction.setup
    return make_task(
        direction.source, direction.target, direction.modalities, method.needs_maps, setup, stores, method.supervision
    )


def _direction(request: Request, source: Domain, target: Domain) -> Direction:
    for domain in (*source.each, target):
        names.check(domain.name, f"{request.where}: domain")  # it becomes a part of the run's path
    common = tuple(m for m in source.dataset.modalities if m in target.dataset.modalities)
    modalities = tuple(dict.fromkeys(request.modalities)) or common
    if not modalities:
        all_of_them = quoted((*source.each, target))
        raise UsageError(f"{request.where}: {all_of_them} have no modality in common; extract one for all")
    setup = request.chosen.setup
    setup = replace(setup, segments=min(setup.segments, max(1, source.dataset.frames)))
    return Direction(source, target, modalities, request.chosen.for_pair(source.name, target.name), setup)
