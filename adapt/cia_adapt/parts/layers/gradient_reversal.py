"""Gradient reversal: the identity forwards, −λ times the gradient backwards; and the ramp of λ.

Ganin and Lempitsky, "Unsupervised Domain Adaptation by Backpropagation", ICML 2015, https://arxiv.org/abs/1409.7495.
"""

from typing import Any

import torch
from torch import Tensor, nn


class _Reverse(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, strength: float | Tensor) -> Tensor:
        ctx.strength = strength
        return x.view_as(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return -ctx.strength * gradient, None


def reverse_gradient(x: Tensor, strength: float | Tensor) -> Tensor:
    """Return x [any shape] unchanged; its gradient is multiplied by −strength (a number, or a tensor of no dimension).

    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(x, 0.5).sum().backward(); x.grad
    tensor([-0.5000, -0.5000])
    """
    result: Tensor = _Reverse.apply(x, strength)
    return result


class GradientReversal(nn.Module):
    """Gradient reversal for the discriminators that a part owns: −λ times the gradient, λ = strength × growth.

    Args:
        level: the discriminators' level ("relation", "region"), by which metrics name them.
        strength: λ at full growth.

    The training loop sets the buffer `growth` (0 … 1, no dimension) before each step.
    """

    growth: Tensor

    def __init__(self, level: str, strength: float) -> None:
        super().__init__()
        self.level, self.strength = level, strength
        self.register_buffer("growth", torch.ones(()), persistent=False)

    def now(self) -> Tensor:
        """λ at this step, strength × growth: a tensor of no dimension."""
        return self.strength * self.growth

    def forward(self, x: Tensor) -> Tensor:
        """x [any shape], unchanged."""
        return reverse_gradient(x, self.now())


def ramp(progress: Tensor, slope: float = 10.0, low: float = 0.0) -> Tensor:
    """Growth of λ from `low` towards 1 while training proceeds: 2(1 − low) / (1 + e^(−slope·p)) − 1 + 2·low.

    Args:
        progress: p, the share of steps done, 0 … 1.
        slope: how fast it grows. DANN has 10, TA3N's port to EPIC-100 has 1. With 0 the result is 1 throughout.
        low: where it starts. DANN has 0; TLL's warm start has more.

    >>> ramp(torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64))
    tensor([0.4621, 0.9866, 0.9999], dtype=torch.float64)
    """
    return 2 * (1 - low) / (1 + torch.exp(-slope * progress)) - 1 + 2 * low if slope else torch.ones_like(progress)
