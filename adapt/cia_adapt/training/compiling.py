"""--compile: the model through torch.compile, with CUDA graphs where they fit."""

from collections.abc import Callable
from typing import Any

import torch
from torch import nn
from torch._functorch import config


def compiled_model(model: nn.Module, device: torch.device, second_view: bool) -> Callable[..., Any]:
    """The model, compiled at its first call.

    Args:
        second_view: an objective runs it twice a step. A CUDA graph overwrites its outputs at the next call: then there is none.
    """
    # Parts of the loss go backward before the whole and keep the graph (retain_graph): its buffers must not be given away.
    if hasattr(config, "donated_buffer"):  # not yet in torch 2.4, which gives none away
        config.donated_buffer = False
    return torch.compile(model, mode="reduce-overhead" if device.type == "cuda" and not second_view else None)
