"""TRN, multi-scale temporal relations. Zhou, Andonian, Oliva and Torralba, ECCV 2018, https://arxiv.org/abs/1711.08496 (eq. 2-3).

    R_n = Σ over ordered n-tuples of MLP_n([f_i1; …; f_in]),  n = S … 2;   v = Σ_n R_n;   MLP_n: ReLU, FC n·D → 256, ReLU

At most three tuples of each scale: evenly spaced in their order at evaluation, drawn at random in training (with `even` evenly
spaced in training too, as TA3N does).
"""

import math
from dataclasses import dataclass
from itertools import combinations

import torch
from cia_extract.common.errors import UsageError
from torch import Tensor, nn

from cia_adapt.parts.ranges import Count

MOST_SEGMENTS = 12
SETUP = {"optimiser": "sgd", "lr": 3e-3}  # the supplement, §1: with TRN, SGD with 3e-3


@dataclass(frozen=True)
class Options:
    """Settings of the temporal part `trn`."""

    width: Count = 256
    """Features of each relation, and of the clip."""
    tuples: Count = 3
    """At most so many tuples of frames are related at each scale n = S … 2; the more, the slower."""
    even: bool = False
    """Take evenly spaced tuples in training too, instead of tuples drawn at random."""


class TemporalRelations(nn.Module):
    """The sum of relations of n = S … 2 frames with D = `inputs` features. Raises UsageError for S < 2 and S > 12.

    >>> sum(p.numel() for p in TemporalRelations(512, 5).parameters())
    1836032
    """

    def __init__(self, inputs: int, segments: int, options: Options = Options()) -> None:
        super().__init__()
        if segments > MOST_SEGMENTS:
            raise UsageError(f"--segments {segments}: --temporal trn lists every tuple of frames; give at most {MOST_SEGMENTS}")
        if segments < 2:
            raise UsageError("--temporal trn: relates frames to each other and needs --segments 2 or more")
        self.width, self.options = options.width, options
        self.all_tuples = {n: list(combinations(range(segments), n)) for n in range(segments, 1, -1)}
        self.layers = nn.ModuleDict(
            {str(n): nn.Sequential(nn.ReLU(), nn.Linear(n * inputs, options.width), nn.ReLU()) for n in self.all_tuples}
        )

    def relations(self, frames: Tensor) -> Tensor:
        """Frames [B, S, D] → a relation for each scale, [B, S − 1, width], that of all S frames first."""
        by_scale = []
        for n, layer in self.layers.items():
            picked = torch.tensor(self._picked(int(n)), device=frames.device)  # [tuples, n]
            by_scale.append(layer(frames[:, picked].flatten(2)).sum(1))  # [B, tuples, n·D] → [B, width]
        return torch.stack(by_scale, dim=1)  # [B, S − 1, width]

    def forward(self, frames: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
        """Frames [B, S, D] → (clip [B, width], no domain logits)."""
        return self.relations(frames).sum(1), {}

    def _picked(self, n: int) -> list[tuple[int, ...]]:
        """The tuples of n frames that this pass relates."""
        tuples = self.all_tuples[n]
        if self.training and not self.options.even:
            return [tuples[i] for i in torch.randperm(len(tuples))[: self.options.tuples].tolist()]
        return even_tuples(tuples, self.options.tuples)


def even_tuples(tuples: list[tuple[int, ...]], count: int) -> list[tuple[int, ...]]:
    """`count` of N tuples, evenly spaced: those of number ⌈i N / count⌉, i = 0 … count − 1. All where N ≤ count.

    >>> even_tuples(list(combinations(range(5), 3)), 3)
    [(0, 1, 2), (0, 2, 4), (1, 2, 4)]
    """
    count = min(count, len(tuples))
    return [tuples[math.ceil(i * len(tuples) / count)] for i in range(count)]


def build(width: int, segments: int, options: Options) -> nn.Module:
    """The part for clips of `segments` frames with `width` features. Raises UsageError for too few or too many segments."""
    return TemporalRelations(width, segments, options)
