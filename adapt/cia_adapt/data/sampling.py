"""Which clips and frames make up the batches of an epoch. All of it is drawn before the epoch starts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np

from cia_adapt.data.readers import Positions


@dataclass(frozen=True)
class Draw:
    """One batch: which training clips of each domain, and which of their frames."""

    source: Positions
    """[B_s]: clips by their position among the source's training clips."""
    source_frames: Positions
    """[B_s, S]."""
    target: Positions
    """[B_t]: clips by their position among the target's training clips."""
    target_frames: Positions
    """[B_t, S]."""
    second_source_frames: Positions | None = None
    """[B_s, S]: other frames of the same clips, for objectives that compare two views."""
    second_target_frames: Positions | None = None
    """[B_t, S], likewise."""


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
        """The next `size` positions, [size]."""
        while len(self.waiting) < size:
            self.waiting = np.concatenate([self.waiting, self.random.permutation(self.count)])
        taken, self.waiting = self.waiting[:size], self.waiting[size:]
        return taken

    def state(self) -> dict[str, Any]:
        """The generator's state and the positions still to come, as JSON can hold them."""
        return {"random": self.random.bit_generator.state, "waiting": self.waiting.tolist()}

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where `state` was taken."""
        self.random.bit_generator.state = state["random"]
        self.waiting = np.array(state["waiting"], dtype=np.int64)


def source_order(labels: Positions, balanced: bool, random: np.random.Generator) -> Positions:
    """An epoch's order of the source's clips with these labels [N], as positions [N].

    Each clip comes once. With `balanced` clips are drawn with replacement, so that all classes are equally likely.
    """
    if not balanced:
        return random.permutation(len(labels))
    counts = np.bincount(labels)
    chance = 1 / counts[labels]
    return random.choice(len(labels), size=len(labels), p=chance / chance.sum())


def centre_frames(stored: int, segments: int) -> Positions:
    """TSN's test frames [S], 0-based: the centres of S equal segments of a clip's stored frames.

    >>> centre_frames(25, 5).tolist()
    [2, 7, 12, 17, 22]
    """
    tick = stored / segments
    return np.array([int(tick / 2 + tick * s) for s in range(segments)], dtype=np.int64)


def shifted_frames(stored: int, segments: int, clips: int, random: np.random.Generator) -> Positions:
    """TSN's training frames [B, S], 0-based: one drawn in each of S segments of ⌊T/S⌋ frames, for each clip.

    T is `stored`. Segments of one frame or none leave nothing to draw; every clip then has the centres.
    """
    length = stored // segments
    if length < 2:
        return np.tile(centre_frames(stored, segments), (clips, 1))
    return np.arange(segments) * length + random.integers(length, size=(clips, segments))
