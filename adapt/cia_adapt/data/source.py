"""What a dataset of any feature file gives to stage two: our own layout's (`DatasetFeatures`), or a foreign one's."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt


class ArrayInfo(Protocol):
    """What is known of an array [N, T, …] before it is read."""

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, T, …]."""

    @property
    def dtype(self) -> np.dtype[Any]:
        """As stored: float16 maps, float32 vectors, or what a foreign file has."""


class FeatureArray(ArrayInfo, Protocol):
    """An array [N, T, …] that is read clip by clip: a memory map, or one behind h5py."""

    def __getitem__(self, row: int, /) -> npt.NDArray[Any]:
        """A clip's features [T, …]."""


class FeatureSource(Protocol):
    """One dataset: N clips with their columns and their features at T frames each."""

    @property
    def path(self) -> Path:
        """The feature file."""

    @property
    def name(self) -> str:
        """The dataset's name in it."""

    @property
    def root(self) -> str:
        """Folder that the clips' paths are relative to; a hint."""

    @property
    def columns(self) -> Mapping[str, npt.NDArray[Any]]:
        """{column: its texts [N]}: clip, label, split, …"""

    @property
    def regions(self) -> Mapping[str, ArrayInfo]:
        """{"rgb/maps": shape and type, …}."""

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that have an array, of rgb, flow and audio."""

    @property
    def frames(self) -> int:
        """T."""

    def __len__(self) -> int: ...

    def array(self, name: str) -> FeatureArray:
        """The features "rgb/maps", "rgb/pooled", …"""

    def done(self) -> npt.NDArray[np.bool_]:
        """[N]: whether a clip's features are complete."""

    def digest(self) -> str:
        """Changes when any feature or column does."""


def with_columns(source: FeatureSource, columns: Mapping[str, npt.NDArray[Any]]) -> FeatureSource:
    """The same features under other columns."""
    changed: FeatureSource = replace(source, columns=columns)  # type: ignore[type-var]
    return changed
