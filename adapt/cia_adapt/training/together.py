"""Several processes that train one run (torchrun): each computes its share of every batch, and all take the same step.

Every process draws the same batches from the same random states and keeps its share, so that the clips, frames and crops of a
step are those of one process with the same --batch. Gradients are averaged once a step, before they are clipped, as
torch.nn.parallel.DistributedDataParallel averages them; by one sum over all of them instead of its hooks, since a step may have
several backward passes. Evaluation is shared by batches.

In one process all of this does nothing.
"""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from typing import Any, TypeVar

import numpy as np
import torch
from cia_extract.common.errors import CiaError
from torch import Tensor, distributed, nn

from cia_adapt.data import Draw, Positions

Value = TypeVar("Value")


def asked() -> int:
    """How many processes torchrun has started: 1 without it."""
    return int(os.environ.get("WORLD_SIZE", "1"))


@contextmanager
def joined(device: torch.device) -> Iterator[None]:
    """Inside this context the processes that torchrun has started know each other: by NCCL on GPUs, by Gloo on CPUs."""
    if asked() == 1:
        yield
        return
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    try:
        yield
        distributed.barrier()
    finally:
        distributed.destroy_process_group()


def own_device(device: torch.device) -> torch.device:
    """This process's GPU, where several have been asked to train on GPUs."""
    if asked() == 1 or device.type != "cuda":
        return device
    own = torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    torch.cuda.set_device(own)
    return own


def size() -> int:
    """Number of processes that train together."""
    return distributed.get_world_size() if distributed.is_initialized() else 1


def rank() -> int:
    """This process's number, from 0."""
    return distributed.get_rank() if distributed.is_initialized() else 0


def led(decide: Callable[[], Value]) -> Value:
    """What the first process decides; the others do not look for themselves, and get its value. Its CiaError is raised in all.

    So processes whose disks differ do not wait for each other for ever.
    """
    if size() == 1:
        return decide()
    decided: list[Any] = [None, None]
    if rank() == 0:
        try:
            decided[0] = decide()
        except CiaError as error:
            decided[1] = error
    distributed.broadcast_object_list(decided)
    if decided[1] is not None:
        raise decided[1]
    value: Value = decided[0]
    return value


def share(draw: Draw) -> Draw:
    """This process's clips of a batch, as many as every other's: where they do not divide, the first ones are taken twice."""
    if size() == 1:
        return draw
    source, target = _own(len(draw.source)), _own(len(draw.target))
    views = tuple((of_source[source], of_target[target]) for of_source, of_target in draw.views)
    crops = tuple((of_source[source], of_target[target]) for of_source, of_target in draw.crops)
    return replace(draw, source=draw.source[source], target=draw.target[target], views=views, crops=crops)


def _own(clips: int) -> Positions:
    return np.arange(rank(), -(-clips // size()) * size(), size()) % max(clips, 1)


def part_ways(seed: int) -> None:
    """From here on, once the models are made alike, each process has random numbers of its own: for dropout."""
    if rank():
        torch.manual_seed(seed + 1_000_003 * rank())


def average_gradients(parameters: Sequence[nn.Parameter]) -> None:
    """Put the mean over the processes in the place of each gradient."""
    if size() == 1:
        return
    gradients = [parameter.grad for parameter in parameters if parameter.grad is not None]
    flat = torch.cat([gradient.flatten() for gradient in gradients])
    for gradient, mean in zip(gradients, mean_of(flat).split([gradient.numel() for gradient in gradients]), strict=True):
        gradient.copy_(mean.view_as(gradient))


def average_statistics(model: nn.Module) -> None:
    """Put the mean over the processes in the place of each buffer, such as batch normalisation's statistics."""
    if size() == 1:
        return
    for buffer in model.buffers():
        if buffer.is_floating_point():
            buffer.copy_(mean_of(buffer))


def mean_of(values: Tensor) -> Tensor:
    """The mean over the processes."""
    if size() == 1:
        return values
    total = values.detach().clone()
    distributed.all_reduce(total)
    return total / size()


def all_of(own: list[tuple[int, Value]]) -> list[Value]:
    """What all processes have, (number, value), in the order of the numbers."""
    if size() == 1:
        return [value for _, value in own]
    gathered: list[list[tuple[int, Value]]] = [[] for _ in range(size())]
    with torch.inference_mode(False):  # torch 2.4 gathers in place, into tensors that inference mode would freeze
        distributed.all_gather_object(gathered, own)
    return [value for _, value in sorted((one for part in gathered for one in part), key=lambda one: one[0])]
