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
    """x unchanged; its gradient comes back multiplied by −strength (a number, or a tensor of no dimension).

    >>> x = torch.ones(2, requires_grad=True)
    >>> reverse_gradient(x, 0.5).sum().backward(); x.grad
    tensor([-0.5000, -0.5000])
    """
    result: Tensor = _Reverse.apply(x, strength)
    return result


class GradientReversal(nn.Module):
    """A part's own `reverse_gradient`, for the discriminators of `level`; the training loop sets how far λ has grown."""

    growth: Tensor

    def __init__(self, level: str, strength: float) -> None:
        super().__init__()
        self.level, self.strength = level, strength
        self.register_buffer("growth", torch.ones(()), persistent=False)

    def now(self) -> Tensor:
        """strength × growth, no dimension."""
        return self.strength * self.growth

    def forward(self, x: Tensor) -> Tensor:
        return reverse_gradient(x, self.now())


def ramp(progress: Tensor, slope: float = 10.0, low: float = 0.0) -> Tensor:
    """2(1 − low) / (1 + e^(−slope·p)) − (1 − low) + low: DANN's with slope 10, the EPIC-100 port of TA3N has 1; with `low`,
    TLL's warm start (hi = 1). 1 from the start without `slope`.

    >>> ramp(torch.tensor([0.1, 0.5, 1.0], dtype=torch.float64))
    tensor([0.4621, 0.9866, 0.9999], dtype=torch.float64)
    """
    return 2 * (1 - low) / (1 + torch.exp(-slope * progress)) - 1 + 2 * low if slope else torch.ones_like(progress)
