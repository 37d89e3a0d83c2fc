"""Which clips and frames make up the batches of an epoch. All of it is drawn before the epoch starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from cia_extract.clips import sampling

from cia_adapt.data.readers import Positions
from cia_adapt.footage import Crops


@dataclass(frozen=True)
class Draw:
    """One batch: which training clips of each domain, and which of their frames."""

    source: Positions
    """[B_s]: clips by their position among the source's training clips."""
    target: Positions
    """[B_t]: clips by their position among the target's training clips; none where the method does not look at them."""
    views: tuple[tuple[Positions, Positions], ...]
    """(frames of the source's clips [B_s, S], of the target's [B_t, S]) of each view of the same clips."""
    crops: tuple[tuple[Crops, Crops], ...] = ()
    """(of the source's clips [B_s, 5], of the target's [B_t, 5]) of each view, where frames of clips are read."""


class Endless:
    """Batches over 0 … count − 1 in random order, shuffled anew after each pass; every batch is full.

    >>> endless = Endless(3, np.random.default_rng(0))
    >>> sorted(endless.take(2).tolist() + endless.take(1).tolist())
    [0, 1, 2]
    """

    def __init__(self, count: int, random: np.random.Generator) -> None:
        self.count, self.random = count, random
        self.waiting = np.empty(0, dtype=np.int64)

    def take(self, size: int) -> Positions:
        """The next `size` positions."""
        while len(self.waiting) < size:
            self.waiting = np.concatenate([self.waiting, self.random.permutation(self.count)])
        taken, self.waiting = self.waiting[:size], self.waiting[size:]
        return taken

    def state(self) -> dict[str, Any]:
        """As JSON: the random state, and what waits of the present pass."""
        return {"random": self.random.bit_generator.state, "waiting": self.waiting.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.random.bit_generator.state = state["random"]
        self.waiting = np.array(state["waiting"], dtype=np.int64)


def source_order(labels: Positions, balanced: bool, random: np.random.Generator) -> Positions:
    """An epoch's order of the source's clips [N]: each once, or with `balanced` drawn so that every class is as likely."""
    if not balanced:
        return random.permutation(len(labels))
    counts = np.bincount(labels)
    chance = 1 / counts[labels]
    return random.choice(len(labels), size=len(labels), p=chance / chance.sum())


def centre_frames(stored: int, segments: int) -> Positions:
    """[S]: TSN's test frames, the centres of equal segments of the stored frames, 0-based.

    >>> centre_frames(25, 5).tolist()
    [2, 7, 12, 17, 22]
    """
    return sampling.tsn(stored, segments).astype(np.int64)


def test_frames(stored: int, segments: int, samplings: int) -> list[Positions]:
    """`samplings` equidistant samplings [S] of the stored frames, one frame of each segment; one is that of the centres.

    >>> [frames.tolist() for frames in test_frames(6, 2, 3)], [frames.tolist() for frames in test_frames(25, 5, 1)]
    ([[0, 3], [1, 4], [2, 5]], [[2, 7, 12, 17, 22]])
    """
    if samplings == 1:
        return [centre_frames(stored, segments)]
    every = centre_frames(stored, segments * samplings)
    return [every[first::samplings] for first in range(samplings)]


def shifted_frames(stored: int, segments: int, clips: int, random: np.random.Generator) -> Positions:
    """[B, S]: TSN's training frames, one at random in each segment of ⌊T/S⌋; the centres where that is shorter than two."""
    length = stored // segments
    if length < 2:
        return np.tile(centre_frames(stored, segments), (clips, 1))
    return np.arange(segments) * length + random.integers(length, size=(clips, segments))
