"""The source → target pairs of a request. All are checked, and what is worth knowing is said, before features are read."""

from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Final

import torch
from cia_extract.common import names
from cia_extract.common.console import Say
from cia_extract.common.errors import DataError, UsageError

from cia_adapt.config import Chosen, Method, Setup
from cia_adapt.data import (
    Domain,
    ForeignDataset,
    Rows,
    Stores,
    Task,
    Tier,
    arrays_to_read,
    find_domains,
    free_memory,
    label_sets,
    make_task,
    pairs,
    relabelled,
    rows_of,
    sizes_of,
    training_classes,
)
from cia_adapt.model import VideoModel
from cia_adapt.training import build_objectives

FEW_STEPS: Final = 5  # an epoch; the benchmark of the set-up uh has 7 and 12
COPIES: Final = 4  # of a model while Adam trains it: parameters, gradients, two moments; float32


@dataclass(frozen=True)
class Request:
    """One invocation of `cia-adapt`."""

    features: Path
    chosen: Chosen
    source: str | None
    target: str | None
    modalities: tuple[str, ...]
    """Empty: all that both domains have."""
    seeds: tuple[int, ...]
    runs: Path
    device: torch.device
    overwrite: bool = False
    resume: bool = False
    keep_state: bool = True
    validators: bool = True
    precision: str = "fp32"
    compiled: bool = False
    tier: Tier | None = None
    mapping: tuple[str, ...] = ()
    manifests: tuple[str, ...] = ()


@dataclass(frozen=True)
class Pair:
    """One direction of a request."""

    source: Domain
    target: Domain
    modalities: tuple[str, ...]
    method: Method
    setup: Setup
    """The request's, with no more segments than the file has frames of a clip."""


def prepared(request: Request, say: Say) -> Iterator[Pair]:
    """All directions, checked before the first is yielded; notes are said once each. Raises UsageError, DataError."""
    domains = relabelled(find_domains(request.features, request.mapping), request.manifests, say)
    checked, notes = [], []
    for source, target in pairs(domains, request.source, request.target):
        pair = _pair(request, domains[source], domains[target])
        notes += [*_domain_notes(pair), *_check(request, pair)]
        checked.append(pair)
    for note in dict.fromkeys(notes):
        say(f"note: {note}")
    yield from checked


def task_of(request: Request, pair: Pair, stores: Stores) -> tuple[Task, Any]:
    """(task, sealed labels) of a direction."""
    method = pair.method
    return make_task(pair.source, pair.target, pair.modalities, method.needs_maps, pair.setup, stores, method.supervision)


def _pair(request: Request, source: Domain, target: Domain) -> Pair:
    for domain in (source, target):
        names.check(domain.name, f"{request.features}: domain")  # it becomes a part of the run's path
    common = tuple(m for m in source.dataset.modalities if m in target.dataset.modalities)
    modalities = tuple(dict.fromkeys(request.modalities)) or common
    if not modalities:
        raise UsageError(f"{request.features}: '{source.name}' and '{target.name}' have no modality in common")
    setup = request.chosen.setup
    setup = replace(setup, segments=min(setup.segments, max(1, source.dataset.frames)))
    return Pair(source, target, modalities, request.chosen.for_pair(source.name, target.name), setup)


def _domain_notes(pair: Pair) -> Iterator[str]:
    for domain in (pair.source, pair.target):
        dataset = domain.dataset
        if isinstance(dataset, ForeignDataset):
            yield f"'{domain.name}' is not in cia-extract's own layout; read through h5py, slower"
        missing = len(dataset) - int(dataset.done().sum())
        if missing:
            yield f"{missing} of {len(dataset)} clips of '{dataset.name}' are not extracted; left out"


def _check(request: Request, pair: Pair) -> list[str]:
    """Notes about a pair. Raises UsageError or DataError where the method, the set-up and the clips do not fit."""
    arrays = arrays_to_read(pair.source, pair.target, pair.modalities, pair.method.needs_maps)
    rows = rows_of(pair.source, pair.target, pair.setup)
    _check_model(request, pair, arrays)
    by_target = pair.method.supervision == "target"
    teacher, taught = (pair.target, rows.target_train) if by_target else (pair.source, rows.source_train)
    known = training_classes(teacher, taught, pair.setup)
    _check_hold_out(pair, teacher, teacher.text_labels(taught, pair.setup.label_columns[0]))
    return [
        *_segment_notes(request, pair),
        *_step_notes(pair, teacher, len(taught)),
        *_split_notes(pair, rows),
        *(note for column, classes in known.items() for note in _class_notes(pair, rows, column, frozenset(classes))),
    ]


def _check_model(request: Request, pair: Pair, arrays: Mapping[str, str]) -> None:
    """Compose the model without memory or features, so that a method that these modalities do not fit is told at once."""
    try:
        with torch.device("meta"):
            model = VideoModel(pair.method, sizes_of(pair.source, arrays, pair.setup, (2,), 2))
            objectives = build_objectives(pair.method, model)
    except UsageError as error:
        if pair.setup.segments < request.chosen.setup.segments and "--segments" in str(error):
            raise UsageError(f"{error}, and the file has {_frames(pair)} a clip; take another --temporal or --method") from None
        raise
    except RuntimeError as error:  # torch's, of sizes that overflow
        raise UsageError(f"--method {pair.method.name}: with these settings its model cannot be built ({error})") from error
    numbers = sum(x.numel() for module in (model, objectives) for x in (*module.parameters(), *module.buffers()))
    free = free_memory()
    if COPIES * 4 * numbers > free:
        raise UsageError(
            f"--method {pair.method.name}: with these settings its model needs {COPIES * 4e-9 * numbers:.0f} GB to train, and "
            f"{free / 1e9:.0f} GB are free; lower --shared-features or what --set makes large"
        )


def _check_hold_out(pair: Pair, teacher: Domain, labels: list[str]) -> None:
    """G-Blend needs labelled clips to hold out."""
    share = pair.method.option("gradient_blend").get("held_out")
    most = max(Counter(labels).values())
    if share is not None and (most < 2 or not round(share * most)):
        advice = "it needs two clips or more" if most < 2 else "--set gradient_blend.held_out=0.5"
        raise DataError(
            f"gradient_blend: holds out {share:.0%} of each class, and no class of '{teacher.name}' has enough training clips; "
            f"{advice}"
        )


def _frames(pair: Pair) -> str:
    frames = pair.source.dataset.frames
    return f"{frames} frame{'s' if frames != 1 else ''}"


def _segment_notes(request: Request, pair: Pair) -> Iterator[str]:
    wanted = request.chosen.setup.segments
    if pair.setup.segments < wanted:
        yield f"the features have {_frames(pair)} a clip; each is read once, where '{pair.setup.name}' takes {wanted} of a clip"


def _step_notes(pair: Pair, teacher: Domain, clips: int) -> Iterator[str]:
    """Very few steps an epoch: most set-ups were made for a thousand clips and more."""
    setup = pair.setup
    batch = min(setup.batch, clips)
    steps = -(-clips // batch)
    if steps >= FEW_STEPS:
        return
    smaller = max(4, 1 << (max(1, clips // 8).bit_length() - 1))
    advice = "raise --epochs" + (", or take --setup demo, which is for a few hundred clips" if setup.name != "demo" else "")
    if smaller < batch:
        advice = f"lower --batch (with {smaller}: {-(-clips // smaller)} steps an epoch) or {advice}"
    yield (
        f"few steps: {clips} training clips of '{teacher.name}' are {steps} step{'s' if steps > 1 else ''} an epoch with "
        f"--batch {setup.batch}, {steps * setup.epochs} in {setup.epochs} epochs; {advice}"
    )


def _split_notes(pair: Pair, rows: Rows) -> Iterator[str]:
    """Clips that train and are evaluated too. Raises UsageError where their labels would train."""
    target, source = set(rows.target_train.tolist()), set(rows.source_train.tolist())
    tested, val = set(rows.target_val.tolist()), set(rows.source_val.tolist())
    if target & tested and pair.method.supervision == "target":
        raise UsageError(
            f"--method {pair.method.name}: would train on the labels of {len(target & tested)} of the {len(tested)} clips of "
            f"'{pair.target.name}' that it is tested on; give --train-split and --val-split different splits of the target"
        )
    if target & tested and pair.method.needs_target:
        which = "all" if tested <= target else f"{len(target & tested)} of the"
        yield (
            f"transductive: {which} {len(tested)} test clips of '{pair.target.name}' are adapted to, without their labels; "
            "results say so"
        )
    if source & val and pair.method.supervision == "source":
        which = "all" if val <= source else f"{len(source & val)} of the"
        advice = (
            "; they choose the epoch badly: take --select last, im or bnm" if pair.setup.select in ("source_val", "dev") else ""
        )
        yield f"{which} {len(val)} val clips of '{pair.source.name}' are trained on as well{advice}"


def _class_notes(pair: Pair, rows: Rows, column: str, known: frozenset[str]) -> Iterator[str]:
    """Classes that one side lacks. Raises DataError where the two sides have none in common.

    This reads the names of the target's test classes; the run's stamp counts it as an opening of the labels.
    """
    target_only = pair.method.supervision == "target"
    teacher = pair.target if target_only else pair.source
    labels = pair.target.text_labels(rows.target_val, column)
    unknown = sum(label not in known for label in labels)
    test = frozenset(labels) - {""}
    where = f"{pair.target.dataset.path}: {column}"
    sides = (f"{teacher.name} (training)", f"{teacher.name} (test)") if target_only else (teacher.name, pair.target.name)
    compared = label_sets.compare(sides[0], known, sides[1], test)
    if not test:
        yield (
            f"{column}: no test clip of '{pair.target.name}' has a label, so all count as wrong; the predictions are in "
            "predictions.csv"
        )
    elif not compared.shared:
        raise DataError(f"{where}: no class is in both domains, so no prediction can be right; {compared.text}")
    elif not compared.same:
        counted = f"; {unknown} of {len(labels)} test clips have labels that training lacks and count as wrong" if unknown else ""
        yield f"{column}: the model knows the {len(known)} classes of '{teacher.name}'; {compared.text}{counted}"
    elif unknown:
        yield f"{column}: {unknown} of {len(labels)} test clips of '{pair.target.name}' have no label; they count as wrong"
    val = pair.source.text_labels(rows.source_val, column)
    lacking = sum(label not in known for label in val)
    if lacking == len(val) and pair.setup.select in ("source_val", "dev"):
        raise UsageError(
            f"--select {pair.setup.select}: no val clip of '{pair.source.name}' has a {column} that training knows; take "
            "--select last or im"
        )
    if lacking:
        yield f"{column}: {lacking} of {len(val)} source val clips have labels that training lacks, so count as wrong"
