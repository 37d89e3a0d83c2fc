"""HDF5 files that `cia-extract` did not write: chunked, other names, vectors only. Read through h5py, the same interface, slower.

A file in our own layout that was repacked (chunked, compressed) is found by itself. Other names are given one by one, as
`--map DOMAIN/NAME=PATH`: NAME is clip, label, split, any other column, or an array such as rgb/pooled ([N, T, C] or [N, C]) or
rgb/maps ([N, T, C, H, W]); PATH is the dataset inside the file. `clip` may be left out (rows are numbered).
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from cia_extract.errors import DataError, UsageError
from cia_extract.features import DONE, DatasetFeatures, open_features
from cia_extract.journal import journal_path

MODALITIES = ("rgb", "flow", "audio")
DIGESTED = 8e6  # bytes of each array that tell whether features have changed; read for every run


@dataclass(frozen=True)
class ArrayInfo:
    """Shape [N, T, …] and type of an array; `path` inside the file. Vectors [N, C] count as one frame."""

    path: str
    shape: tuple[int, ...]
    dtype: np.dtype[Any]


@dataclass(frozen=True)
class SlowArray:
    """Indexed like a memory map, one clip at a time; opens the file for each reading, so that it survives a fork."""

    file: Path
    info: ArrayInfo

    @property
    def shape(self) -> tuple[int, ...]:
        return self.info.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        return self.info.dtype

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        """[T, …]."""
        with h5py.File(self.file, "r", locking=False) as file:
            clip = np.asarray(file[self.info.path][int(row)], self.info.dtype)
        return clip.reshape(self.info.shape[1:])


@dataclass(frozen=True)
class ForeignDataset:
    """One domain of a foreign file: what `DatasetFeatures` is for our own."""

    path: Path
    name: str
    columns: Mapping[str, npt.NDArray[Any]]
    regions: Mapping[str, ArrayInfo]
    finished: npt.NDArray[np.bool_]
    """[N]: what the `status` of a repacked file of ours says; else all."""
    root: str = ""

    def __len__(self) -> int:
        return len(self.columns["clip"])

    @property
    def modalities(self) -> tuple[str, ...]:
        return tuple(dict.fromkeys(name.split("/")[0] for name in self.regions))

    @property
    def frames(self) -> int:
        return next(iter(self.regions.values())).shape[1]

    def array(self, name: str) -> SlowArray:
        return SlowArray(self.path, self.regions[name])

    def done(self) -> npt.NDArray[np.bool_]:
        """Rows that can be used."""
        return self.finished

    def digest(self) -> str:
        """SHA-256 of columns, names and shapes, and of 4 to 64 rows of each array: all may be too many to read."""
        digest = hashlib.sha256()
        for name, region in sorted(self.regions.items()):
            digest.update(f"{name} {region.shape} {region.dtype}".encode())
            array = self.array(name)
            rows = np.clip(DIGESTED // (array[0].nbytes + 1), 4, 64)
            for row in np.unique(np.linspace(0, len(self) - 1, int(rows), dtype=int)):
                digest.update(np.ascontiguousarray(array[int(row)]).tobytes())
        for name in sorted(self.columns):
            digest.update("\0".join([name, *self.columns[name]]).encode())
        return digest.hexdigest()


def open_any(path: Path, mapping: Sequence[str] = ()) -> Mapping[str, DatasetFeatures | ForeignDataset]:
    """The datasets of a file by name, ours or a foreign one's. Raises DataError, UsageError for a mapping that does not fit."""
    if mapping:
        return open_mapped(path, parse(mapping))
    if not path.is_file() or journal_path(path).exists() or path.stat().st_size == 0:
        return open_features(path)  # which says what is wrong
    try:
        with h5py.File(path, "r", locking=False) as file:
            found = {name: _guessed(name, group) for name, group in file.items() if isinstance(group, h5py.Group)}
            own = "schema" in file.attrs and not any(_chunked(group) for group in file.values() if isinstance(group, h5py.Group))
    except OSError as error:
        raise DataError(f"{path}: not an HDF5 file ({error})") from error
    if own or not any(found.values()):
        if not own:
            raise DataError(
                f"{path}: not a feature file of cia-extract; name its arrays: --map DOMAIN/label=… --map DOMAIN/split=… "
                "--map DOMAIN/rgb/pooled=… (cia-adapt --help)"
            )
        return open_features(path)
    return open_mapped(path, {name: arrays for name, arrays in found.items() if arrays})


def parse(entries: Sequence[str]) -> dict[str, dict[str, str]]:
    """`--map` entries → {domain: {name: path}}. Raises UsageError."""
    domains: dict[str, dict[str, str]] = {}
    for entry in entries:
        left, separator, path = entry.partition("=")
        domain, slash, name = left.partition("/")
        if not (separator and slash and domain and name and path):
            raise UsageError(f"--map {entry}: write DOMAIN/NAME=PATH, for example ucf/rgb/pooled=features/ucf_rgb")
        if "/" in name and (name.split("/")[0] not in MODALITIES or name.split("/")[1] not in {"maps", "pooled"}):
            raise UsageError(f"--map {entry}: arrays are called rgb, flow or audio, then /maps or /pooled")
        domains.setdefault(domain, {})[name] = path
    return domains


def open_mapped(path: Path, domains: Mapping[str, Mapping[str, str]]) -> dict[str, ForeignDataset]:
    """Open the arrays named. Raises DataError with what does not fit."""
    if not path.is_file():
        raise DataError(f"{path}: no such file")
    try:
        with h5py.File(path, "r", locking=False) as file:
            return {name: _dataset(path, file, name, names) for name, names in domains.items()}
    except OSError as error:
        raise DataError(f"{path}: not an HDF5 file ({error})") from error


def _dataset(path: Path, file: h5py.File, domain: str, names: Mapping[str, str]) -> ForeignDataset:
    columns, regions = {}, {}
    for name, place in names.items():
        if not isinstance(file.get(place), h5py.Dataset):
            raise DataError(f"{path}: has no dataset {place} (for {domain}/{name})")
        data = file[place]
        if "/" not in name:
            if data.ndim != 1:
                raise DataError(f"{path}: {place} is {data.shape}; a column such as {domain}/{name} has one value a clip")
            columns[name] = _text(data)
            continue
        shape = (data.shape[0], 1, data.shape[1]) if data.ndim == 2 else data.shape
        if len(shape) != (5 if name.endswith("maps") else 3) or data.dtype.kind != "f":
            kind = "maps [N, T, C, H, W]" if name.endswith("maps") else "vectors [N, T, C] or [N, C]"
            raise DataError(f"{path}: {place} is {data.dtype} {data.shape}; {domain}/{name} wants {kind} of floats")
        regions[name] = ArrayInfo(place, shape, data.dtype.newbyteorder("="))  # torch knows this machine's order of bytes only
    if not regions or "label" not in columns:
        raise DataError(
            f"{path}: '{domain}' needs label, split and at least one array such as rgb/pooled; name them with --map (split may "
            "be left out with --train-split all --val-split all)"
        )
    count = next(iter(regions.values())).shape[0]
    columns.setdefault("clip", np.array([f"{domain}{i}" for i in range(count)]))
    lengths = {name: len(column) for name, column in columns.items()} | {name: info.shape[0] for name, info in regions.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: '{domain}' has rows of different number: {', '.join(f'{k} {v}' for k, v in lengths.items())}")
    if len({info.shape[1] for info in regions.values()}) > 1:
        raise DataError(f"{path}: '{domain}' has different numbers of frames in its arrays")
    status = file.get(f"{domain}/status")
    finished = (status[:] == DONE).all(1) if isinstance(status, h5py.Dataset) else np.ones(count, dtype=bool)
    return ForeignDataset(path, domain, columns, regions, finished)


def _text(data: h5py.Dataset) -> npt.NDArray[np.str_]:
    values = data.asstr()[:] if data.dtype.kind in "SO" else data[:]
    return np.asarray(values).astype(str)


def _guessed(name: str, group: h5py.Group) -> dict[str, str]:
    """Our own names inside a group, where it has them."""
    if not isinstance(group.get("clips"), h5py.Group):
        return {}
    found = {c: f"{name}/clips/{c}" for c, d in group["clips"].items() if isinstance(d, h5py.Dataset) and d.dtype.kind in "SO"}
    for modality in MODALITIES:
        for kind in ("maps", "pooled"):
            if isinstance(group.get(f"{modality}/{kind}"), h5py.Dataset):
                found[f"{modality}/{kind}"] = f"{name}/{modality}/{kind}"
    return found


def _chunked(group: h5py.Group) -> bool:
    chunked = False

    def look(key: str, item: object) -> None:
        nonlocal chunked
        chunked = chunked or (isinstance(item, h5py.Dataset) and item.chunks is not None)

    group.visititems(look)
    return chunked
