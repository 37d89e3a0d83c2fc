"""HDF5 files that `cia-extract` did not write: chunked, with other names, or with vectors only.

They are read through h5py, which has the interface of our own files and is slower. A file in our own layout that was repacked
(chunked, compressed) is recognised. Other layouts are described by `--map DOMAIN/NAME=PATH`, an entry for each array. NAME is
clip, label, split, any other column, or an array such as rgb/pooled ([N, T, C] or [N, C]) or rgb/maps ([N, T, C, H, W]); PATH is
the dataset inside the file. `clip` may be left out; rows are then numbered. An entry with the word {domain} holds for all
top-level groups, and {domain} stands for the group's name: `--map '{domain}/rgb/pooled={domain}/x'`.
"""

import hashlib
import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import numpy.typing as npt
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.modalities import MODALITIES
from cia_extract.common.names import printable
from cia_extract.features import DONE, journal_path, open_features, opened, readable, storage

from cia_adapt.data.columns import NUMBER, Room, column
from cia_adapt.data.source import FeatureSource

EACH = "{domain}"  # in a mapping: every top-level group
DIGESTED = 8e6  # bytes of each array that enter the digest, about; every run reads them


@dataclass(frozen=True)
class ForeignArray:
    """Where an array lies and what it holds."""

    path: str
    """Of the dataset inside the file."""
    shape: tuple[int, ...]
    """[N, T, …]; vectors [N, C] count as one frame, [N, 1, C]."""
    dtype: np.dtype[Any]
    """In this machine's byte order."""
    checked: dict[storage.Corner, bool] = field(default_factory=dict, compare=False, repr=False)
    """{chunk: whether it has been unpacked for a check}; empty until the first row is read."""


@dataclass(frozen=True)
class SlowArray:
    """An array, indexed like a memory map, one clip at a time. It opens the file for each reading and so survives a fork."""

    file: Path
    info: ForeignArray

    @property
    def shape(self) -> tuple[int, ...]:
        """[N, T, …], as a memory map has it."""
        return self.info.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """The type of what indexing gives, as a memory map has it."""
        return self.info.dtype

    def __getitem__(self, row: int) -> npt.NDArray[Any]:
        """One clip's values, [T, …]."""
        with opened(self.file) as file:
            data = file[self.info.path]
            storage.check_row(f"{self.file}: {self.info.path}", data, int(row), self.info.checked)
            clip = np.asarray(data[int(row)], self.info.dtype)
        return clip.reshape(self.info.shape[1:])


@dataclass(frozen=True)
class ForeignDataset:
    """One domain of a foreign file, with the interface of `cia_extract.features.DatasetFeatures`."""

    path: Path
    """The HDF5 file."""
    name: str
    columns: Mapping[str, npt.NDArray[Any]]
    """{column: text [N]}."""
    regions: Mapping[str, ForeignArray]
    """{"rgb/pooled", "rgb/maps", …: the array}."""
    finished: npt.NDArray[np.bool_]
    """[N]: whether a clip's row is done, by the `status` of a repacked file of ours; all rows of other files."""
    root: str = ""

    def __len__(self) -> int:
        return len(self.columns["clip"])

    @property
    def modalities(self) -> tuple[str, ...]:
        """Modalities that have an array, in the file's order."""
        return tuple(dict.fromkeys(name.split("/")[0] for name in self.regions))

    @property
    def frames(self) -> int:
        """T, frames of each clip, equal in all arrays."""
        return next(iter(self.regions.values())).shape[1]

    def array(self, name: str) -> SlowArray:
        """The array `name`, such as "rgb/pooled", [N, T, …]."""
        return SlowArray(self.path, self.regions[name])

    def done(self) -> npt.NDArray[np.bool_]:
        """[N]: rows that can be used."""
        return self.finished

    def digest(self) -> str:
        """SHA-256 of the columns, the arrays' names, shapes and types, and 4 to 64 rows of each: all would take too long."""
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


def open_any(path: Path, mapping: Sequence[str] = ()) -> Mapping[str, FeatureSource]:
    """{name: dataset} of a feature file of ours or of a foreign file.

    With `mapping` (`--map` entries) the file is read as they say. Raises UsageError for an entry that is not written as `parse`
    wants it, DataError for a file that cannot be read or does not fit.
    """
    if mapping:
        return open_mapped(path, parse(mapping))
    readable(path, f"make it with cia-extract --out {path}")
    if journal_path(path).exists() or path.stat().st_size == 0:
        return open_features(path)  # which says what is wrong
    with _opened_alone(path) as file:
        groups = {name: group for name in file if isinstance(group := file.get(name), h5py.Group)}
        recognised = {name: _recognised(name, group) for name, group in groups.items()}
        own = "schema" in file.attrs and not any(map(_chunked, groups.values()))
    if own:
        return open_features(path)
    if not any(recognised.values()):
        raise DataError(
            f"{path}: not a feature file of cia-extract; name its arrays: --map DOMAIN/label=… --map DOMAIN/split=… "
            "--map DOMAIN/rgb/pooled=… (cia-adapt --help)"
        )
    return open_mapped(path, {name: arrays for name, arrays in recognised.items() if arrays})


@contextmanager
def _opened_alone(path: Path) -> Iterator[h5py.File]:
    """The file, open for reading. Raises DataError for a link to another one: HDF5 would open whatever it names, pipes too."""

    inside = (h5py.h5l.TYPE_HARD, h5py.h5l.TYPE_SOFT)
    with opened(path) as file:
        outside = file.id.links.visit(lambda name, link: None if link.type in inside else name, info=True)
        if outside is not None:
            place = printable(outside.decode(errors="replace"))
            raise DataError(f"{path}: {place} is a link to another file; copy it into this file, for example with h5repack")
        storage.check(path, file)
        yield file


def parse(entries: Sequence[str]) -> dict[str, dict[str, str]]:
    """`--map` entries DOMAIN/NAME=PATH → {domain: {name: path}}. Raises UsageError for an entry that is written otherwise."""
    domains: dict[str, dict[str, str]] = {}
    for entry in entries:
        left, separator, path = entry.partition("=")
        domain, slash, name = left.partition("/")
        if not (separator and slash and domain and name and path):
            raise UsageError(f"--map {entry}: write DOMAIN/NAME=PATH, for example ucf/rgb/pooled=features/ucf_rgb")
        if "/" in name and (name.split("/")[0] not in MODALITIES or name.split("/")[1] not in {"maps", "pooled"}):
            raise UsageError(f"--map {entry}: an array is called rgb, flow or audio, then /maps or /pooled, such as rgb/pooled")
        domains.setdefault(domain, {})[name] = path
    return domains


def open_mapped(path: Path, domains: Mapping[str, Mapping[str, str]]) -> dict[str, ForeignDataset]:
    """{domain: dataset} of the arrays that `domains`, {domain: {name: path}}, names. Raises DataError for what does not fit."""
    readable(path, "give the path of an HDF5 file")
    with _opened_alone(path) as file:
        room = Room.of(path)
        return {name: _dataset(path, file, name, names, room) for name, names in _expanded(path, file, domains).items()}


def _expanded(path: Path, file: h5py.File, domains: Mapping[str, Mapping[str, str]]) -> dict[str, dict[str, str]]:
    """`domains` with the entries of `{domain}` written out for every top-level group that has one of their arrays."""
    written = {name: dict(names) for name, names in domains.items() if name != EACH}
    pattern = domains.get(EACH, {})
    groups = [name for name in file if any(place.replace(EACH, name) in file for place in pattern.values())]
    if pattern and not groups:
        raise DataError(f"{path}: no top-level group has {', '.join(pattern.values())}; it has {', '.join(file) or 'none'}")
    for group in groups:
        written[group] = {name: place.replace(EACH, group) for name, place in pattern.items()} | written.get(group, {})
    return written


def _dataset(path: Path, file: h5py.File, domain: str, names: Mapping[str, str], room: Room) -> ForeignDataset:
    """One domain, whose columns and arrays lie at `names`, {name: path}. Raises DataError for what does not fit."""
    columns, regions = {}, {}
    for name, place in names.items():
        data = file.get(place)
        if not isinstance(data, h5py.Dataset):
            raise DataError(f"{path}: has no dataset {place} (for {domain}/{name}); give --map the path of an array in the file")
        _check_storage(f"{path}: {place}", file, data)
        if "/" not in name:
            columns[name] = column(f"{path}: {place}", data, room)
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
        counts = ", ".join(f"{name} {length}" for name, length in lengths.items())
        raise DataError(f"{path}: '{domain}' has different numbers of rows: {counts}; each array needs one row for each clip")
    if len({info.shape[1] for info in regions.values()}) > 1:
        frames = ", ".join(f"{name} {info.shape[1]}" for name, info in regions.items())
        raise DataError(f"{path}: '{domain}' has different numbers of frames in its arrays: {frames}; all need the same")
    if "clip" not in columns:
        room.take(f"{path}: {domain}", count * (len(domain) + NUMBER))  # `count` is no more than there are labels
        columns["clip"] = np.array([f"{domain}{i}" for i in range(count)], dtype=object)
    return ForeignDataset(path, domain, columns, regions, _finished(path, file, domain, count))


def _finished(path: Path, file: h5py.File, domain: str, count: int) -> npt.NDArray[np.bool_]:
    """[N]: whether all modalities of a row are done, by the `status` of a repacked file of ours; else all rows are."""
    status = file.get(f"{domain}/status")
    if not isinstance(status, h5py.Dataset):
        return np.ones(count, dtype=bool)
    _check_storage(f"{path}: {domain}/status", file, status)
    if status.ndim != 2 or status.shape[0] != count or status.shape[1] > len(MODALITIES) or status.dtype.kind not in "iu":
        raise DataError(
            f"{path}: {domain}/status is {status.dtype} {status.shape}; it needs one whole number for each clip and modality"
        )
    return np.asarray((status[:] == DONE).all(1))


def _array(place: str, target: str, data: h5py.Dataset) -> ForeignArray:
    """The array `data`, at `place` for messages, as the maps or vectors `target`. Raises DataError where it cannot be that."""
    shape = (data.shape[0], 1, data.shape[1]) if data.ndim == 2 else data.shape
    if (
        len(shape) != (5 if target.endswith("maps") else 3)
        or 0 in shape
        or data.dtype.kind not in "fiub"
        or data.dtype.itemsize > 8
    ):
        kind = "maps [N, T, C, H, W]" if target.endswith("maps") else "vectors [N, T, C] or [N, C]"
        raise DataError(f"{place} is {data.dtype} {data.shape}; {target} needs {kind} of floats")
    if data.dtype.kind != "f":
        raise DataError(f"{place} is {data.dtype}; {target} needs floats; convert it: array.astype('float32')")
    storage.check_row_bytes(place, data.shape, math.prod(shape[1:]) * data.dtype.itemsize)
    return ForeignArray(str(data.name), shape, data.dtype.newbyteorder("="))  # torch knows this machine's order of bytes only


def _check_storage(place: str, file: h5py.File, data: h5py.Dataset) -> None:
    """Raise DataError for an array whose values lie in another file, or are packed in a way that cannot be undone here."""
    if data.file.filename != file.filename or data.external or data.is_virtual:
        raise DataError(f"{place} is a link to another file; copy it into this file, for example with h5repack")
    if data.shape is None:
        raise DataError(f"{place} is empty; map an array that has values")
    storage.check_size(place, data)
    layout = data.id.get_create_plist()
    for i in range(layout.get_nfilters()):
        code, _, _, name = layout.get_filter(i)
        if not h5py.h5z.filter_avail(code):
            packer = name.decode(errors="replace") or f"number {code}"
            raise DataError(f"{place} is packed by {packer}, a filter that is not installed; unpack it: h5repack -f NONE IN OUT")


def _recognised(name: str, group: h5py.Group) -> dict[str, str]:
    """{name: path} of a group's columns and arrays in our own layout; empty where it has another."""
    if not isinstance(group.get("clips"), h5py.Group):
        return {}
    paths = {c: f"{name}/clips/{c}" for c, d in group["clips"].items() if isinstance(d, h5py.Dataset) and d.dtype.kind in "SO"}
    for modality in MODALITIES:
        for kind in ("maps", "pooled"):
            if isinstance(group.get(f"{modality}/{kind}"), h5py.Dataset):
                paths[f"{modality}/{kind}"] = f"{name}/{modality}/{kind}"
    return paths


def _chunked(group: h5py.Group) -> bool:
    """Whether an array anywhere in the group is chunked."""
    chunked = False

    def look(key: str, item: object) -> None:
        nonlocal chunked
        chunked = chunked or (isinstance(item, h5py.Dataset) and item.chunks is not None)

    group.visititems(look)
    return chunked
