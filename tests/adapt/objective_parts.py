"""Outputs to compute objectives of, and the slow arithmetic that they are compared with."""

import math

import numpy as np
import torch
from cia_adapt.parts.interface import Output, Step
from torch import Tensor, nn

SOURCE, TARGET, CLASSES = 4, 6, 3
# The toy inputs of `docs/facts.md`: logits of three clips by two streams, and features of two domains.
Z = torch.tensor([[2.0, 0, 0], [0, 1, -1], [0.5, 0.5, 0]])
Z2 = torch.tensor([[1.0, 1, 0], [0, 2, 0], [0, 0, 1]])
X, Y = torch.tensor([[0.0, 0], [1, 0], [0, 1]]), torch.tensor([[1.0, 1], [2, 1], [1, 3]])
CLIPS = SOURCE + TARGET


def output(streams=("rgb", "flow"), seed: int = 0, width: int = 8, head: str = "average", heads=(CLASSES,)) -> Output:
    generator = torch.Generator().manual_seed(seed)

    def draw(*shape: int) -> dict[str, Tensor]:
        return {s: torch.randn(*shape, generator=generator).requires_grad_() for s in streams}

    return Output(head, heads, draw(CLIPS, 5, width), draw(CLIPS, width), draw(CLIPS, sum(heads)))


def step(second: Output | None = None, progress: float = 0.5, positions=range(TARGET)) -> Step:
    labels = torch.tensor([0, 1, 2, 1])[:, None]
    return Step(labels, torch.arange(CLIPS) >= SOURCE, torch.tensor(positions), torch.tensor(progress), second)


def widths(of: Output) -> dict[str, dict[str, int]]:
    return {"video": {s: x.shape[-1] for s, x in of.videos.items()}, "frame": {s: x.shape[-1] for s, x in of.frames.items()}}


def arrays(tensor: Tensor) -> np.ndarray:
    return tensor.detach().double().numpy()


def slow_mlp(layers: nn.Sequential, x: np.ndarray) -> np.ndarray:
    """FC, ReLU, FC of one vector."""
    w1, b1, w2, b2 = (arrays(p) for p in layers.parameters())
    return w2 @ np.maximum(w1 @ x + b1, 0) + b2


def slow_cross_entropy(logits: np.ndarray, label: int) -> float:
    return math.log(sum(math.exp(x) for x in logits)) - float(logits[label])


def slow_entropy(logits: np.ndarray) -> float:
    p = np.exp(logits) / np.exp(logits).sum()
    return -float(sum(x * math.log(x) for x in p))


def unit(x: np.ndarray) -> np.ndarray:
    return x / np.linalg.norm(x, axis=-1, keepdims=True)


def slow_nce(first: np.ndarray, second: np.ndarray, tau: float) -> float:
    a, b, losses = unit(first), unit(second), []
    for i in range(len(a)):
        losses.append(slow_cross_entropy(np.array([a[i] @ other / tau for other in b]), i))
        losses.append(slow_cross_entropy(np.array([b[i] @ other / tau for other in a]), i))
    return float(np.mean(losses))
