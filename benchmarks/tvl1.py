"""TV-L1 in torch: pairs a second at 256×340, its distance to OpenCV's, and how many iterations that took.

python benchmarks/tvl1.py --device cuda --batches 64 128 256
OMP_NUM_THREADS=1 python benchmarks/tvl1.py --device cpu --batches 1 4 --compile --rounds 1 --clips CLIP [CLIP …]

Batched (`tvl1`); on a CPU also one pair at a time (`tvl1_pair`, as extraction has it there) and OpenCV, on one core each. Pairs
are rendered, or the middle ones of clips, two of each, as far as they are of one size.
"""

import argparse
import statistics
import sys
import time
from pathlib import Path
from typing import Any
from unittest import mock

import cv2
import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

sys.path.insert(0, str(Path(__file__).parent))
from cia_extract import clips, recipes
from cia_extract.clips import picture as preprocess
from cia_extract.clips.flow import tvl1_batched, tvl1_pair
from common import machine, side_by_side

HEIGHT, WIDTH = 256, 340
MOTION = 8.0  # px, the largest


def smooth_noise(count: int, channels: int, cell: float, generator: torch.Generator) -> Tensor:
    """Noise with features of `cell` px, in [−1, 1], [count, channels, HEIGHT, WIDTH]."""
    size = [count, channels, round(HEIGHT / cell) + 3, round(WIDTH / cell) + 3]
    noise = F.interpolate(torch.randn(size, generator=generator), (HEIGHT, WIDTH), mode="bicubic", align_corners=True)
    return noise / noise.abs().amax((1, 2, 3), keepdim=True)


def render(count: int, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Textured frames [count, H, W] uint8 and the same moved, by a smooth field for the scene and another for what stands
    before it; each pair's strength is drawn from 0 … MOTION px; sensor noise of two grey levels. Edges of motion and noise make
    this about as slow to converge as clips of UCF101 and HMDB51: 170 to 810 iterations at full size, 380 in the mean.
    """
    generator = torch.Generator().manual_seed(seed)
    texture = torch.stack([smooth_noise(count, 1, cell, generator) * cell**0.5 for cell in (4, 8, 24, 80)]).sum(0)
    strength = MOTION * torch.rand(count, 1, 1, 1, generator=generator)
    before = smooth_noise(count, 1, 60, generator) > 0.2
    motion = torch.where(before, smooth_noise(count, 2, 70, generator), smooth_noise(count, 2, 70, generator)) * strength
    rows, columns = torch.meshgrid(torch.arange(HEIGHT), torch.arange(WIDTH), indexing="ij")
    where = torch.stack((columns, rows)) - motion
    scale = torch.tensor([2 / (WIDTH - 1), 2 / (HEIGHT - 1)])
    moved = F.grid_sample(
        texture, where.permute(0, 2, 3, 1) * scale - 1, mode="bicubic", padding_mode="reflection", align_corners=True
    )
    low, high = texture.amin((1, 2, 3), keepdim=True), texture.amax((1, 2, 3), keepdim=True)
    frames = [(image - low) / (high - low) * 215 + 20 for image in (texture, moved)]
    noisy = [image + 2 * torch.randn(image.shape, generator=generator) for image in frames]
    still, moving = (image[:, 0].round().clamp(0, 255).to(torch.uint8) for image in noisy)
    return still, moving


def of_clips(paths: list[Path]) -> tuple[Tensor, Tensor]:
    """The two pairs in the middle of each clip, grey, scaled as for I3D; clips of another size than the first are left out."""
    pairs: list[tuple[np.ndarray, np.ndarray]] = []
    for path in paths:
        picture = recipes.load("kinetics").picture
        frames = [preprocess.grey(preprocess.resize(frame.image, picture)) for frame in clips.decode(path)]
        middle = len(frames) // 2
        if not pairs or frames[0].shape == pairs[0][0].shape:
            pairs += [(frames[t], frames[t + 1]) for t in (middle - 1, middle)]
    first, second = (torch.from_numpy(np.stack(side)) for side in zip(*pairs, strict=True))
    return first, second


def iterations(first: Tensor, second: Tensor) -> tuple[float, float]:
    """Inner iterations of a pair, all levels counted alike, and weighed by the pixels of their level."""
    plain, counted, weighed = tvl1_batched._steps, 0, 0.0

    def counting(state, active, *rest):
        nonlocal counted, weighed
        counted += int(active.sum())
        weighed += int(active.sum()) * state[0][0].numel() / (HEIGHT * WIDTH)
        return plain(state, active, *rest)

    with mock.patch.object(tvl1_batched, "_steps", counting), mock.patch.object(tvl1_batched, "CHUNK", 1):
        tvl1_batched.flow(first, second, compile=False)
    return counted / len(first), weighed / len(first)


def seconds(first: Tensor, second: Tensor, fused: bool) -> float:
    began = time.perf_counter()
    tvl1_batched.flow(first, second, compile=fused).sum().item()  # .item() waits for the device
    return time.perf_counter() - began


def on_one_core(first: Tensor, second: Tensor, rounds: int) -> None:
    """Pair by pair, `tvl1_pair` and OpenCV in turns; how far ours are from OpenCV's."""
    method: Any = cv2.optflow.createOptFlow_DualTVL1()  # OpenCV's types forbid no initial flow
    pairs = list(zip(first.cpu().numpy(), second.cpu().numpy(), strict=True))
    threads = torch.get_num_threads()
    cv2.setNumThreads(1)
    torch.set_num_threads(1)
    medians = side_by_side(
        {
            "one pair, in place": lambda: [tvl1_pair.flow(a, b) for a, b in pairs],
            "OpenCV": lambda: [method.calc(a, b, None) for a, b in pairs],
        },
        rounds,
    )
    for name, median in medians.items():
        print(f"{name}, one core: {median / len(pairs) * 1e3:.0f} ms a pair, {medians['OpenCV'] / median:.2f}× OpenCV's speed")
    torch.set_num_threads(threads)
    distance("one pair, in place", np.stack([tvl1_pair.flow(a, b) for a, b in pairs]), first, second)


def distance(name: str, ours: np.ndarray, first: Tensor, second: Tensor) -> None:
    """Of flows [B, H, W, 2] from OpenCV's."""
    method: Any = cv2.optflow.createOptFlow_DualTVL1()  # OpenCV's types forbid no initial flow
    pairs = zip(first.cpu().numpy(), second.cpu().numpy(), strict=True)
    theirs = np.stack([method.calc(a, b, None) for a, b in pairs])
    apart = np.linalg.norm(ours - theirs, axis=-1)
    print(f"{name} against OpenCV {cv2.__version__}, {len(theirs)} pairs: mean {apart.mean():.4f} px, worst pair "
          f"{apart.mean((1, 2)).max():.4f} px; mean motion {np.linalg.norm(theirs, axis=-1).mean():.2f} px")  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--batches", type=int, nargs="+", default=[64, 128, 256])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--clips", type=Path, nargs="+", default=[], help="real pairs instead of rendered ones")
    parser.add_argument("--compile", action=argparse.BooleanOptionalAction, help="batched by torch.compile [default: on a GPU]")
    options = parser.parse_args()
    fused = options.device != "cpu" if options.compile is None else options.compile

    print(f"{machine()}, {'compiled' if fused else 'eager'}")
    made = of_clips(options.clips) if options.clips else render(max(options.batches))
    first, second = (frames.to(options.device) for frames in made)
    few = slice(None, None, max(1, len(first) // 8))
    total, weighed = iterations(first[few], second[few])
    print(f"inner iterations a pair: {total:.0f}, as many as {weighed:.0f} at full size (mean of {len(first[few])} pairs)")
    for count in options.batches:
        a, b = first[:count], second[:count]
        count = len(a)
        warm_up = seconds(a, b, fused)
        median = statistics.median(seconds(a, b, fused) for _ in range(options.rounds))
        print(
            f"batch {count:4d}: {count / median:8.1f} pairs/s, {median / count * 1e3:8.2f} ms a pair (first call {warm_up:.1f} s)"
        )
    if options.device != "cpu":
        print(f"largest memory {torch.cuda.max_memory_allocated() / 2**30:.1f} GiB")
    else:
        on_one_core(first[few][:8], second[few][:8], options.rounds)
    steps = 0 if int(cv2.__version__.split(".")[0]) >= 5 else 32
    batched = tvl1_batched.flow(first[few][:8], second[few][:8], tvl1_batched.Parameters(warp_steps=steps), fused)
    distance("batched", batched.permute(0, 2, 3, 1).cpu().numpy(), first[few][:8], second[few][:8])


if __name__ == "__main__":
    main()
