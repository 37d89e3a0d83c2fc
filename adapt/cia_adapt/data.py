"""From the feature file to a task: file → domains → the clips of a pair. What training is given carries no target label."""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from cia_extract.errors import DataError, UsageError
from cia_extract.suggest import did_you_mean

from cia_adapt import splits
from cia_adapt.clips import Clips as Clips
from cia_adapt.clips import Dataset as Dataset
from cia_adapt.clips import LabelledClips as LabelledClips
from cia_adapt.clips import SealedLabels as SealedLabels
from cia_adapt.clips import centre_frames as centre_frames
from cia_adapt.clips import joined as joined
from cia_adapt.clips import shifted_frames as shifted_frames
from cia_adapt.clips import subset as subset
from cia_adapt.clips import to_device as to_device
from cia_adapt.config import Setup
from cia_adapt.foreign import open_any
from cia_adapt.parts import Sizes
from cia_adapt.store import Positions, Stores


@dataclass(frozen=True)
class Domain:
    """The finished clips of one domain in the file."""

    name: str
    dataset: Dataset
    rows: Positions

    @property
    def split_names(self) -> npt.NDArray[np.str_]:
        """[rows]: the split of each clip, empty where the file says none."""
        column = self.dataset.columns.get("split")
        return np.full(len(self.rows), "") if column is None else np.asarray(column[self.rows]).astype(str)

    def split(self, name: str, flag: str = "--val-split") -> Positions:
        """Rows of a split; `splits.ALL` is every clip. Raises DataError quoting `flag` when it is empty."""
        names = self.split_names
        have = sorted(set(names.tolist()) - {""})
        where = f"{self.dataset.path}: '{self.name}'"
        if name == splits.ALL:
            if splits.ALL in have and len(have) > 1:
                raise DataError(f"{where} has a split called 'all', which {flag} all does not mean; rename it with a --manifest")
            names = np.full(len(self.rows), name)
        rows = self.rows[names == name]
        if not len(rows):
            if not len(self.rows):
                raise DataError(f"{where} has no finished clip; extract it first")
            known = f"it has {', '.join(have)}{did_you_mean(name, have)}" if have else "no clip has a split"
            other = "one of these, or all for every clip" if have else "all for every clip"
            raise DataError(
                f"{where} has no finished clip in split '{name}' ({known}); give {flag} {other}, or put clips into it with a "
                "--manifest"
            )
        return rows

    def text_labels(self, rows: Positions, column: str) -> list[str]:
        """Raises DataError where there is no such column."""
        if column not in self.dataset.columns:
            raise DataError(
                f"{self.dataset.path}: '{self.name}' has no column '{column}'; see --labels"
                f"{did_you_mean(column, self.dataset.columns)}"
            )
        return [str(label) for label in self.dataset.columns[column][rows]]

    def classes(self, rows: Positions, column: str) -> frozenset[str]:
        """Names of the classes of these clips. Raises DataError where there is no such column."""
        return frozenset(self.text_labels(rows, column)) - {""}


@dataclass(frozen=True)
class Task:
    """What training may read of one source → target pair. No label of the target is in it."""

    source: str
    target: str
    classes: Mapping[str, tuple[str, ...]]
    """{label column: its classes}."""
    sizes: Sizes
    source_train: LabelledClips
    source_val: LabelledClips
    target_train: Clips
    target_val: Clips

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(self.sizes.channels)

    @property
    def label(self) -> str:
        """The first label column: what pseudo-classes and class balance go by."""
        return next(iter(self.classes))

    @property
    def tested_and_adapted_to(self) -> int:
        """How many of the target's test clips are training clips too (without their labels)."""
        return len(np.intersect1d(self.target_train.rows, self.target_val.rows))


@dataclass(frozen=True)
class Rows:
    """The rows of a pair by what they are for, [clips] each."""

    source_train: Positions
    source_val: Positions
    target_train: Positions
    target_val: Positions


def rows_of(source: Domain, target: Domain, setup: Setup) -> Rows:
    """The clips that train and those that are evaluated. Raises DataError for an empty split."""
    train, val = setup.train_split, setup.val_split
    return Rows(
        source.split(splits.of_role(train, "source"), "--train-split"),
        source.split(splits.of_role(val, "source"), "--val-split"),
        target.split(splits.of_role(train, "target"), "--train-split"),
        target.split(splits.of_role(val, "target"), "--val-split"),
    )


def find_domains(path: Path, mapping: Sequence[str] = ()) -> dict[str, Domain]:
    """The domains of a feature file by name: a dataset's `domain` column where it has one, else the dataset itself.

    `mapping` names the arrays of a foreign file (`foreign.parse`).
    """
    domains: dict[str, Domain] = {}
    for dataset in open_any(path, mapping).values():
        finished = np.flatnonzero(dataset.done())
        column = dataset.columns.get("domain")
        values = column if column is not None else np.full(len(dataset), dataset.name)
        for value in sorted(set(values.tolist())):
            name = str(value) if value not in domains else f"{dataset.name}.{value}"
            domains[name] = Domain(name, dataset, finished[values[finished] == value])
    return domains


def pairs(domains: Mapping[str, Domain], source: str | None, target: str | None) -> list[tuple[str, str]]:
    """The (source, target) pairs to run: the one asked for, or all directions. Raises UsageError."""
    for flag, name in (("--source", source), ("--target", target)):
        if name is not None and name not in domains:
            raise UsageError(f"{flag} {name}: not in the file, which holds {', '.join(domains)}{did_you_mean(name, domains)}")
    if source is not None and source == target:
        raise UsageError(f"--target {target}: is the source as well; name two domains")
    directions = [(s, t) for s in domains for t in domains if s != t and source in (None, s) and target in (None, t)]
    if not directions:
        only = ", ".join(domains)
        raise UsageError(f"--features: adaptation needs two domains, the file holds {only}; extract a second --dataset into it")
    return directions


def digest(*domains: Domain) -> str:
    """What identifies the features and labels that a run reads."""
    found = set()
    for domain in domains:
        clips = "\0".join(domain.dataset.columns["clip"][domain.rows])  # a manifest may leave some out
        found.add(hashlib.sha256(f"{domain.dataset.digest()}\0{domain.name}\0{clips}".encode()).hexdigest())
    return "+".join(sorted(found))


def arrays_to_read(source: Domain, target: Domain, modalities: Sequence[str], maps: bool) -> dict[str, str]:
    """{modality: "rgb/maps" or "rgb/pooled"}; maps where they are wanted and there are any. Raises DataError."""
    if source.dataset.frames != target.dataset.frames:
        raise DataError(
            f"{source.dataset.path}: {source.name} has {source.dataset.frames} frames a clip and {target.name} "
            f"{target.dataset.frames}; extract both with the same --frames"
        )
    chosen = {}
    for m in modalities:
        for domain in (source, target):
            have = domain.dataset.modalities
            if m not in have:
                raise DataError(
                    f"{domain.dataset.path}: '{domain.name}' has no {m}; extract it, or name one of {', '.join(have)} with "
                    f"--modality{did_you_mean(m, have)}"
                )
        both = [kind for kind in ("maps", "pooled") if all(f"{m}/{kind}" in d.dataset.regions for d in (source, target))]
        wanted = [kind for kind in both if maps or kind == "pooled"] or both
        if not wanted:
            raise DataError(f"{source.dataset.path}: '{source.name}' and '{target.name}' have no array of {m} in common")
        chosen[m] = f"{m}/{wanted[0]}"
        shapes = [d.dataset.regions[chosen[m]].shape[2:] for d in (source, target)]
        if shapes[0] != shapes[1]:
            raise DataError(
                f"{source.dataset.path}: {chosen[m]} is {shapes[0]} in '{source.name}' and {shapes[1]} in '{target.name}'"
            )
    return chosen


def sizes_of(source: Domain, arrays: Mapping[str, str], setup: Setup, heads: Sequence[int], target_train_clips: int) -> Sizes:
    """What the parts of a model need to know about these arrays."""
    shapes = {m: source.dataset.regions[name].shape[2:] for m, name in arrays.items()}
    return Sizes(
        {m: shape[0] for m, shape in shapes.items()},
        {m: (shape[1], shape[2]) for m, shape in shapes.items() if len(shape) == 3},
        tuple(heads),
        setup.segments,
        setup.dropout,
        target_train_clips=target_train_clips,
        shared_features=setup.shared_features,
        normalise=setup.normalise,
    )


def training_classes(domain: Domain, rows: Positions, setup: Setup) -> dict[str, tuple[str, ...]]:
    """{label column: the classes of the clips that train}. Raises DataError where one of them has no label."""
    classes = {}
    for column in setup.label_columns:
        labels = domain.text_labels(rows, column)
        if "" in labels:
            raise DataError(
                f"{domain.dataset.path}: '{domain.name}' has {labels.count('')} of {len(labels)} training clips without a "
                f"{column}; clips that train need one (a --manifest can give it; --source names the labelled domain)"
            )
        classes[column] = tuple(sorted(set(labels)))
    return classes


def make_task(
    source: Domain,
    target: Domain,
    modalities: Sequence[str],
    maps: bool,
    setup: Setup,
    stores: Stores,
    supervision: str = "source",
) -> tuple[Task, SealedLabels]:
    """Collect the clips of a pair, and apart from them the target's validation labels, for the evaluator.

    The classes are those of the clips that train. With `supervision` "target" these are the target's training clips with their
    labels, and the openings of the result say so. Raises DataError.
    """
    arrays = arrays_to_read(source, target, modalities, maps)
    rows = rows_of(source, target, setup)
    teacher, taught = (target, rows.target_train) if supervision == "target" else (source, rows.source_train)
    classes = training_classes(teacher, taught, setup)

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
        clips(target, rows.target_val),
    )
    sealed = SealedLabels(_numbers(target, rows.target_val, classes))
    if supervision == "target":
        sealed.openings["TRAINING: the labels of the target's training clips (target-only)"] += 1
    return task, sealed


def _numbers(domain: Domain, rows: Positions, classes: Mapping[str, Sequence[str]]) -> npt.NDArray[np.int64]:
    """[N, L]: each label's place among its classes, −1 where it is none of them."""
    columns = []
    for column, known in classes.items():
        number = {label: i for i, label in enumerate(known)}
        columns.append([number.get(label, -1) for label in domain.text_labels(rows, column)])
    return np.array(columns, dtype=np.int64).T.reshape(len(rows), len(classes))
