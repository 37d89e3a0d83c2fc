"""What a computation costs, as torch counts it."""

from collections.abc import Callable, Iterable, Mapping

import torch
from torch import Tensor, nn
from torch.utils.flop_counter import FlopCounterMode

from cia_adapt.data import to_device
from cia_adapt.model import VideoModel


def flops(action: Callable[[], object]) -> int:
    """Floating-point operations of one call's products and convolutions."""
    with FlopCounterMode(display=False) as counter:
        action()
    return int(counter.get_total_flops())


@torch.no_grad()
def macs_per_clip(model: VideoModel, batch: Mapping[str, Tensor]) -> float:
    """Multiply-accumulates of products and convolutions in one evaluation of a clip; the backbone's are not among them."""
    model.eval()
    on_device = to_device(batch, next(model.parameters()).device)
    return flops(lambda: model(on_device)) / 2 / len(next(iter(batch.values())))


def saved_bytes(action: Callable[[], object]) -> int:
    """Bytes of activations that one forward keeps for its gradient, parameters and inputs among them."""
    held: dict[int, int] = {}

    def pack(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        held[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        kept = action()  # its graph keeps all of them, so that no two have one address
    del kept
    return sum(held.values())


def recomputed_bytes(layers: Iterable[nn.Module], action: Callable[[], object]) -> int:
    """Bytes of activations that the largest of these layers keeps while it is computed again, alone, for its gradient.

    `action` is a forward that calls them all.
    """
    sizes = [0]

    def measure(layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        sizes.append(saved_bytes(lambda: layer.forward(*inputs)))

    hooks = [layer.register_forward_pre_hook(measure) for layer in layers]
    action()
    for hook in hooks:
        hook.remove()
    return max(sizes)
