"""Where the features of a domain are read from: the tiers, and which one a run gets.

    device   on the GPU, as stored (float16)          ram     in memory, a cell's channels side by side
    map      a memory map of the file                 hdf5    through h5py: chunked or foreign files, the slowest

Methods that need no maps read vectors, 2 % of the bytes. One process keeps what it has loaded: all seeds, pairs and methods of a
command share it.
"""

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Literal, Protocol

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

Tier = Literal["device", "ram", "map", "hdf5"]
RAM_SHARE: Final = 0.4  # of the memory that is free, for features
DEVICE_SHARE: Final = 0.6

Positions = npt.NDArray[np.int64]


class Array(Protocol):
    """A memory map, or a dataset of h5py behind `foreign.SlowArray`."""

    @property
    def shape(self) -> tuple[int, ...]: ...
    @property
    def dtype(self) -> np.dtype[Any]: ...
    def __getitem__(self, key: Any) -> Any: ...


@dataclass(frozen=True)
class Reader:
    """One array of one domain, [N, T, …]; `rows` that are loaded are numbered anew by `place`."""

    tier: Tier
    array: Array | None
    loaded: Tensor | None = None
    place: Mapping[int, int] = field(default_factory=dict)

    def gather(self, rows: Positions, frames: Positions) -> Tensor:
        """Clips `rows` [B] at `frames` [B, S] → [B, S, …], dtype as stored; maps [B, S, C, H, W] may be channels_last views."""
        if self.loaded is None:
            assert self.array is not None
            return gather(self.array, rows, frames)
        at = np.array([self.place[int(row)] for row in rows])[:, None] * self.loaded.shape[1] + frames  # of all frames in a row
        blocks = self.loaded.flatten(0, 1).index_select(0, torch.from_numpy(at.ravel()).to(self.loaded.device))
        out = blocks.unflatten(0, at.shape)
        return out.permute(0, 1, 4, 2, 3) if out.ndim == 5 else out


def gather(array: Array, rows: Positions, frames: Positions) -> Tensor:
    """Copy [B, S, …] out of a mapped [N, T, …] array, one block a frame, straight into the tensor; dtype is kept."""
    out = np.empty((*frames.shape, *array.shape[2:]), array.dtype)
    for i, row in enumerate(rows):
        for s, frame in enumerate(frames[i]):
            out[i, s] = array[row, frame]
    return torch.from_numpy(out)


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
        if known is None or (known.loaded is not None and not set(rows.tolist()) <= set(known.place)):
            # Two domains may be parts of one dataset: what is loaded for one stays for the other.
            wanted = sorted({*rows.tolist(), *(known.place if known else ())})
            self._readers[key] = self._make(dataset, name, np.array(wanted, dtype=np.int64))
        return self._readers[key]

    def _make(self, dataset: Any, name: str, rows: Positions) -> Reader:
        array = dataset.array(name)
        size = len(rows) * int(np.prod(array.shape[1:])) * array.dtype.itemsize
        slow = not isinstance(array, np.ndarray)
        tier = self.tier or choose(int(size / self.share), self.device, slow)
        if tier == "map" and slow:
            tier = "hdf5"
        self.notes.append(f"{dataset.name}/{name}: {size / 1e9:.2f} GB, {tier}")
        if tier in ("map", "hdf5"):
            return Reader(tier, array)
        loaded = load(array, rows)
        if tier == "device":
            loaded = loaded.to(self.device)
        return Reader(tier, None, loaded, {int(row): i for i, row in enumerate(rows)})


def load(array: Array, rows: Positions) -> Tensor:
    """Copy whole rows; maps [N, T, C, H, W] as [n, T, H, W, C]."""
    shape = (len(rows), *array.shape[1:])
    out = torch.empty(
        (*shape[:2], *shape[3:], shape[2]) if len(shape) == 5 else shape, dtype=torch.from_numpy(np.empty(0, array.dtype)).dtype
    )
    for i, row in enumerate(rows):
        clip = torch.from_numpy(np.array(array[row]))
        out[i] = clip.permute(0, 2, 3, 1) if clip.ndim == 4 else clip
    return out


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
    try:
        with open("/proc/meminfo", encoding="ascii") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("MemAvailable"))
    except (OSError, StopIteration):  # macOS
        return os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 2
