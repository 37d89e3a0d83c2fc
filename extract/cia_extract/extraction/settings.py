"""What one extraction is asked to do, which rows that means, and what became of them."""

import zlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import torch

from cia_extract import features, recipes
from cia_extract.clips import ClipJob, job_of
from cia_extract.datasets import Manifest
from cia_extract.features import DatasetFeatures
from cia_extract.recipes import Recipe


@dataclass(frozen=True, kw_only=True)
class Settings:
    """One dataset, one file, one recipe."""

    dataset: str
    """Name of the group in the feature file."""
    manifest: Manifest
    root: Path
    """Folder that the manifest's paths are relative to."""
    out: Path
    """The feature file."""
    modalities: tuple[str, ...] = ("rgb", "flow")
    recipe: Recipe = field(default_factory=lambda: recipes.load(recipes.BASE))
    weights: tuple[str, ...] = ()
    device: torch.device = field(default_factory=lambda: torch.device("cpu"))
    engine: str = "auto"
    precision: str = "fp32"
    batch: int | None = None
    deterministic: bool = False
    """One window at a time, eager: a clip's bytes depend on nothing but the clip."""
    workers: int = 2
    """Processes that decode and compute flow."""
    timeout: float = 600.0
    """Seconds without progress after which a clip is given up."""
    shard: tuple[int, int] | None = None
    """(i, n): the i-th of n parts of the rows, from 1."""
    flow_by: str = "auto"
    """What computes TV-L1: auto, opencv or torch; once an extraction has begun, what `flow.choose` made of it."""
    flow_cache: Path | None = None
    overwrite: bool = False
    retry_failed: bool = False

    @property
    def states_to_do(self) -> tuple[int, ...]:
        """Of a row's modality: those that this extraction takes up."""
        return (features.TO_DO, features.FAILED) if self.retry_failed else (features.TO_DO,)

    def part(self, dataset: DatasetFeatures) -> list[int]:
        """The rows of the shard, all of them without one."""
        if self.shard is None:
            return list(range(len(dataset)))
        i, n = self.shard
        return [row for row, clip in enumerate(dataset.columns["clip"].tolist()) if shard_of(clip, n) == i]

    def job(self, row: int, modalities: tuple[str, ...], flow_by: str = "opencv") -> ClipJob:
        """What a worker needs to know of a row; `flow_by` as `flow.choose` has it."""
        one = job_of(self.manifest, row, self.root, self.recipe, modalities)
        return replace(one, flow_by=flow_by, flow_cache=self.flow_cache)


@dataclass
class Summary:
    """What became of the clips; `seconds` by stage (decode and flow are summed over workers)."""

    clips: int
    done: int = 0
    failed: dict[str, str] = field(default_factory=dict)
    """Clip id → why."""
    outcomes: dict[str, dict[str, int]] = field(default_factory=dict)
    """By modality, the ledger's outcomes and their counts."""
    damaged: dict[str, str] = field(default_factory=dict)
    """Clip id → message, of clips that were used although the decoder concealed errors in them."""
    extracted_now: int = 0
    elsewhere: int = 0
    """Rows that other processes are at work on."""
    windows: int = 0
    seconds: dict[str, float] = field(
        default_factory=lambda: dict.fromkeys(("decode", "flow", "network", "waiting", "wall"), 0.0)
    )


def rows_to_do(dataset: DatasetFeatures, settings: Settings) -> dict[int, tuple[str, ...]]:
    """Rows of the shard with the modalities that they lack; what is done is never written again."""
    lacking = np.isin(dataset.array("status"), settings.states_to_do)
    return {
        row: tuple(m for m, lacks in zip(dataset.modalities, lacking[row], strict=True) if lacks)
        for row in settings.part(dataset)
        if lacking[row].any()
    }


def shard_of(clip: str, n: int) -> int:
    """Which of n parts (from 1) a clip belongs to: by its id alone, so that clips that come or go move no other.

    >>> [shard_of(f"v_{i}", 3) for i in range(6)]
    [2, 3, 1, 2, 2, 1]
    """
    return zlib.crc32(clip.encode()) % n + 1
