"""From domains to a task: the clips of a pair. What training is given carries no label of the target."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
from cia_extract.common import settings
from cia_extract.common.errors import DataError
from cia_extract.common.suggest import did_you_mean

from cia_adapt.config import Setup, splits
from cia_adapt.data.clips import Clips, LabelledClips, SealedLabels
from cia_adapt.data.domains import Domain
from cia_adapt.data.readers import Positions, Stores
from cia_adapt.footage import CHANNELS, FRAMES, grid, maps_of_a_clip
from cia_adapt.parts.interface import Sizes


@dataclass(frozen=True)
class Task:
    """What training may read of one source → target pair. No label of the target is in it."""

    source: str
    """Name of the labelled domain, or of several together: "olympic+ucf"."""
    target: str
    classes: Mapping[str, tuple[str, ...]]
    """{label column: names of its classes, in the order of their numbers}."""
    sizes: Sizes
    source_train: LabelledClips
    """The clips whose labels train: the source's, or with `supervision = "target"` the target's."""
    source_val: LabelledClips
    target_train: Clips
    target_val: Clips
    source_val_by_domain: Mapping[str, Positions] = field(default_factory=dict)
    """{source: its clips' positions in `source_val`} where there are several sources, else empty."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Names of the modalities that are read."""
        return tuple(self.sizes.channels)

    @property
    def label(self) -> str:
        """Name of the first label column, by whose classes pseudo-labels and balanced sampling go."""
        return next(iter(self.classes))

    @property
    def tested_and_adapted_to(self) -> int:
        """Number of the target's test clips that training adapts to as well, without their labels."""
        return len(np.intersect1d(self.target_train.rows, self.target_val.rows))


@dataclass(frozen=True)
class Rows:
    """The rows of a pair's clips in their datasets, [N] int64 each, by what they are for."""

    source_train: Positions
    source_val: Positions
    target_train: Positions
    target_val: Positions


def rows_of(source: Domain, target: Domain, setup: Setup) -> Rows:
    """The rows of the clips that train and that are evaluated, by the set-up's splits. Raises DataError for an empty split."""
    train, val = setup.train_split, setup.val_split
    return Rows(
        source.split(splits.of_role(train, "source"), "--train-split"),
        source.split(splits.of_role(val, "source"), "--val-split"),
        target.split(splits.of_role(train, "target"), "--train-split"),
        target.split(splits.of_role(val, "target"), "--val-split"),
    )


def arrays_to_read(source: Domain, target: Domain, modalities: Sequence[str], maps: bool) -> dict[str, str]:
    """The array of each modality to read, {modality: "rgb/maps" or "rgb/pooled"; of clips "rgb/frames"}.

    With `maps` it is the maps where all domains have them, else the vectors. Raises DataError where a domain lacks a modality, or
    the domains' arrays do not have the same shape.
    """
    first, *others = domains = (*source.each, *target.each)
    for other in others:
        if first.dataset.frames != other.dataset.frames:
            raise DataError(
                f"{first.dataset.path}: {first.name} has {first.dataset.frames} frames a clip and {other.name} "
                f"{other.dataset.frames}; extract both with the same --frames"
            )
    arrays = {}
    for m in modalities:
        for domain in domains:
            have = domain.dataset.modalities
            if m not in have:
                raise DataError(
                    f"{domain.dataset.path}: '{domain.name}' has no {settings.brief(m)}; extract it, or name one of "
                    f"{', '.join(have)} with --modality{did_you_mean(m, have)}"
                )
        shared = [kind for kind in (FRAMES, "maps", "pooled") if all(f"{m}/{kind}" in d.dataset.regions for d in domains)]
        usable = [kind for kind in shared if maps or kind != "maps"] or shared
        if not usable:
            raise DataError(
                f"{first.dataset.path}: {quoted(domains)} have no array of {m} in common (one has maps, the other vectors); "
                "extract all in the same way"
            )
        name = arrays[m] = f"{m}/{usable[0]}"
        for other in others:
            shapes = [d.dataset.regions[name].shape[2:] for d in (first, other)]
            if shapes[0] != shapes[1]:
                raise DataError(
                    f"{first.dataset.path}: {name} is {shapes[0]} in '{first.name}' and {shapes[1]} in '{other.name}'; extract "
                    "both in the same way"
                )
    return arrays


def quoted(domains: Sequence[Domain]) -> str:
    """The domains' names for a message: "'here', 'street' and 'there'"."""
    *but_last, last = (f"'{domain.name}'" for domain in domains)
    return f"{', '.join(but_last)} and {last}"


def sizes_of(source: Domain, arrays: Mapping[str, str], setup: Setup, heads: Sequence[int], target_train_clips: int) -> Sizes:
    """What the parts of a model need to know of these arrays and of the set-up; `heads` are the classes of each label."""
    trained = setup.input == "clips"  # frames; the model begins with the backbone, which gives the maps
    shapes = {m: (CHANNELS, *grid(setup)) if trained else source.dataset.regions[name].shape[2:] for m, name in arrays.items()}
    return Sizes(
        {m: shape[0] for m, shape in shapes.items()},
        {m: (shape[1], shape[2]) for m, shape in shapes.items() if len(shape) == 3},
        tuple(heads),
        maps_of_a_clip(setup) if trained else setup.segments,
        setup.dropout,
        target_train_clips=target_train_clips,
        shared_features=setup.shared_features,
        normalise=setup.normalise,
    )


def training_classes(domain: Domain, rows: Positions, setup: Setup) -> dict[str, tuple[str, ...]]:
    """{label column: sorted names of the classes} of the clips that train. Raises DataError where one of them has no label."""
    classes = {}
    for column in setup.label_columns:
        labels = domain.text_labels(rows, column)
        if "" in labels:
            raise DataError(
                f"{domain.dataset.path}: '{domain.name}' has {labels.count('')} of {len(labels)} training clips without a "
                f"{column}; clips that train need one: give it with a --manifest, or name the labelled domain with --source"
            )
        classes[column] = tuple(sorted(set(labels)))
    return classes


def tested(target: Domain, rows: Positions, classes: Mapping[str, Collection[str]], setup: Setup) -> Positions:
    """Those of the target's validation rows that are evaluated: all, or with `test_classes = "shared"` the clips whose every
    label is one of `classes`. Raises DataError where none is.

    With "shared" this reads the labels of these clips.
    """
    if setup.test_classes == "all":
        return rows
    known = [[label in names for label in target.text_labels(rows, column)] for column, names in classes.items()]
    shared = rows[np.all(known, axis=0)]
    if not len(shared):
        raise DataError(
            f"{target.dataset.path}: --test-classes shared leaves no test clip of '{target.name}': training lacks a label of "
            "every one; see cia-adapt check, or take --test-classes all"
        )
    return shared


def make_task(
    source: Domain,
    target: Domain,
    modalities: Sequence[str],
    maps: bool,
    setup: Setup,
    stores: Stores,
    supervision: str = "source",
) -> tuple[Task, SealedLabels]:
    """The clips of a pair, and apart from them the labels of the target's validation clips, for the evaluator alone.

    Args:
        modalities: names of the modalities to read.
        maps: whether to read maps where both domains have them.
        stores: the process's readers.
        supervision: whose labels train. With "target" the target's training clips and labels train in place of the source's, and
            the openings of the sealed labels say so.

    The classes are those of the clips that train. Raises DataError where the domains do not make a task.
    """
    arrays = arrays_to_read(source, target, modalities, maps)
    rows = rows_of(source, target, setup)
    teacher, taught = (target, rows.target_train) if supervision == "target" else (source, rows.source_train)
    classes = training_classes(teacher, taught, setup)
    target_val = tested(target, rows.target_val, classes, setup)

    def clips(domain: Domain, rows: Positions) -> Clips:
        return Clips(domain.dataset, rows, arrays, stores, domain.rows)

    sizes = sizes_of(source, arrays, setup, [len(names) for names in classes.values()], len(rows.target_train))
    task = Task(
        source.name,
        target.name,
        classes,
        sizes,
        LabelledClips(clips(teacher, taught), _numbers(teacher, taught, classes)),
        LabelledClips(clips(source, rows.source_val), _numbers(source, rows.source_val, classes)),
        clips(target, rows.target_train),
        clips(target, target_val),
        source.by_source(rows.source_val),
    )
    sealed = SealedLabels(_numbers(target, target_val, classes))
    if setup.test_classes == "shared":
        sealed.openings["leaving out test clips of classes that training lacks"] += 1
    if supervision == "target":
        sealed.openings["TRAINING: the labels of the target's training clips (target-only)"] += 1
    return task, sealed


def _numbers(domain: Domain, rows: Positions, classes: Mapping[str, Sequence[str]]) -> npt.NDArray[np.int64]:
    """Class numbers [N, L] of the rows' labels; −1 for a label that is none of `classes`."""
    columns = []
    for column, names in classes.items():
        number = {label: i for i, label in enumerate(names)}
        columns.append([number.get(label, -1) for label in domain.text_labels(rows, column)])
    return np.array(columns, dtype=np.int64).T.reshape(len(rows), len(classes))
