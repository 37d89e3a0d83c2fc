"""Features of clips, without their labels; the labels beside them; and which frames of a clip are read.

Labels of a training or evaluation set never travel with its features: `Clips` has none, and the target's are locked in a
`SealedLabels`, which counts every opening.
"""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from cia_extract.features import DatasetFeatures
from torch import Tensor

from cia_adapt.data.foreign import ForeignDataset
from cia_adapt.data.readers import Positions, Stores, gather

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
        """The classes [N, L]; counts the opening."""
        self.openings[purpose] += 1
        return self._labels


def subset(labelled: LabelledClips, positions: Positions) -> LabelledClips:
    """Some of the clips, for a hold-out of the source."""
    clips = copy.copy(labelled.clips)
    clips.rows = labelled.clips.rows[positions]
    clips.names = [labelled.clips.names[i] for i in positions]
    return LabelledClips(clips, labelled.labels[positions])


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Copies where they are not there yet."""
    return {m: x.to(device, non_blocking=True) for m, x in batch.items()}
