"""What the benchmark scripts share: timing side by side, and a line on the machine."""

import platform
import statistics
import time
from collections.abc import Callable
from pathlib import Path


def side_by_side(variants: dict[str, Callable[[], object]], rounds: int = 5) -> dict[str, float]:
    """Median seconds of each variant; one warm-up each, then in turns, so that a noisy moment hits all alike."""
    for run in variants.values():
        run()
    seconds: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(rounds):
        for name, run in variants.items():
            began = time.perf_counter()
            run()
            seconds[name].append(time.perf_counter() - began)
    return {name: statistics.median(values) for name, values in seconds.items()}


def print_table(medians: dict[str, float], reference: str, per: str, divide: float = 1.0) -> None:
    """Milliseconds and the ratio to the reference."""
    print(machine())
    for name, seconds in medians.items():
        print(
            f"{name:<48} {seconds / divide * 1e3:10.2f} ms {per}   {medians[reference] / seconds:6.2f}× the speed of {reference}"
        )


def machine() -> str:
    import torch

    names = [line.split(":")[1].strip() for line in Path("/proc/cpuinfo").read_text().splitlines() if "model name" in line]
    gpu = f", {torch.cuda.get_device_name()}" if torch.cuda.is_available() else ""
    return f"{len(names)} × {names[0]}{gpu}, Python {platform.python_version()}, torch {torch.__version__}"
