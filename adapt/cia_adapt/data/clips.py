"""Features of clips, and their labels apart from them.

Labels never travel with features: `Clips` has none, and the target's are locked in a `SealedLabels`, which counts every opening.
"""

import copy
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cia_adapt.data.readers import Positions, Stores, gather
from cia_adapt.data.source import FeatureSource, with_columns


class Clips:
    """Features of some clips of one domain, without their labels.

    Args:
        dataset: the dataset of the feature file in which the domain lies.
        rows: the clips' rows in it.
        arrays: {modality: its array in the file, "rgb/maps" or "rgb/pooled"}.
        stores: the process's readers.
        all_rows: rows of the whole domain; a reader that copies features into memory copies all of these.
    """

    def __init__(
        self, dataset: FeatureSource, rows: Positions, arrays: Mapping[str, str], stores: Stores, all_rows: Positions
    ) -> None:
        self.names = [str(name) for name in dataset.columns["clip"][rows]]
        unlabelled = {name: values for name, values in dataset.columns.items() if name in COLUMNS_WITHOUT_LABELS}
        self.dataset = with_columns(dataset, unlabelled)
        self.rows, self.modalities, self.frames = rows, tuple(arrays), dataset.frames
        self.readers = {m: stores.reader(dataset, name, all_rows) for m, name in arrays.items()}

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, positions: Positions, frames: Positions) -> dict[str, Tensor]:
        """{modality: maps [B, S, C, H, W] or vectors [B, S, C]} of the clips `positions` [B] (0 … len − 1) at `frames` [B, S]."""
        return joined([(self, positions, frames)])

    def announce(self, positions: Positions, frames: Positions) -> None:
        """Say that `batch` will be asked for these clips next, so that the disk can read ahead (`Reader.announce`)."""
        for reader in self.readers.values():
            reader.announce(self.rows[positions], frames)

    @property
    def bytes(self) -> int:
        """Of one stored frame of a clip, in all modalities."""
        return sum(int(np.prod(x.array.shape[2:])) * x.array.dtype.itemsize for x in self.readers.values())

    @property
    def slow(self) -> bool:
        """Whether a modality is read through h5py, the slowest way."""
        return any(reader.tier == "hdf5" for reader in self.readers.values())


def joined(parts: Sequence[tuple[Clips, Positions, Positions]]) -> dict[str, Tensor]:
    """One batch of clips from several `Clips`, in order: {modality: maps [ΣB, S, C, H, W] or vectors [ΣB, S, C]}.

    A part is (clips, positions [B], frames [B, S]); parts without clips are left out.
    """
    parts = [part for part in parts if len(part[1])]
    return {
        m: gather([(clips.readers[m], clips.rows[positions], frames) for clips, positions, frames in parts])
        for m in parts[0][0].modalities
    }


COLUMNS_WITHOUT_LABELS = ("clip", "path", "start", "stop", "rate", "group")  # manifest columns that do not tell a clip's class


@dataclass(frozen=True)
class LabelledClips:
    """Clips with their classes [N, L] int64, one column for each label. Only the source's clips have them."""

    clips: Clips
    labels: npt.NDArray[np.int64]


@dataclass
class SealedLabels:
    """The target's classes [N, L] int64, for the evaluator alone; −1 where the source has no such class.

    `openings` counts by purpose how often they were opened; it goes into the run's stamp.
    """

    _labels: npt.NDArray[np.int64]
    openings: Counter[str] = field(default_factory=Counter)

    def open(self, purpose: str) -> npt.NDArray[np.int64]:
        """The classes [N, L]; counts one opening for `purpose`."""
        self.openings[purpose] += 1
        return self._labels


def subset(labelled: LabelledClips, positions: Positions) -> LabelledClips:
    """The labelled clips at these positions; G-Blend holds out a part of the source so."""
    clips = copy.copy(labelled.clips)
    clips.rows = labelled.clips.rows[positions]
    clips.names = [labelled.clips.names[i] for i in positions]
    return LabelledClips(clips, labelled.labels[positions])


def to_device(batch: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """A batch {modality: features} on the device; what lies there already is not copied."""
    return {m: x.to(device, non_blocking=True) for m, x in batch.items()}
