"""Where the features of a domain are read from: the tiers, and which one a run gets.

    device   on the GPU, as stored (float16)          ram     in memory
    map      a memory map of the file                 hdf5    through h5py: chunked or foreign files, the slowest

Batches of maps have a cell's channels side by side, whatever the tier; `device` and `ram` hold them so. Methods that need no maps
read vectors, 2 % of the bytes. One process keeps what it has loaded: all seeds, pairs and methods of a command share it.
"""

import os
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Literal

import numpy as np
import numpy.typing as npt
import psutil
import torch
from torch import Tensor

from cia_adapt.data.guard import Guard

Tier = Literal["device", "ram", "map", "hdf5"]
RAM_SHARE: Final = 0.4  # of the memory that is free, for features
DEVICE_SHARE: Final = 0.6

Positions = npt.NDArray[np.int64]


@dataclass(frozen=True)
class Reader:
    """One array of one domain, [N, T, …]."""

    tier: Tier
    array: Any
    """A memory map [N, T, …] or a dataset of h5py behind `foreign.SlowArray`, as they are in the file."""
    blocks: Tensor | None = None
    """[n·T, …], all frames in a row, of maps [n·T, H, W, C]: a view of the memory map, or what was loaded."""
    place: Mapping[int, int] | None = None
    """{row: its place in `blocks`} where only some were loaded."""
    guard: Guard | None = None
    """Of an array that is mapped from a file of our own."""

    @property
    def device(self) -> torch.device:
        return torch.device("cpu") if self.blocks is None else self.blocks.device

    def announce(self, rows: Positions, frames: Positions) -> None:
        """Ask the kernel to read them from the disk into its cache meanwhile, where they are mapped and it can be asked."""
        if self.tier != "map" or not hasattr(os, "posix_fadvise"):
            return
        size = int(np.prod(self.array.shape[2:])) * self.array.dtype.itemsize
        file = os.open(self.array.filename, os.O_RDONLY)
        try:
            for block in (rows[:, None] * self.array.shape[1] + frames).ravel().tolist():
                os.posix_fadvise(file, self.array.offset + block * size, size, os.POSIX_FADV_WILLNEED)
        finally:
            os.close(file)

    def fill(self, out: Tensor, rows: Positions, frames: Positions) -> None:
        """Copy the frames into `out` [B·S, …], maps [B·S, H, W, C]; torch does it with all cores."""
        if self.guard is not None:
            self.guard.check(rows)
        if self.blocks is None:
            for clip, row, of_row in zip(out.split(frames.shape[1]), rows, frames, strict=True):
                clip.copy_(cells_last(torch.from_numpy(self.array[row][of_row])))
            return
        places = rows if self.place is None else np.array([self.place[int(row)] for row in rows])
        at = torch.from_numpy((places[:, None] * self.array.shape[1] + frames).ravel()).to(self.blocks.device)
        torch.index_select(self.blocks, 0, at, out=out)


def gather(parts: Sequence[tuple[Reader, Positions, Positions]]) -> Tensor:
    """Clips of several readers at as many frames each, (reader, rows [B], frames [B, S]), one after the other.

    → [ΣB, S, …], dtype as stored; maps [ΣB, S, C, H, W] are views of [ΣB, S, H, W, C].
    """
    first = parts[0][0]
    if any((reader.device, reader.array.dtype) != (first.device, first.array.dtype) for reader, _, _ in parts):
        each = [gather([part]) for part in parts]  # one domain fits on the GPU and the other does not
        device = max((x.device for x in each), key=lambda device: device.type != "cpu")
        return torch.cat([x.to(device) for x in each])
    clips, segments = sum(len(rows) for _, rows, _ in parts), parts[0][2].shape[1]
    out = empty_blocks(first.array, clips * segments, first.device)
    begin = 0
    for reader, rows, frames in parts:
        reader.fill(out[begin : begin + frames.size], rows, frames)
        begin += frames.size
    return out.unflatten(0, (clips, segments)).movedim(-1, 2)


def cells_last(maps: Tensor) -> Tensor:
    """[…, C, H, W] → a view […, H, W, C]; vectors as they are."""
    return maps.movedim(-3, -1) if maps.ndim > 2 else maps


class Stores:
    """The readers of one process, made once. `tier` None chooses by what is free; `share` of it is this process's."""

    def __init__(self, device: torch.device, tier: Tier | None = None, share: float = 1.0) -> None:
        self.device, self.tier, self.share = device, tier, share
        self._readers: dict[tuple[str, str, str], Reader] = {}
        self.notes: list[str] = []

    def reader(self, dataset: Any, name: str, rows: Positions) -> Reader:
        """Of the array `name` of a dataset, for these rows."""
        key = (str(dataset.path), dataset.name, name)
        known = self._readers.get(key)
        loaded = set() if known is None or known.place is None else set(known.place)
        if known is None or (known.place is not None and not loaded.issuperset(rows.tolist())):
            # Two domains may be parts of one dataset: what is loaded for one stays for the other.
            wanted = sorted(loaded.union(rows.tolist()))
            self._readers[key] = self._make(dataset, name, np.array(wanted, dtype=np.int64))
        return self._readers[key]

    def _make(self, dataset: Any, name: str, rows: Positions) -> Reader:
        array = dataset.array(name)
        size = len(rows) * int(np.prod(array.shape[1:])) * array.dtype.itemsize
        slow = not isinstance(array, np.ndarray)
        tier = self.tier or choose(int(size / self.share), self.device, slow)
        if tier == "map" and slow:
            tier = "hdf5"
        guard = None if slow else Guard(dataset, name)
        unchecked = "" if guard is None or guard.works else "; vectors without checksums, cia-adapt check compares the maps"
        self.notes.append(f"{dataset.name}/{name}: {size / 1e9:.2f} GB, {tier}{unchecked}")
        if tier == "hdf5":
            return Reader(tier, array)
        if tier == "map":
            return Reader(tier, array, cells_last(as_tensor(array).flatten(0, 1)), guard=guard)
        if guard is not None:
            guard.check(rows)
        loaded = load(array, rows, guard.row if guard is not None else array.__getitem__)
        if tier == "device":
            loaded = loaded.to(self.device)
        return Reader(tier, array, loaded, {int(row): i for i, row in enumerate(rows)})


def as_tensor(array: npt.NDArray[Any]) -> Tensor:
    """A read-only array as a tensor on the same bytes, never to be written to: torch has no read-only tensors and warns."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "The given NumPy array is not writable", UserWarning)
        return torch.from_numpy(array)


def load(array: Any, rows: Positions, read: Callable[[int], npt.NDArray[Any]]) -> Tensor:
    """Copy whole rows of [N, T, …] → [n·T, …], maps [n·T, H, W, C]; `read` gives a row [T, …]."""
    out = empty_blocks(array, len(rows) * array.shape[1])
    for clip, row in zip(out.split(array.shape[1]), rows, strict=True):
        clip.copy_(cells_last(as_tensor(read(int(row)))))
    return out


def empty_blocks(array: Any, count: int, device: torch.device | None = None) -> Tensor:
    """Room for so many frames of [N, T, …]: [count, …], maps [count, H, W, C]."""
    frame = cells_last(torch.from_numpy(np.empty((1, *array.shape[2:]), array.dtype)))
    return frame.new_empty(count, *frame.shape[1:], device=device)


def choose(size: int, device: torch.device, slow: bool) -> Tier:
    """Of an array of `size` bytes: the GPU's memory where it fits, the machine's where it fits well, else the map."""
    tiers: tuple[Tier, ...] = ("device", "ram")
    return next((tier for tier in tiers if fits(size, device, tier)), "hdf5" if slow else "map")


def fits(size: int, device: torch.device, tier: Tier) -> bool:
    """Whether `size` bytes have room there; a map needs none."""
    if tier == "device":
        return device.type == "cuda" and size < DEVICE_SHARE * torch.cuda.mem_get_info(device)[0]
    return tier != "ram" or size < RAM_SHARE * free_memory()


def free_memory() -> int:
    """Bytes that can be had without swapping."""
    return int(psutil.virtual_memory().available)
