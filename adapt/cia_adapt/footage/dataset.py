"""Manifests of clips as datasets whose arrays are frames: stage two reads them as it reads a feature file."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
from cia_extract.common import names
from cia_extract.common.console import Say
from cia_extract.common.errors import UsageError
from cia_extract.datasets import manifest, sources

from cia_adapt.footage.filling import check_filled, fill
from cia_adapt.footage.pictures import Pictures
from cia_adapt.footage.store import DONE, Store

DEMO_CLIPS: Final = 12  # training clips per class and domain, as cia-extract renders them
FRAMES: Final = "frames"
"""Name of a modality's array behind the modality: "rgb/frames"."""


@dataclass(frozen=True)
class Footage:
    """What `--clips` and the flags beside it ask for."""

    clips: tuple[str, ...]
    """[NAME=]MANIFEST, or a dataset that `cia-extract --dataset` knows. Without a name it is the file's, or for manifest.csv the
    folder's.
    """
    root: Path | None = None
    """Folder that the clips' paths are relative to; None: the manifest's, or that of the known dataset."""
    cache: Path = Path("frame-cache")
    weights: tuple[str, ...] = ()
    """As `cia-extract --weights` takes them."""
    flow: Literal["tvl1", "dis"] = "tvl1"
    workers: int = 1
    frames: Literal["decoded", "cached", "black"] = "decoded"
    """Decoded where the cache lacks them; or those of the cache as it is, to which nothing is written; or black ones, for a dry
    run."""


@dataclass(frozen=True)
class FrameArray:
    """Shape [N, T, C, H, W] and type of the frames before they are read."""

    shape: tuple[int, ...]
    dtype: np.dtype[Any] = field(default_factory=lambda: np.dtype(np.uint8))


@dataclass(frozen=True)
class FrameDataset:
    """The clips of one manifest with their cached frames: a `FeatureSource`, each frame in the place of a map [C, H, W]."""

    path: Path
    """Folder of the dataset in the frame cache."""
    name: str
    root: str
    columns: Mapping[str, npt.NDArray[Any]]
    pictures: Pictures
    entry: str
    """The `--clips` of it, "NAME=FILE" with the file's absolute path, or the name of a known dataset."""
    blank: bool = False

    def __len__(self) -> int:
        return len(self.columns["clip"])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Those that are cached, of rgb and flow."""
        return self.pictures.modalities

    @property
    def frames(self) -> int:
        """T."""
        return self.pictures.frames

    @property
    def regions(self) -> Mapping[str, FrameArray]:
        """{"rgb/frames": shape and type, …}."""
        shapes = {m: self.pictures.shape(m) for m in self.modalities}
        return {f"{m}/{FRAMES}": FrameArray((len(self), t, c, h, w)) for m, (t, h, w, c) in shapes.items()}

    def array(self, name: str) -> npt.NDArray[np.uint8]:
        """The frames "rgb/frames" [N, T, C, H, W], a view of the memory map, whose pixels lie channels last."""
        if self.blank:
            return np.broadcast_to(np.zeros((), np.uint8), self.regions[name].shape)
        return np.moveaxis(self.store(name).map(), -1, 2)

    def store(self, name: str) -> Store:
        """The files of an array, "rgb/frames"."""
        return Store(self.path, name.split("/")[0])

    def done(self) -> npt.NDArray[np.bool_]:
        """[N]: whether a clip's frames are complete in all modalities."""
        if self.blank:
            return np.ones(len(self), bool)
        return np.asarray(np.stack([self._states(m) >= DONE for m in self.modalities]).all(0))

    def digest(self) -> str:
        """SHA-256 of the recipe, the columns, and the checksums of all frames."""
        digest = hashlib.sha256()
        for modality in self.modalities:
            digest.update(json.dumps(self.pictures.knobs(modality), sort_keys=True).encode())
            digest.update(b"" if self.blank else self._states(modality).tobytes())
        for name in sorted(self.columns):
            digest.update("\0".join([name, *self.columns[name]]).encode())
        return digest.hexdigest()

    @property
    def origin(self) -> dict[str, str]:
        """What opens it again, `from_origin`, for the stamp of a run."""
        places = {"root": self.root, "frame_cache": str(self.path.parent.resolve()), "flow": self.pictures.flow}
        return {"clips": self.entry} | places

    def _states(self, modality: str) -> npt.NDArray[np.int64]:
        return Store(self.path, modality).states()


def from_origin(origin: Mapping[str, str]) -> Footage:
    """What `FrameDataset.origin` says: the clips of an earlier run."""
    flow: Literal["tvl1", "dis"] = "dis" if origin["flow"] == "dis" else "tvl1"
    return Footage((origin["clips"],), Path(origin["root"]), Path(origin["frame_cache"]), flow=flow)


def opened(footage: Footage, pictures: Pictures, say: Say) -> list[FrameDataset]:
    """The datasets of `--clips`, each with its frames in the cache. Raises UsageError, DataError, MismatchError."""
    datasets: dict[str, FrameDataset] = {}
    for entry in footage.clips:
        name, source = listed(entry, footage)
        for note in filter(None, (*source.notes, source.left_out)):
            say(note)
        if name in datasets:
            raise UsageError(f"--clips {entry}: there are two called {name}; write OTHER-NAME={entry}")
        folder = footage.cache / name
        if footage.frames == "decoded":
            fill(folder, pictures, source.manifest, source.root, footage.workers, say)
        elif footage.frames == "cached":
            check_filled(folder, pictures, source.manifest)
        columns = {column: np.array(values, dtype=object) for column, values in source.manifest.columns.items()}
        file = named(entry)[1]
        again = f"{name}={file.resolve()}" if file.suffix else entry
        datasets[name] = FrameDataset(
            folder, name, str(source.root.resolve()), columns, pictures, again, footage.frames == "black"
        )
    return list(datasets.values())


def listed(entry: str, footage: Footage) -> tuple[str, sources.Source]:
    """(name, clips) of a `[NAME=]MANIFEST`, or of a dataset that `cia-extract --dataset` knows. Raises UsageError, DataError."""
    name, path = named(entry)
    if path.suffix:
        return name, sources.Source(manifest.read(path), footage.root or path.parent)
    render = footage.frames == "decoded"
    return name, sources.find(str(path), None, footage.root, DEMO_CLIPS, 0, footage.workers, render)


def named(entry: str) -> tuple[str, Path]:
    """The dataset's name, and the file or known dataset, of a `[NAME=]FILE`.

    >>> [named(entry)[0] for entry in ("splits/ucf.csv", "clips/manifest.csv", "mine=a.csv", "e55")]
    ['ucf', 'clips', 'mine', 'e55']
    """
    name, separator, file = entry.rpartition("=")
    path = Path(file)
    if not separator:
        name = path.resolve().parent.name if path.name == "manifest.csv" else path.stem
    return names.check(name, "--clips"), path
