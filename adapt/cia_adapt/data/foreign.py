"""HDF5 files that `cia-extract` did not write: chunked, other names, vectors only. Read through h5py, the same interface, slower.

A file in our own layout that was repacked (chunked, compressed) is found by itself. Other names are given one by one, as
`--map DOMAIN/NAME=PATH`: NAME is clip, label, split, any other column, or an array such as rgb/pooled ([N, T, C] or [N, C]) or
rgb/maps ([N, T, C, H, W]); PATH is the dataset inside the file. `clip` may be left out (rows are numbered). One entry serves all
domains where the word {domain} stands for the name of each top-level group: `--map '{domain}/rgb/pooled={domain}/x'`.
"""

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.modalities import MODALITIES
from cia_extract.features import DONE, DatasetFeatures, journal_path, open_features, opened, readable

from cia_adapt.data.columns import column

EACH = "{domain}"  # in a mapping: every top-level group
MAX_ROW = 1 << 30  # bytes of a clip in one array; 25 frames of maps take 5 MB
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
        with opened(self.file) as file:
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
    readable(path, f"make it with cia-extract --out {path}")
    if journal_path(path).exists() or path.stat().st_size == 0:
        return open_features(path)  # which says what is wrong
    with opened(path) as file:
        groups = {name: group for name in file if isinstance(group := file.get(name), h5py.Group)}
        guessed = {name: _guessed(name, group) for name, group in groups.items()}
        own = "schema" in file.attrs and not any(map(_chunked, groups.values()))
    if own:
        return open_features(path)
    if not any(guessed.values()):
        raise DataError(
            f"{path}: not a feature file of cia-extract; name its arrays: --map DOMAIN/label=… --map DOMAIN/split=… "
            "--map DOMAIN/rgb/pooled=… (cia-adapt --help)"
        )
    return open_mapped(path, {name: arrays for name, arrays in guessed.items() if arrays})


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
    readable(path, "give the path of an HDF5 file")
    with opened(path) as file:
        return {name: _dataset(path, file, name, names) for name, names in _expanded(path, file, domains).items()}


def _expanded(path: Path, file: h5py.File, domains: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """`domains` with what is said of `{domain}` written out for every top-level group that has any of it."""
    written = {name: dict(names) for name, names in domains.items() if name != EACH}
    pattern = domains.get(EACH, {})
    groups = [name for name in file if any(place.replace(EACH, name) in file for place in pattern.values())]
    if pattern and not groups:
        raise DataError(f"{path}: no top-level group has {', '.join(pattern.values())}; it has {', '.join(file) or 'none'}")
    for group in groups:
        written[group] = {name: place.replace(EACH, group) for name, place in pattern.items()} | written.get(group, {})
    return written


def _dataset(path: Path, file: h5py.File, domain: str, names: Mapping[str, str]) -> ForeignDataset:
    columns, regions = {}, {}
    for name, place in names.items():
        data = file.get(place)
        if not isinstance(data, h5py.Dataset):
            raise DataError(f"{path}: has no dataset {place} (for {domain}/{name})")
        _check_storage(f"{path}: {place}", file, data)
        if "/" not in name:
            columns[name] = column(f"{path}: {place}", data)
        else:
            regions[name] = _array(f"{path}: {place}", f"{domain}/{name}", data)
    if not regions or "label" not in columns:
        raise DataError(
            f"{path}: '{domain}' needs label, split and at least one array such as rgb/pooled; name them with --map (split may "
            "be left out with --train-split all --val-split all)"
        )
    count = next(iter(regions.values())).shape[0]
    lengths = {name: len(values) for name, values in columns.items()}
    lengths = lengths | {"clip": lengths.get("clip", count)} | {name: info.shape[0] for name, info in regions.items()}
    if len(set(lengths.values())) > 1:
        raise DataError(f"{path}: '{domain}' has rows of different number: {', '.join(f'{k} {v}' for k, v in lengths.items())}")
    if len({info.shape[1] for info in regions.values()}) > 1:
        raise DataError(f"{path}: '{domain}' has different numbers of frames in its arrays")
    columns.setdefault("clip", np.array([f"{domain}{i}" for i in range(count)]))  # no more than there are labels
    return ForeignDataset(path, domain, columns, regions, _finished(path, file, domain, count))


def _finished(path: Path, file: h5py.File, domain: str, count: int) -> npt.NDArray[np.bool_]:
    """[N]: what the `status` of a repacked file of ours says; else all."""
    status = file.get(f"{domain}/status")
    if not isinstance(status, h5py.Dataset):
        return np.ones(count, dtype=bool)
    if status.ndim != 2 or status.shape[0] != count or status.dtype.kind not in "iu":
        raise DataError(f"{path}: {domain}/status is {status.dtype} {status.shape}; it has one whole number a clip and modality")
    return np.asarray((status[:] == DONE).all(1))


def _array(place: str, wanted: str, data: h5py.Dataset) -> ArrayInfo:
    shape = (data.shape[0], 1, data.shape[1]) if data.ndim == 2 else data.shape
    if (
        len(shape) != (5 if wanted.endswith("maps") else 3)
        or 0 in shape
        or data.dtype.kind not in "fiub"
        or data.dtype.itemsize > 8
    ):
        kind = "maps [N, T, C, H, W]" if wanted.endswith("maps") else "vectors [N, T, C] or [N, C]"
        raise DataError(f"{place} is {data.dtype} {data.shape}; {wanted} wants {kind} of floats")
    if data.dtype.kind != "f":
        raise DataError(f"{place} is {data.dtype}; {wanted} wants floats, cast it to float: array.astype('float32')")
    row_bytes = math.prod(shape[1:]) * data.dtype.itemsize
    if row_bytes > MAX_ROW:
        raise DataError(
            f"{place} is {data.shape}; one clip would take {row_bytes / 1e9:.1f} GB. Is the order of its sizes right?"
        )
    return ArrayInfo(str(data.name), shape, data.dtype.newbyteorder("="))  # torch knows this machine's order of bytes only


def _check_storage(place: str, file: h5py.File, data: h5py.Dataset) -> None:
    """Raise DataError for an array whose values lie in another file, or are packed in a way that cannot be undone here."""
    if data.file.filename != file.filename or data.external or data.is_virtual:
        raise DataError(f"{place} is a link to another file; copy it in (h5repack does), so that the features are in one file")
    if data.shape is None:
        raise DataError(f"{place} is empty")
    layout = data.id.get_create_plist()
    for i in range(layout.get_nfilters()):
        code, _, _, name = layout.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            called = name.decode(errors="replace") or f"number {code}"
            raise DataError(f"{place} is packed by {called}, a filter that is not installed; unpack it: h5repack -f NONE IN OUT")


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
