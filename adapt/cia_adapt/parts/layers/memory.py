"""The latest clips that an objective remembers beyond the batch."""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn


class Memory(nn.Module):
    """The latest `size` projections of clips, a ring: {stream: [size, width]}, and their classes (−1: none).

    Args:
        labels: the classes are [size, labels]; None: one label, [size].

    The buffers' names are those that states of runs have.
    """

    classes: Tensor
    next: Tensor

    def __init__(self, streams: Sequence[str], size: int, width: int, labels: int | None = None) -> None:
        super().__init__()
        for stream in streams:
            self.register_buffer(f"features_{stream}", torch.zeros(size, width))
        self.register_buffer("classes", torch.full((size,) if labels is None else (size, labels), -1))
        self.register_buffer("next", torch.zeros((), dtype=torch.long))

    def features(self, stream: str) -> Tensor:
        """A stream's projections [size, width], as a copy, since `push` writes in place."""
        features: Tensor = getattr(self, f"features_{stream}")
        return features.clone()

    def push(self, features: Mapping[str, Tensor], classes: Tensor) -> None:
        """Put clips in place of the oldest: {stream: [B, width]} and their classes. The last `size` of them stay."""
        size = len(self.classes)
        if not size:
            return
        classes = classes[-size:]
        places = (self.next + torch.arange(len(classes), device=classes.device)) % size
        self.classes[places] = classes
        for stream, feature in features.items():
            getattr(self, f"features_{stream}")[places] = feature[-size:].detach().float()
        self.next = (self.next + len(classes)) % size
