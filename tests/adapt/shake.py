"""Modules as they are after some training, for tests of their arithmetic."""

import torch
from torch import nn


def shaken(module: nn.Module, seed: int = 0, size: float = 0.5) -> nn.Module:
    """The module with all parameters drawn at random from N(0, size²)."""
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for parameter in module.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * size)
    return module
