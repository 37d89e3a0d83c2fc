"""From clips' windows to batches of one size for a network, and back to clips."""

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from cia_extract.clips import Windows
from cia_extract.networks import Engine
from cia_extract.recipes import Recipe

Maps = npt.NDArray[np.float32]


@dataclass
class _Clip:
    maps: list[Maps | None]  # of the distinct windows
    inverse: npt.NDArray[np.intp]  # from the clip's windows to the distinct ones
    lacking: int


class Batcher:
    """Collects the windows of one modality over clips until a batch is full, so that clips with few windows waste none.

    Which windows share a batch may move the last bits of the numbers; with an engine of batch 1 nothing does.
    """

    def __init__(self, engine: Engine, recipe: Recipe, modality: str) -> None:
        self.engine = engine
        self.volume = recipe.backbone == "i3d" and modality != "audio"
        self.scale, self.offset = (torch.from_numpy(values).to(engine.device) for values in scaling(recipe, modality))
        self.windows: list[Tensor] = []
        self.slots: list[tuple[int, int]] = []  # (clip, distinct window) of each
        self.clips: dict[int, _Clip] = {}
        # On a GPU the host goes on while a batch is computed.
        self.depth = 2 if engine.device.type == "cuda" else 0
        self.running: deque[tuple[Tensor, list[tuple[int, int]]]] = deque()
        self.described = 0

    def add(self, key: int, windows: Windows) -> Iterator[tuple[int, Maps]]:
        """Take a clip's windows; yields (key, maps [T, 1024, h, w] float32) of every clip that is finished by it."""
        distinct, inverse = np.unique(windows.rows, axis=0, return_inverse=True)  # short clips repeat windows
        self.clips[key] = _Clip([None] * len(distinct), inverse.reshape(-1), len(distinct))
        images = self._scaled(windows.images)
        for number, rows in enumerate(torch.from_numpy(distinct.astype(np.int64)).to(images.device)):
            self.windows.append(images[rows])
            self.slots.append((key, number))
            if len(self.windows) == self.engine.batch:
                yield from self._run()

    def flush(self) -> Iterator[tuple[int, Maps]]:
        """Run what is left and yield all that was waiting."""
        if self.windows:
            yield from self._run()
        while self.running:
            yield from self._collect()

    def _scaled(self, images: npt.NDArray[Any]) -> Tensor:
        """[U, H, W, C] → float32 (x · scale + offset), with an image of zeros at the end for windows that leave the clip."""
        scaled = torch.zeros((len(images) + 1, *images.shape[1:]), device=self.engine.device)
        torch.mul(torch.from_numpy(images).to(self.engine.device), self.scale, out=scaled[:-1])
        scaled[:-1] += self.offset
        return scaled

    def _batch(self, windows: list[Tensor]) -> Tensor:
        """B × [L, H, W, C] → [B, C, L, H, W] for I3D, [B, L·C, H, W] for BN-Inception (flow: x0, y0, x1, y1, …).

        I3D's stays channels last in memory, as its convolutions want it.
        """
        batch = torch.stack(windows)
        return batch.permute(0, 4, 1, 2, 3) if self.volume else batch.permute(0, 1, 4, 2, 3).flatten(1, 2)

    def _run(self) -> Iterator[tuple[int, Maps]]:
        slots, windows = self.slots, self.windows
        self.slots, self.windows = [], []
        lacking = self.engine.batch - len(windows) if self.engine.fixed else 0
        batch = self._batch(windows + windows[:1] * lacking)
        self.described += len(slots)
        self.running.append((self.engine.run(batch), slots))
        if len(self.running) > self.depth:
            yield from self._collect()

    def _collect(self) -> Iterator[tuple[int, Maps]]:
        result, slots = self.running.popleft()
        maps = result.cpu().numpy()
        for (key, number), one in zip(slots, maps, strict=False):
            clip = self.clips[key]
            clip.maps[number] = one
            clip.lacking -= 1
            if not clip.lacking:
                del self.clips[key]
                yield key, np.stack([clip.maps[i] for i in clip.inverse])


def scaling(recipe: Recipe, modality: str) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32]]:
    """(scale, offset) [C] of a modality, such that x · scale + offset = (x − mean)/std. Spectrograms stay as they are."""
    if modality == "audio":
        return np.ones(1, np.float32), np.zeros(1, np.float32)
    rule = recipe.rgb if modality == "rgb" else recipe.flow
    mean, std = np.array(rule.mean), np.array(rule.std)
    return (1 / std).astype(np.float32), (-mean / std).astype(np.float32)
