"""TV-L1 on the GPU for clips whose frames the workers have sent on: batched across clips of one frame size."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

import torch
from torch import Tensor

from cia_extract.clips import FramePairs, Windows
from cia_extract.clips.flow import levels, tvl1_batched
from cia_extract.recipes import Recipe

PAIRS: Final = 256  # at a time: about 4 GB at 256×341
WAITING_CLIPS: Final = 8  # of rarer frame sizes, before a batch is run that is not full


@dataclass
class _Group:
    """Clips of one frame size."""

    clips: list[tuple[int, FramePairs]] = field(default_factory=list)
    pairs: int = 0


class DeviceFlow:
    """Collects grey frames; gives each clip's windows of quantised, cropped flow."""

    def __init__(self, recipe: Recipe, device: torch.device) -> None:
        self.rule, self.crop, self.device = recipe.flow, recipe.picture.crop, device
        self.parameters = tvl1_batched.Parameters(median=recipe.flow.median)
        self.groups: dict[tuple[int, ...], _Group] = {}
        self.computed = 0

    def add(self, key: int, pairs: FramePairs) -> Iterator[tuple[int, FramePairs, Windows]]:
        """Take a clip; yields (key, pairs, windows) of clips whose batch was filled by it."""
        group = self.groups.setdefault(pairs.grey.shape[1:], _Group())
        group.clips.append((key, pairs))
        group.pairs += len(pairs.rows)
        if group.pairs >= PAIRS or sum(len(other.clips) for other in self.groups.values()) > WAITING_CLIPS:
            yield from self._run(max(self.groups, key=lambda size: self.groups[size].pairs))

    def flush(self) -> Iterator[tuple[int, FramePairs, Windows]]:
        """Compute what is waiting, and yield it as `add` does."""
        for size in list(self.groups):
            yield from self._run(size)

    def _run(self, size: tuple[int, ...]) -> Iterator[tuple[int, FramePairs, Windows]]:
        group = self.groups.pop(size)
        first, second = [], []
        for _, pairs in group.clips:
            grey = torch.from_numpy(pairs.grey).to(self.device)
            rows = torch.from_numpy(pairs.rows).long().to(self.device)
            first.append(grey[rows[:, 0]])
            second.append(grey[rows[:, 1]])
        together = zip(torch.cat(first).split(PAIRS), torch.cat(second).split(PAIRS), strict=True)
        flows = torch.cat([self._quantised(tvl1_batched.flow(a, b, self.parameters)) for a, b in together]).cpu().numpy()
        self.computed += len(flows)
        position = 0
        for key, pairs in group.clips:
            yield key, pairs, Windows(flows[position : position + len(pairs.rows)], pairs.windows)
            position += len(pairs.rows)

    def _quantised(self, flow: Tensor) -> Tensor:
        """[B, 2, H, W] px → [B, crop, crop, 2] uint8: the centre crop, and what `quantise` does, on the device."""
        top, left = (flow.shape[2] - self.crop) // 2, (flow.shape[3] - self.crop) // 2
        flow = flow[:, :, top : top + self.crop, left : left + self.crop].permute(0, 2, 3, 1)
        return levels(flow, self.rule.bound, self.rule.quantiser).to(torch.uint8)
