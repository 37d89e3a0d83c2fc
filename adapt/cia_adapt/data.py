"""From the feature file to batches. What training is given carries no target label; only `SealedLabels` does.

Labels of a training or evaluation set never travel with its features: `Clips` has none, and the target's are locked in a
`SealedLabels`, which counts every opening.
"""

import copy
import hashlib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cia_extract.errors import DataError, UsageError
from cia_extract.features import DatasetFeatures
from torch import Tensor

from cia_adapt.config import Setup
from cia_adapt.foreign import ForeignDataset, open_any
from cia_adapt.parts import Sizes
from cia_adapt.store import Positions, Stores, gather

Dataset = DatasetFeatures | ForeignDataset


class Clips:
    """Features of some clips of one domain, without their labels.

    Args:
        arrays: {modality: its array in the file, "rgb/maps" or "rgb/pooled"}.
    """

    def __init__(self, dataset: Dataset, rows: Positions, arrays: Mapping[str, str], stores: Stores, all_rows: Positions) -> None:
        self.names = [str(name) for name in dataset.columns["clip"][rows]]
        unlabelled = {name: values for name, values in dataset.columns.items() if name in KEPT}
        self.dataset: Any = replace(dataset, columns=unlabelled)
        self.rows, self.modalities, self.frames = rows, tuple(arrays), dataset.frames
        self.readers = {m: stores.reader(dataset, name, all_rows) for m, name in arrays.items()}

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, positions: Positions, frames: Positions) -> dict[str, Tensor]:
        """Clips `positions` [B] (among these rows) at `frames` [B, S] → {modality: maps [B, S, C, H, W] or vectors [B, S, C]}."""
        return joined([(self, positions, frames)])

    def announce(self, positions: Positions, frames: Positions) -> None:
        """That this batch comes next (`Reader.announce`)."""
        for reader in self.readers.values():
            reader.announce(self.rows[positions], frames)

    @property
    def slow(self) -> bool:
        """Whether any is read through h5py."""
        return any(reader.tier == "hdf5" for reader in self.readers.values())


def joined(parts: Sequence[tuple[Clips, Positions, Positions]]) -> dict[str, Tensor]:
    """Batches of several clips' readers, (clips, positions [B], frames [B, S]), one after the other; empty ones are left out."""
    parts = [part for part in parts if len(part[1])]
    return {
        m: gather([(clips.readers[m], clips.rows[positions], frames) for clips, positions, frames in parts])
        for m in parts[0][0].modalities
    }


KEPT = ("clip", "path", "start", "stop", "rate", "group")  # manifest columns that say nothing about classes


@dataclass(frozen=True)
class LabelledClips:
    """Clips with their classes [N, L] int64, one column a label: the source's."""

    clips: Clips
    labels: npt.NDArray[np.int64]


@dataclass
class SealedLabels:
    """The target's classes [N, L], for the evaluator alone; −1 where the source has no such class.

    Openings are counted by purpose and go into the run's stamp.
    """

    _labels: npt.NDArray[np.int64]
    openings: Counter[str] = field(default_factory=Counter)

    def open(self, purpose: str) -> npt.NDArray[np.int64]:
        self.openings[purpose] += 1
        return self._labels


@dataclass(frozen=True)
class Domain:
    """The finished clips of one domain in the file."""

    name: str
    dataset: Dataset
    rows: Positions

    def split(self, name: str) -> Positions:
        """Rows of a split. Raises DataError when it is empty."""
        rows = self.rows[self.dataset.columns["split"][self.rows] == name]
        if not len(rows):
            have = sorted(set(self.dataset.columns["split"][self.rows].tolist()))
            raise DataError(
                f"{self.dataset.path}: '{self.name}' has no finished clip in split '{name}' (it has {', '.join(have)}); "
                "see --val-split, or put clips into it in the manifest"
            )
        return rows

    def text_labels(self, rows: Positions, column: str) -> list[str]:
        """Raises DataError where there is no such column."""
        if column not in self.dataset.columns:
            raise DataError(f"{self.dataset.path}: '{self.name}' has no column '{column}'; see --labels")
        return [str(label) for label in self.dataset.columns[column][rows]]


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
            raise UsageError(f"{flag} {name}: not in the file, which holds {', '.join(domains)}")
    if source is not None and source == target:
        raise UsageError(f"--target {target}: is the source as well; name two domains")
    found = [(s, t) for s in domains for t in domains if s != t and source in (None, s) and target in (None, t)]
    if not found:
        only = ", ".join(domains)
        raise UsageError(f"--features: adaptation needs two domains, the file holds {only}; extract a second --dataset into it")
    return found


def digest(*domains: Domain) -> str:
    """What identifies the features and labels that a run reads."""
    found = set()
    for domain in domains:
        clips = "\0".join(domain.dataset.columns["clip"][domain.rows])  # a manifest may leave some out
        found.add(hashlib.sha256(f"{domain.dataset.digest()}\0{domain.name}\0{clips}".encode()).hexdigest())
    return "+".join(sorted(found))


def arrays_to_read(source: Domain, target: Domain, modalities: Sequence[str], maps: bool) -> dict[str, str]:
    """{modality: "rgb/maps" or "rgb/pooled"}; maps where they are wanted and there are any. Raises DataError."""
    chosen = {}
    for m in modalities:
        for domain in (source, target):
            if m not in domain.dataset.modalities:
                raise DataError(f"{domain.dataset.path}: '{domain.name}' has no {m}; extract it, or drop it here")
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
    if source.dataset.frames != target.dataset.frames:
        raise DataError(
            f"{source.dataset.path}: {source.name} has {source.dataset.frames} frames a clip and {target.name} "
            f"{target.dataset.frames}; extract both with the same --frames"
        )
    train, val = source.split("train"), source.split(setup.val_split)
    target_train, target_val = target.split("train"), target.split(setup.val_split)
    teacher, taught = (target, target_train) if supervision == "target" else (source, train)
    classes = {}
    for column in setup.label_columns:
        classes[column] = tuple(sorted(set(teacher.text_labels(taught, column)) - {""}))
        if "" in teacher.text_labels(taught, column):
            raise DataError(
                f"{teacher.dataset.path}: '{teacher.name}' has training clips without a {column}; those that train need one"
            )

    def clips(domain: Domain, rows: Positions) -> Clips:
        return Clips(domain.dataset, rows, arrays, stores, domain.rows)

    sizes = sizes_of(source, arrays, setup, [len(found) for found in classes.values()], len(target_train))
    task = Task(
        source.name,
        target.name,
        classes,
        sizes,
        LabelledClips(clips(teacher, taught), _numbers(teacher, taught, classes)),
        LabelledClips(clips(source, val), _numbers(source, val, classes)),
        clips(target, target_train),
        clips(target, target_val),
    )
    sealed = SealedLabels(_numbers(target, target_val, classes))
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


def centre_frames(stored: int, segments: int) -> Positions:
    """[S]: TSN's test frames, the centres of equal segments of the stored frames, 0-based.

    >>> centre_frames(25, 5).tolist()
    [2, 7, 12, 17, 22]
    """
    tick = stored / segments
    return np.array([int(tick / 2 + tick * s) for s in range(segments)], dtype=np.int64)


def shifted_frames(stored: int, segments: int, clips: int, random: np.random.Generator) -> Positions:
    """[B, S]: TSN's training frames, one at random in each segment of ⌊T/S⌋; the centres where that is shorter than two."""
    length = stored // segments
    if length < 2:
        return np.tile(centre_frames(stored, segments), (clips, 1))
    return np.arange(segments) * length + random.integers(length, size=(clips, segments))


def subset(labelled: LabelledClips, positions: Positions) -> LabelledClips:
    """Some of the clips, for a hold-out of the source."""
    clips = copy.copy(labelled.clips)
    clips.rows = labelled.clips.rows[positions]
    clips.names = [labelled.clips.names[i] for i in positions]
    return LabelledClips(clips, labelled.labels[positions])


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Copies where they are not there yet."""
    return {m: x.to(device, non_blocking=True) for m, x in batch.items()}
