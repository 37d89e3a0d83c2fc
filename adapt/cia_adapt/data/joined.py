"""The datasets of several sources side by side, as one dataset: its rows are those of the first, then those of the second, …"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from cia_adapt.data.source import ArrayInfo, FeatureArray, FeatureSource, with_columns

CLIP = "clip"  # the one column that is left: labels and splits are read domain by domain


@dataclass(frozen=True)
class JoinedInfo:
    """What is known of arrays [N_1, T, …], [N_2, T, …], … as one [ΣN, T, …]."""

    arrays: tuple[ArrayInfo, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        """[ΣN, T, …]."""
        return sum(array.shape[0] for array in self.arrays), *self.arrays[0].shape[1:]

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type that holds the numbers of all."""
        return np.result_type(*(array.dtype for array in self.arrays))


@dataclass(frozen=True)
class JoinedArray(JoinedInfo):
    """Arrays [N_1, T, …], [N_2, T, …], … as one [ΣN, T, …] that is read clip by clip."""

    arrays: tuple[FeatureArray, ...]

    def __getitem__(self, row: int, /) -> npt.NDArray[Any]:
        """A clip's features [T, …]."""
        for array in self.arrays:
            if row < array.shape[0]:
                return array[row]
            row -= array.shape[0]
        raise IndexError(row)


@dataclass(frozen=True)
class JoinedDataset:
    """A `FeatureSource` over several: what all of them have. They must have equal frames and shapes (`arrays_to_read` checks)."""

    members: tuple[FeatureSource, ...]
    """The datasets, with no other column than the clips' ids. One may stand here twice, where two domains lie in it."""
    name: str
    columns: Mapping[str, npt.NDArray[Any]]

    @classmethod
    def of(cls, name: str, datasets: Sequence[FeatureSource]) -> "JoinedDataset":
        """These datasets in this order."""
        members = tuple(with_columns(dataset, {CLIP: dataset.columns[CLIP]}) for dataset in datasets)
        return cls(members, name, {CLIP: np.concatenate([dataset.columns[CLIP] for dataset in datasets])})

    @property
    def begins(self) -> npt.NDArray[np.int64]:
        """[members + 1]: the first row of each dataset, and the number of rows."""
        return np.cumsum([0, *map(len, self.members)])

    def member_of(self, rows: npt.NDArray[np.int64]) -> npt.NDArray[np.int64]:
        """[B]: which of the datasets each row [B] lies in, 0 for the first."""
        return np.searchsorted(self.begins[1:], rows, side="right")

    @property
    def path(self) -> Path:
        """The feature file."""
        return self.members[0].path

    @property
    def root(self) -> str:
        """The first's; a hint."""
        return self.members[0].root

    @property
    def regions(self) -> Mapping[str, ArrayInfo]:
        """{"rgb/maps": shape and type, …} of the arrays that all have."""
        common = [name for name in self.members[0].regions if all(name in member.regions for member in self.members)]
        return {name: JoinedInfo(tuple(member.regions[name] for member in self.members)) for name in common}

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that all have."""
        return tuple(m for m in self.members[0].modalities if all(m in member.modalities for member in self.members))

    @property
    def frames(self) -> int:
        """T."""
        return self.members[0].frames

    def __len__(self) -> int:
        return sum(map(len, self.members))

    def array(self, name: str) -> JoinedArray:
        """The features "rgb/maps", "rgb/pooled", …"""
        return JoinedArray(tuple(member.array(name) for member in self.members))

    def done(self) -> npt.NDArray[np.bool_]:
        """[ΣN]: whether a clip's features are complete."""
        return np.concatenate([member.done() for member in self.members])

    def digest(self) -> str:
        """Changes when any feature or column does."""
        return "+".join(member.digest() for member in self.members)
