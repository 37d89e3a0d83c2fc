"""From the feature file to batches. What training is given carries no target label; only `SealedLabels` does.

Labels of a training or evaluation set never travel with its features: `Clips` has none, and the target's are locked in a
`SealedLabels`, which counts every opening.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cia_extract.errors import DataError, UsageError
from cia_extract.features import DatasetFeatures, open_features
from torch import Tensor

Rows = npt.NDArray[np.int64]


class Clips:
    """Features of some clips of one domain, without their labels. Reads from a memory map on request.

    `maps` chooses what `batch` gives: maps [B, S, C, H, W], or pooled vectors [B, S, C] (2 % of the bytes).
    """

    def __init__(self, dataset: DatasetFeatures, rows: Rows, modalities: Sequence[str], maps: bool) -> None:
        unlabelled = {name: values for name, values in dataset.columns.items() if name != "label"}
        self.dataset = replace(dataset, columns=unlabelled)
        self.rows, self.modalities = rows, tuple(modalities)
        self.frames = dataset.frames
        self._arrays = {m: dataset.array(f"{m}/{'maps' if maps else 'pooled'}") for m in modalities}

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def names(self) -> list[str]:
        return [str(name) for name in self.dataset.columns["clip"][self.rows]]

    def batch(self, positions: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]) -> dict[str, Tensor]:
        """Clips `positions` [B] (among these rows) at `frames` [B, S] → {modality: tensor}, maps in float16 as stored."""
        return {m: gather(array, self.rows[positions], frames) for m, array in self._arrays.items()}


def gather(array: npt.NDArray[Any], rows: npt.NDArray[np.int64], frames: npt.NDArray[np.int64]) -> Tensor:
    """Copy [B, S, …] out of a mapped [N, T, …] array, one block a frame, straight into the tensor; dtype is kept."""
    out = np.empty((*frames.shape, *array.shape[2:]), array.dtype)
    for i, row in enumerate(rows):
        for s, frame in enumerate(frames[i]):
            out[i, s] = array[row, frame]
    return torch.from_numpy(out)


@dataclass(frozen=True)
class LabelledClips:
    """Clips with their classes [N] int64: the source's."""

    clips: Clips
    labels: npt.NDArray[np.int64]


@dataclass
class SealedLabels:
    """The target's classes, for the evaluator alone; −1 where the source has no such class.

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
    dataset: DatasetFeatures
    rows: Rows

    def split(self, name: str) -> Rows:
        """Rows of a split. Raises DataError when it is empty."""
        rows = self.rows[self.dataset.columns["split"][self.rows] == name]
        if not len(rows):
            have = sorted(set(self.dataset.columns["split"][self.rows].tolist()))
            raise DataError(
                f"{self.dataset.path}: '{self.name}' has no finished clip in split '{name}' (it has {', '.join(have)})"
            )
        return rows

    def text_labels(self, rows: Rows) -> list[str]:
        return [str(label) for label in self.dataset.columns["label"][rows]]


@dataclass(frozen=True)
class Task:
    """What training may read of one source → target pair. No label of the target is in it."""

    source: str
    target: str
    classes: tuple[str, ...]
    modalities: tuple[str, ...]
    channels: int
    source_train: LabelledClips
    source_val: LabelledClips
    target_train: Clips
    target_val: Clips


def find_domains(path: Path) -> dict[str, Domain]:
    """The domains of a feature file by name: a dataset's `domain` column where it has one, else the dataset itself."""
    domains: dict[str, Domain] = {}
    for dataset in open_features(path).values():
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
    return "+".join(sorted({domain.dataset.digest() for domain in domains}))


def make_task(source: Domain, target: Domain, modalities: Sequence[str], maps: bool) -> tuple[Task, SealedLabels]:
    """Collect the clips of a pair, and apart from them the target's validation labels, for the evaluator.

    The classes are those of the source's training clips. Raises DataError.
    """
    for domain in (source, target):
        lacking = [m for m in modalities if m not in domain.dataset.modalities]
        if lacking:
            raise DataError(f"{domain.dataset.path}: '{domain.name}' has no {', '.join(lacking)}; extract it, or drop it here")
    if source.dataset.frames != target.dataset.frames:
        raise DataError(
            f"{source.dataset.path}: {source.name} has {source.dataset.frames} frames a clip and {target.name} "
            f"{target.dataset.frames}; extract both with the same --frames"
        )
    source_train, source_val = source.split("train"), source.split("val")
    target_train, target_val = target.split("train"), target.split("val")
    classes = tuple(sorted(set(source.text_labels(source_train))))
    if "" in classes:
        raise DataError(f"{source.dataset.path}: '{source.name}' has training clips without a label; a source needs them all")

    def clips(domain: Domain, rows: Rows) -> Clips:
        return Clips(domain.dataset, rows, modalities, maps)

    task = Task(
        source.name,
        target.name,
        classes,
        tuple(modalities),
        source.dataset.regions[f"{modalities[0]}/pooled"].shape[2],
        LabelledClips(clips(source, source_train), _numbers(source, source_train, classes)),
        LabelledClips(clips(source, source_val), _known(source, source_val, classes)),
        clips(target, target_train),
        clips(target, target_val),
    )
    return task, SealedLabels(_numbers(target, target_val, classes))


def _numbers(domain: Domain, rows: Rows, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    number = {label: i for i, label in enumerate(classes)}
    return np.array([number.get(label, -1) for label in domain.text_labels(rows)], dtype=np.int64)


def _known(domain: Domain, rows: Rows, classes: Sequence[str]) -> npt.NDArray[np.int64]:
    """`_numbers` of a source, where a class that was not trained is a mistake in the manifest."""
    numbers = _numbers(domain, rows, classes)
    if (numbers < 0).any():
        label = domain.text_labels(rows[numbers < 0])[0]
        raise DataError(f"{domain.dataset.path}: '{domain.name}' has label '{label}' in val, which its training clips lack")
    return numbers


def centre_frames(stored: int, segments: int) -> npt.NDArray[np.int64]:
    """[S]: TSN's test frames, the centres of equal segments of the stored frames, 0-based.

    >>> centre_frames(25, 5).tolist()
    [2, 7, 12, 17, 22]
    """
    tick = stored / segments
    return np.array([int(tick / 2 + tick * s) for s in range(segments)], dtype=np.int64)


def shifted_frames(stored: int, segments: int, clips: int, random: np.random.Generator) -> npt.NDArray[np.int64]:
    """[B, S]: TSN's training frames, one at random in each segment of ⌊T/S⌋; the centres where that is shorter than two."""
    length = stored // segments
    if length < 2:
        return np.tile(centre_frames(stored, segments), (clips, 1))
    return np.arange(segments) * length + random.integers(length, size=(clips, segments))
