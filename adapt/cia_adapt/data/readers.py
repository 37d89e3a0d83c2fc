"""Where a domain's features are read from (its tier), and which tier a run gets.

    device   in the GPU's memory, as stored (float16)      ram     in the machine's memory
    map      from a memory map of the file                 hdf5    through h5py, for chunked and foreign files; the slowest

In a batch of maps the channels of a cell lie side by side, whatever the tier; `device` and `ram` hold maps that way. Methods that
need no maps read vectors, 2 % of the bytes. A process keeps what it has loaded: all seeds, pairs and methods of a command share
it.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal, get_args

import numpy as np
import numpy.typing as npt
import torch
from cia_extract.common.machine import free_memory
from cia_extract.features import DatasetFeatures
from torch import Tensor

from cia_adapt.data.guard import FeatureGuard, FrameGuard, Guard
from cia_adapt.data.joined import JoinedDataset
from cia_adapt.data.source import ArrayInfo, FeatureArray, FeatureSource
from cia_adapt.footage import FrameDataset

Tier = Literal["device", "ram", "map", "hdf5"]
RAM_SHARE: Final = 0.4  # of the machine's free memory, at most, for features
DEVICE_SHARE: Final = 0.6  # of the GPU's free memory
# Bytes of an array of vectors that are loaded before training. A larger one stays mapped: vectors need no other order,
# so the kernel's cache is as good, and neither start-up nor memory grows with the file (EPIC-100's vectors are 20 GB).
MOST_VECTORS: Final = 1 << 30

Positions = npt.NDArray[np.int64]  # rows, clips or frames by number, from 0


@dataclass(frozen=True)
class Reader:
    """Reads one array [N, T, …] of one domain."""

    tier: Tier
    """Where it reads from."""
    array: FeatureArray
    """The array as it is in the file: a memory map [N, T, …], or a `foreign.SlowArray`."""
    blocks: Tensor | None = None
    """All frames one after the other, vectors [n·T, C] or maps [n·T, H, W, C]: a view of the memory map, or what was loaded."""
    place: Mapping[int, int] | None = None
    """{row: its place among the clips in `blocks`} where only some rows were loaded."""
    guard: Guard | None = None
    """Checks the rows of an array that is mapped from a file of our own, or from a frame cache."""

    @property
    def device(self) -> torch.device:
        """The device on which batches are put together."""
        return torch.device("cpu") if self.blocks is None else self.blocks.device

    def announce(self, rows: Positions, frames: Positions) -> None:
        """Ask the kernel to read these rows [B] at these frames [B, S] from the disk into its cache.

        Does nothing unless they are mapped, nor where the system has no posix_fadvise (macOS).
        """
        if not isinstance(self.array, np.memmap) or self.tier != "map" or not hasattr(os, "posix_fadvise"):
            return
        size = int(np.prod(self.array.shape[2:])) * self.array.dtype.itemsize
        try:
            file = os.open(str(self.array.filename), os.O_RDONLY)
        except OSError:  # it was removed or renamed: the map still has it
            return
        try:
            for block in (rows[:, None] * self.array.shape[1] + frames).ravel().tolist():
                os.posix_fadvise(file, self.array.offset + block * size, size, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)

    def fill(self, out: Tensor, rows: Positions, frames: Positions) -> None:
        """Copy the frames [B, S] of these rows [B] into `out`, vectors [B·S, C] or maps [B·S, H, W, C]; torch uses all cores.

        Raises DataError for a row that does not match its checksum.
        """
        if self.guard is not None:
            self.guard.check(rows)
        if self.blocks is None:
            for clip, row, row_frames in zip(out.split(frames.shape[1]), rows, frames, strict=True):
                clip.copy_(cells_last(torch.from_numpy(self.array[row][row_frames])))
            return
        places = rows if self.place is None else np.array([self.place[int(row)] for row in rows])
        blocks = torch.from_numpy((places[:, None] * self.array.shape[1] + frames).ravel()).to(self.blocks.device)  # [B·S]
        torch.index_select(self.blocks, 0, blocks, out=out)


@dataclass(frozen=True)
class JoinedReader:
    """Reads one array of several sources: each clip by the reader of its own dataset."""

    readers: tuple[Reader, ...]
    dataset: JoinedDataset
    array: ArrayInfo
    """[ΣN, T, …]."""

    @property
    def tier(self) -> Tier:
        """The slowest of the readers' tiers."""
        return max((reader.tier for reader in self.readers), key=get_args(Tier).index)

    @property
    def device(self) -> torch.device:
        """The device on which batches are put together."""
        return self.readers[0].device

    def announce(self, rows: Positions, frames: Positions) -> None:
        """As `Reader.announce`."""
        for reader, own, begin, end in self._runs(rows):
            reader.announce(own, frames[begin:end])

    def fill(self, out: Tensor, rows: Positions, frames: Positions) -> None:
        """As `Reader.fill`. Neighbours in the batch that lie in one dataset are read together."""
        for reader, own, begin, end in self._runs(rows):
            part = out[begin * frames.shape[1] : end * frames.shape[1]]
            as_stored = empty_blocks(reader.array, 0, reader.device)
            alike = (as_stored.device, as_stored.dtype) == (part.device, part.dtype)
            into = part if alike else empty_blocks(reader.array, len(part), reader.device)
            reader.fill(into, own, frames[begin:end])
            if not alike:
                part.copy_(into)

    def _runs(self, rows: Positions) -> Iterator[tuple[Reader, Positions, int, int]]:
        """(reader, its own rows, first position, last + 1) of neighbours in `rows` [B] that lie in one dataset."""
        member, begins = self.dataset.member_of(rows), self.dataset.begins
        ends = [*(np.flatnonzero(np.diff(member)) + 1).tolist(), len(rows)]
        for begin, end in zip([0, *ends], ends, strict=False):
            yield self.readers[member[begin]], rows[begin:end] - begins[member[begin]], begin, end


AnyReader = Reader | JoinedReader


def gather(parts: Sequence[tuple[AnyReader, Positions, Positions]]) -> Tensor:
    """One batch of clips from several readers, in order; a part is (reader, rows [B], frames [B, S]), with one S for all.

    Returns vectors [ΣB, S, C] or maps [ΣB, S, C, H, W], of the stored type; maps are views of [ΣB, S, H, W, C].
    """
    first = parts[0][0]
    if any((reader.device, reader.array.dtype) != (first.device, first.array.dtype) for reader, _, _ in parts):
        batches = [gather([part]) for part in parts]  # one domain fits on the GPU and the other does not
        device = max((batch.device for batch in batches), key=lambda device: device.type != "cpu")
        return torch.cat([batch.to(device) for batch in batches])
    clips, segments = sum(len(rows) for _, rows, _ in parts), parts[0][2].shape[1]
    out = empty_blocks(first.array, clips * segments, first.device)
    begin = 0
    for reader, rows, frames in parts:
        reader.fill(out[begin : begin + frames.size], rows, frames)
        begin += frames.size
    return out.unflatten(0, (clips, segments)).movedim(-1, 2)  # [ΣB·S, …, C] → [ΣB, S, C, …]


def cells_last(maps: Tensor) -> Tensor:
    """Maps […, C, H, W] → a view […, H, W, C]; vectors stay as they are."""
    return maps.movedim(-3, -1) if maps.ndim > 2 else maps


class Stores:
    """The readers of one process. Each array is opened or loaded once.

    Args:
        device: the device on which models train.
        tier: where to read from; None takes the fastest tier that has room.
        share: the part, 0 … 1, of the free memory that is this process's.

    `notes` has a line for each array: its size in GB and its tier.
    """

    def __init__(self, device: torch.device, tier: Tier | None = None, share: float = 1.0) -> None:
        self.device, self.tier, self.share = device, tier, share
        self._readers: dict[tuple[str, str, str], Reader] = {}
        self.notes: list[str] = []

    def reader(self, dataset: FeatureSource, name: str, rows: Positions) -> AnyReader:
        """The reader of a dataset's array `name`, such as "rgb/maps", for at least these rows."""
        if isinstance(dataset, JoinedDataset):
            return JoinedReader(tuple(self._readers_of_members(dataset, name, rows)), dataset, dataset.array(name))
        return self._reader(dataset, name, rows)

    def _readers_of_members(self, joined: JoinedDataset, name: str, rows: Positions) -> Iterator[Reader]:
        """The reader of each dataset of `joined`. Where two are one and the same, it is loaded once, for the rows of both."""
        own = [rows[joined.member_of(rows) == i] - begin for i, begin in enumerate(joined.begins[:-1])]
        for dataset in joined.members:
            same = [(other.path, other.name) == (dataset.path, dataset.name) for other in joined.members]
            yield self._reader(dataset, name, np.concatenate([x for x, taken in zip(own, same, strict=True) if taken]))

    def _reader(self, dataset: FeatureSource, name: str, rows: Positions) -> Reader:
        key = (str(dataset.path), dataset.name, name)
        existing = self._readers.get(key)
        loaded = set() if existing is None or existing.place is None else set(existing.place)
        if existing is None or (existing.place is not None and not loaded.issuperset(rows.tolist())):
            # Two domains may be parts of one dataset: what is loaded for one stays for the other.
            all_rows = sorted(loaded.union(rows.tolist()))
            self._readers[key] = self._open(dataset, name, np.array(all_rows, dtype=np.int64))
        return self._readers[key]

    def _open(self, dataset: FeatureSource, name: str, rows: Positions) -> Reader:
        array = dataset.array(name)
        size = len(rows) * int(np.prod(array.shape[1:])) * array.dtype.itemsize
        slow = not isinstance(array, np.ndarray)
        tier = self.tier or fastest_tier(int(size / self.share), self.device, slow)
        if self.tier is None and tier == "ram" and len(array.shape) == 3 and size > MOST_VECTORS and not slow:
            tier = "map"
        if tier == "map" and slow:
            tier = "hdf5"
        guard = _guard(dataset, name)
        unchecked = (
            "" if guard is None or guard.works else "; vectors have no checksums, cia-adapt check compares those of the maps"
        )
        self.notes.append(f"{dataset.name}/{name}: {size / 1e9:.2f} GB, {tier}{unchecked}")
        if tier == "hdf5":
            return Reader(tier, array)
        if tier == "map" and isinstance(array, np.ndarray):
            return Reader(tier, array, cells_last(as_tensor(array).flatten(0, 1)), guard=guard)
        if guard is not None:
            guard.check(rows)
        loaded = load(array, rows, guard.row if guard is not None else array.__getitem__)
        if tier == "device":
            loaded = loaded.to(self.device)
        return Reader(tier, array, loaded, {int(row): i for i, row in enumerate(rows)})


def _guard(dataset: FeatureSource, name: str) -> Guard | None:
    if isinstance(dataset, DatasetFeatures):
        return FeatureGuard(dataset, name)
    return FrameGuard(dataset, name) if isinstance(dataset, FrameDataset) and not dataset.blank else None


def as_tensor(array: npt.NDArray[Any]) -> Tensor:
    """A read-only array as a tensor over the same bytes. Never write to it: torch has no read-only tensors (and warns of it)."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


def load(array: ArrayInfo, rows: Positions, read: Callable[[int], npt.NDArray[Any]]) -> Tensor:
    """Copy whole rows [n] of an array [N, T, …] into memory: vectors [n·T, C], maps [n·T, H, W, C]. `read` gives a row [T, …]."""
    out = empty_blocks(array, len(rows) * array.shape[1])
    for clip, row in zip(out.split(array.shape[1]), rows, strict=True):
        clip.copy_(cells_last(as_tensor(read(int(row)))))
    return out


def empty_blocks(array: ArrayInfo, count: int, device: torch.device | None = None) -> Tensor:
    """Uninitialised room for `count` frames of an array [N, T, …]: vectors [count, C], maps [count, H, W, C]."""
    frame = cells_last(torch.from_numpy(np.empty((1, *array.shape[2:]), array.dtype)))
    return frame.new_empty(count, *frame.shape[1:], device=device)


def fastest_tier(size: int, device: torch.device, slow: bool) -> Tier:
    """The fastest tier with room for `size` bytes: the GPU's memory, the machine's, else the file (`slow`: through h5py)."""
    tiers: tuple[Tier, ...] = ("device", "ram")
    return next((tier for tier in tiers if fits(size, device, tier)), "hdf5" if slow else "map")


def fits(size: int, device: torch.device, tier: Tier, planned: int = 0) -> bool:
    """Whether a tier has room for `size` bytes beside what runs already; "map" and "hdf5" always have.

    `planned` bytes count as taken: a dry run loads nothing.
    """
    if tier == "device":
        return device.type == "cuda" and size < DEVICE_SHARE * (torch.cuda.mem_get_info(device)[0] - planned)
    return tier != "ram" or size < RAM_SHARE * (free_memory() - planned)
