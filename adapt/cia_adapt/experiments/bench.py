"""`cia-adapt bench`: how fast features are read, tier by tier, and how fast methods train, on this machine and file."""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace

import numpy as np
import torch

from cia_adapt.data import Clips, Stores, Tier, arrays_to_read, fits, shifted_frames, to_device
from cia_adapt.experiments.cost import flops
from cia_adapt.experiments.directions import prepared, task_of
from cia_adapt.experiments.request import Request
from cia_adapt.experiments.threads import threads_of_a_step
from cia_adapt.training import Trainer

SIZES = (256, 512, 1024, 2048)  # of the square product by which the peak is measured
PRODUCT_S = 1.0  # at most for one product; processors without bf16 need most of a minute for the largest


def lines(requests: Sequence[Request], steps: int) -> Iterator[str]:
    """Printed lines; one request per method. Raises UsageError, DataError."""
    device = requests[0].device
    peak, size = peak_gflops(device, requests[0].precision)
    yield f"peak: {peak:.0f} GFLOP/s, {requests[0].precision} products of {size}×{size}, {torch.get_num_threads()} threads"
    yield "reading one batch that is in the page cache:"
    tiers: list[Tier] = ["map", "ram", *(["device"] if device.type == "cuda" else [])]  # type: ignore[list-item]
    for maps in (False, True):
        request = next((r for r in requests if r.chosen.method.needs_maps == maps), None)
        for tier in tiers if request is not None else []:
            if _fits(request, tier):  # type: ignore[arg-type]
                yield _reading(request, tier, steps)  # type: ignore[arg-type]
            else:
                yield f"  {'maps' if maps else 'vectors'} do not fit tier {tier}"
    yield "training, reading included:"
    for request in requests:
        for tier in (tier for tier in tiers if _fits(request, tier)):
            with threads_of_a_step(request, next(prepared(request, lambda message: None))):
                line = _training(replace(request, tier=tier), steps, peak)
            yield line


def _fits(request: Request, tier: Tier) -> bool:
    """Whether the arrays of a direction have room in a machine's or a GPU's memory."""
    direction = next(prepared(request, lambda message: None))
    arrays = arrays_to_read(direction.source, direction.target, direction.modalities, direction.method.needs_maps).values()
    regions = [d.dataset.regions[name] for d in (direction.source, direction.target) for name in arrays]
    size = sum(int(np.prod(region.shape)) * region.dtype.itemsize for region in regions)
    return fits(size, request.device, tier)


def _reading(request: Request, tier: Tier, steps: int) -> str:
    direction = next(prepared(request, lambda message: None))
    stores = Stores(request.device, tier)
    task, _ = task_of(direction, stores)
    clips = task.source_train.clips
    random = np.random.default_rng(0)
    count = min(direction.setup.batch, len(clips))
    positions = random.permutation(len(clips))[:count]
    frames = shifted_frames(clips.frames, direction.setup.segments, count, random)

    def read() -> int:
        batch = to_device(clips.batch(positions, frames), request.device)
        return sum(x.numel() * x.element_size() for x in batch.values())

    size = read()
    seconds = _median(read, max(steps, 5))
    kind = "maps" if request.chosen.method.needs_maps else "vectors"
    return f"  {kind:<8} {_tier(clips):<7} {size / seconds / 1e9:8.2f} GB/s {count / seconds:10.0f} clips/s"


def _training(request: Request, steps: int, peak: float) -> str:
    direction = next(prepared(request, lambda message: None))
    stores = Stores(request.device, request.tier)
    task, _ = task_of(direction, stores)
    trainer = Trainer(task, direction.setup, direction.method, 0, request.device, request.precision, request.compiled)
    trainer.cluster()
    trainer.model.train()
    draw = trainer.draws()[0]
    counted = flops(lambda: trainer.train_step(draw, trainer.read(draw)))
    seconds = _median(lambda: trainer.train_step(draw, trainer.read(draw)), steps, request.device)
    clips = len(draw.source) + len(draw.target)
    share = f"{100 * counted / seconds / 1e9 / peak:5.1f} % of the peak" if counted else ""
    where, method = _tier(task.source_train.clips), direction.method.name
    return (
        f"  {method:<24} {where:<7} {1e3 * seconds:9.1f} ms a step of {len(draw.source)} + {len(draw.target)} clips "
        f"{clips / seconds:8.0f} clips/s {seconds * len(task.source_train.clips) / len(draw.source):8.2f} s an epoch {share}"
    )


def _tier(clips: Clips) -> str:
    """Where they are read from in fact: a foreign file has no map."""
    return next(iter(clips.readers.values())).tier


def peak_gflops(device: torch.device, precision: str = "fp32") -> tuple[float, int]:
    """(GFLOP/s, size) of the best of five square products, of the largest of `SIZES` that should take no longer than `PRODUCT_S`:
    eight times as long as the size before."""
    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    for size in SIZES:
        a, b = (torch.randn(size, size, device=device).to(dtype) for _ in range(2))
        best = min(timed(lambda a=a, b=b: a @ b, device) for _ in range(5))  # type: ignore[misc]
        if 8 * best > PRODUCT_S:
            break
    return 2 * size**3 / best / 1e9, size


def _median(action: Callable[[], object], times: int, device: torch.device | None = None) -> float:
    return float(np.median([timed(action, device) for _ in range(times)]))


def timed(action: Callable[[], object], device: torch.device | None) -> float:
    """Seconds of one call, to the end of what it has a GPU do."""
    on_gpu = device is not None and device.type == "cuda"
    if on_gpu:
        torch.cuda.synchronize(device)
    began = time.perf_counter()
    action()
    if on_gpu:
        torch.cuda.synchronize(device)
    return time.perf_counter() - began
