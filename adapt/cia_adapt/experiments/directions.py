"""The source → target directions of a request. All are checked before features are read."""

from collections.abc import Iterator
from dataclasses import replace

from cia_extract.common import names
from cia_extract.common.console import Say
from cia_extract.common.errors import UsageError
from cia_extract.networks.weights import Weights

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
    weights: dict[str, Weights] = {}
    if request.footage is not None:
        if request.footage.frames == "decoded":  # a mistake is told before hours of decoding
            _checked(replace(request, footage=replace(request.footage, frames="black")), lambda message: None)
        weights = clips.first_weights(request, say)
    directions, notes = _checked(request, say)
    for note in dict.fromkeys(notes):
        say(f"note: {note}")
    yield from (replace(direction, weights=weights) for direction in directions)


def _checked(request: Request, say: Say) -> tuple[list[Direction], list[str]]:
    """(all directions, what is worth knowing about them), without the backbone's weights. Raises UsageError, DataError."""
    domains = relabelled(_domains(request, say), request.manifests, say)
    directions, notes = [], []
    for sources, target in pairs(domains, request.sources, request.target):
        direction = _direction(request, as_one([domains[name] for name in sources]), domains[target])
        notes += check(request, direction)
        directions.append(direction)
    return directions, notes


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
