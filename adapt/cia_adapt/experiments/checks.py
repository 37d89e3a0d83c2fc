"""What is worth knowing about a direction before it is trained, and what does not fit: looked at before features are read."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from itertools import combinations
from typing import Final

import numpy as np
import torch
from cia_extract.common import machine
from cia_extract.common.errors import DataError, UsageError

from cia_adapt import config, parts
from cia_adapt.config import Setup
from cia_adapt.data import (
    Domain,
    ForeignDataset,
    Rows,
    arrays_to_read,
    label_sets,
    rows_of,
    sizes_of,
    tested,
    training_classes,
)
from cia_adapt.experiments.request import Direction, Request, counted
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import Objective
from cia_adapt.training import build_objectives, check_fits, reached_by

FEW_STEPS: Final = 5  # an epoch; the benchmark of the set-up uh has 7 and 12
COPIES: Final = 4  # of a model while Adam trains it: parameters, gradients, two moments; float32


def check(request: Request, direction: Direction) -> list[str]:
    """What is worth knowing about a direction.

    Raises UsageError or DataError where the method, the set-up and the clips do not fit.
    """
    arrays = arrays_to_read(direction.source, direction.target, direction.modalities, direction.method.needs_maps)
    rows = rows_of(direction.source, direction.target, direction.setup)
    teacher = direction.teacher
    taught = rows.source_train if teacher is direction.source else rows.target_train
    known = training_classes(teacher, taught, direction.setup)
    model, objectives = _compose(request, direction, arrays)
    check_fits(direction.setup, objectives)
    for objective in objectives:
        objective.check_labels(teacher.text_labels(taught, direction.setup.label_columns[0]), teacher.name)
    of_classes = [
        *_notes_between_sources(direction, rows, known),
        *(note for column, classes in known.items() for note in _class_notes(direction, rows, column, frozenset(classes))),
    ]
    rows = replace(rows, target_val=tested(direction.target, rows.target_val, known, direction.setup))
    return [
        *_machine_notes(request),
        *_domain_notes(direction),
        *_source_notes(direction, rows),
        *_segment_notes(request, direction),
        *_step_notes(direction, teacher, len(taught)),
        *_split_notes(direction, rows),
        *_phase_notes(direction, objectives),
        *_idle_notes(direction, model, objectives),
        *of_classes,
    ]


def _compose(request: Request, direction: Direction, arrays: Mapping[str, str]) -> tuple[VideoModel, list[Objective]]:
    """Model and objectives without memory or features, so that a method that these modalities do not fit is told at once."""
    try:
        with torch.device("meta"):
            model = VideoModel(direction.method, sizes_of(direction.source, arrays, direction.setup, (2,), 2))
            objectives = build_objectives(direction.method, model)
    except UsageError as error:
        if direction.setup.segments < request.chosen.setup.segments and "--segments" in str(error):
            raise UsageError(
                f"{error}, and the file has {_frames(direction)} a clip; take another --temporal or --method"
            ) from None
        raise
    except RuntimeError as error:  # torch's, of sizes that overflow
        raise UsageError(f"--method {direction.method.name}: with these settings its model cannot be built ({error})") from error
    numbers = sum(x.numel() for module in (model, objectives) for x in (*module.parameters(), *module.buffers()))
    free = machine.free_memory()
    if COPIES * 4 * numbers > free:
        raise UsageError(
            f"--method {direction.method.name}: with these settings its model needs {COPIES * 4e-9 * numbers:.0f} GB to train, "
            f"and only {free / 1e9:.0f} GB are free; lower --shared-features, or a size that --set gives"
        )
    return model, list(objectives.values())  # type: ignore[arg-type]


def _machine_notes(request: Request) -> Iterator[str]:
    if request.precision == "bf16" and request.device.type == "cpu" and not machine.multiplies_bf16():
        yield "--precision bf16: this processor has no instructions for bf16, and fp32 is faster on it"


def _domain_notes(direction: Direction) -> Iterator[str]:
    for domain in (*direction.source.each, direction.target):
        dataset = domain.dataset
        if isinstance(dataset, ForeignDataset):
            yield f"'{domain.name}' is not in cia-extract's own layout, so it is read through h5py, which is slower"
        missing = len(dataset) - int(dataset.done().sum())
        if missing:
            yield f"{missing} of {len(dataset)} clips of '{dataset.name}' are not extracted yet and are left out"


def _source_notes(direction: Direction, rows: Rows) -> Iterator[str]:
    """How several sources train together."""
    trained = direction.teacher.by_source(rows.source_train)
    if not trained:
        return
    counts = ", ".join(f"'{name}' {len(positions)}" for name, positions in trained.items())
    between = "; losses between domains take them for one domain" if direction.method.needs_target else ""
    yield (
        f"{len(trained)} sources train together, clips: {counts}; an epoch passes once over all, and a batch mixes them in "
        f"proportion{between}; source val is over the val clips of all"
    )


def _frames(direction: Direction) -> str:
    frames = direction.source.dataset.frames
    return f"{frames} frame{'s' if frames != 1 else ''}"


def _segment_notes(request: Request, direction: Direction) -> Iterator[str]:
    asked, setup = request.chosen.setup.segments, direction.setup
    if setup.segments < asked:
        yield f"the file has {_frames(direction)} a clip, and set-up '{setup.name}' takes {asked}; each frame is read once"


def _step_notes(direction: Direction, teacher: Domain, clips: int) -> Iterator[str]:
    """Very few steps an epoch: most set-ups were made for a thousand clips and more."""
    setup = direction.setup
    batch = min(setup.batch, clips)
    steps = -(-clips // batch)
    if steps >= FEW_STEPS:
        return
    smaller = max(4, 1 << (max(1, clips // 8).bit_length() - 1))
    advice = "raise --epochs" + (", or take --setup demo, made for a few hundred clips" if setup.name != "demo" else "")
    if smaller < batch:
        advice = f"lower --batch ({smaller} gives {-(-clips // smaller)} steps an epoch) or {advice}"
    yield (
        f"few steps: {clips} training clips of '{teacher.name}' with --batch {setup.batch} give {counted(steps, 'step')} an "
        f"epoch, {steps * setup.epochs} in {counted(setup.epochs, 'epoch')}; {advice}"
    )


def _split_notes(direction: Direction, rows: Rows) -> Iterator[str]:
    """Clips that train and are evaluated too. Raises UsageError where their labels would train."""
    target, source = set(rows.target_train.tolist()), set(rows.source_train.tolist())
    tested, val = set(rows.target_val.tolist()), set(rows.source_val.tolist())
    if target & tested and direction.method.supervision == "target":
        raise UsageError(
            f"--method {direction.method.name}: would train on the labels of {len(target & tested)} of the {len(tested)} clips "
            f"of '{direction.target.name}' that it is tested on; give --train-split and --val-split different splits of the "
            "target"
        )
    if target & tested and direction.method.needs_target:
        which = "all" if tested <= target else f"{len(target & tested)} of the"
        yield (
            f"transductive: training adapts to {which} {len(tested)} test clips of '{direction.target.name}', without their "
            "labels; results say so"
        )
    if source & val and direction.method.supervision == "source":
        which = "all" if val <= source else f"{len(source & val)} of the"
        advice = (
            ", so accuracy on them chooses the epoch badly; take --select last, im or bnm"
            if direction.setup.select in ("source_val", "dev")
            else ""
        )
        yield f"training uses {which} {len(val)} val clips of '{direction.source.name}' too{advice}"


def _phase_notes(direction: Direction, objectives: Sequence[Objective]) -> Iterator[str]:
    """A rule that looks at the source says little of epochs that train without it."""
    if direction.setup.select == "source_val" and any(objective.source_free for objective in objectives):
        yield (
            "--select source_val: this method ends without the source, and accuracy on the source favours the epochs that "
            "adapted least; take --select last, im or bnm"
        )


def _idle_notes(direction: Direction, model: VideoModel, objectives: Sequence[Objective]) -> Iterator[str]:
    """What is asked for and has no effect: discriminators without a loss, losses without a gradient, a factor of nothing."""
    method, setup = direction.method, direction.setup
    named = {f"{kind.removesuffix('s')}": name for kind, name in method.used_parts() if kind != "objectives"}
    for kind in sorted({name.split(".")[0] for name, _ in model.named_parameters() if "discriminators" in name.split(".")}):
        if "adversarial" not in method.objectives:
            yield (
                f"--{kind} {named[kind]}: only the objective adversarial trains its domain discriminators, and this method does "
                "not have it, so they stay as they begin; add adversarial to --objectives"
            )
    if not setup.shared_features and setup.input == "features":
        norms = [x for name, x in zip(method.objectives, objectives, strict=True) if name == "relative_norm"]
        if objectives and not any(name.split(".")[0] != "classifiers" for name, _ in model.named_parameters()):
            yield (
                "--shared-features 0: the classifiers alone are trained, so a loss on features (alignment, norms, contrasts) "
                "changes nothing; give --shared-features 512"
            )
        elif norms and not {"refinement", "pooling"} & reached_by(model, norms[0].reaches):
            yield (
                "--shared-features 0: no layer before the features that relative_norm compares is trained by it, so it changes "
                "nothing; give --shared-features 512"
            )
    reverses = any(hasattr(parts.find(kind, name), "REVERSED") for kind, name in method.used_parts())
    if objectives and not reverses and setup.name in config.names("setups"):
        own = config.read("setups", setup.name).get("reversal", Setup.reversal)
        if setup.reversal != own:
            yield f"--reversal {setup.reversal:g}: no part of --method {method.name} reverses a gradient, so it changes nothing"


def _notes_between_sources(direction: Direction, rows: Rows, known: Mapping[str, Sequence[str]]) -> Iterator[str]:
    """Classes that one of several sources lacks: the model knows those of all, by name."""
    by_source = direction.teacher.by_source(rows.source_train)
    if not by_source:
        return
    for column, classes in known.items():
        labels = np.array(direction.source.text_labels(rows.source_train, column))
        own = {name: frozenset(labels[positions].tolist()) for name, positions in by_source.items()}
        lacks = [f"'{name}' lacks {label_sets.listed(set(classes) - have)}" for name, have in own.items() if set(classes) - have]
        causes = [label_sets.compare(a, own[a], b, own[b]).cause for a, b in combinations(own, 2)]
        likely = "".join(f"; likely cause: {cause}" for cause in causes if cause)
        if lacks:
            yield f"{column}: the {len(own)} sources have {len(classes)} classes together; {'; '.join(lacks)}{likely}"


def _class_notes(direction: Direction, rows: Rows, column: str, known: frozenset[str]) -> Iterator[str]:
    """Classes that one side lacks. Raises DataError where the two sides have none in common.

    This reads the names of the target's test classes; the run's stamp counts it as an opening of the labels.
    """
    target_only = direction.method.supervision == "target"
    teacher = direction.target if target_only else direction.source
    labels = direction.target.text_labels(rows.target_val, column)
    unknown = sum(label not in known for label in labels)
    test = frozenset(labels) - {""}
    where = f"{direction.target.dataset.path}: {column}"
    sides = (f"{teacher.name} (training)", f"{teacher.name} (test)") if target_only else (teacher.name, direction.target.name)
    compared = label_sets.compare(sides[0], known, sides[1], test)
    fates = {"all": "count as wrong (--test-classes shared leaves them out)", "shared": "are left out, by --test-classes shared"}
    fate = fates[direction.setup.test_classes]
    if not test:
        yield (
            f"{column}: no test clip of '{direction.target.name}' has a label, so accuracy on them is n/a; predictions.csv has "
            "the predictions"
        )
    elif not compared.shared:
        raise DataError(f"{where}: no class is in both domains, so no prediction can be right; {compared.text}")
    elif not compared.same:
        counted = f"; {unknown} of {len(labels)} test clips have labels that training lacks and {fate}" if unknown else ""
        yield f"{column}: the model knows the {len(known)} classes of '{teacher.name}'; {compared.text}{counted}"
    elif unknown:
        yield f"{column}: {unknown} of {len(labels)} test clips of '{direction.target.name}' have no label; they {fate}"
    val = direction.source.text_labels(rows.source_val, column)
    lacking = sum(label not in known for label in val)
    if lacking == len(val) and direction.setup.select in ("source_val", "dev"):
        raise UsageError(
            f"--select {direction.setup.select}: no val clip of '{direction.source.name}' has a {column} that training knows; "
            "take --select last or im"
        )
    if lacking:
        yield f"{column}: {lacking} of {len(val)} source val clips have labels that training lacks and count as wrong"
