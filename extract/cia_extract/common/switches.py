"""Switches that hold for a whole process, each set here and nowhere else.

Context managers put back what was set before. Importing this imports neither torch nor OpenCV.
"""

import ctypes
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cia_extract.common import machine

# mallopt(3): no block of its own for large requests, nothing given back below 2 GB, 256 MB asked for at a time.
_KEEP: Final = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 2**28)}


@contextmanager
def tf32(allowed: bool) -> Iterator[None]:
    """Whether CUDA's products and convolutions may use TF32. torch's default for convolutions is yes."""
    import torch

    matmul, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = matmul.allow_tf32, cudnn.allow_tf32
    matmul.allow_tf32 = cudnn.allow_tf32 = allowed
    try:
        yield
    finally:
        matmul.allow_tf32, cudnn.allow_tf32 = before


@contextmanager
def deterministic_cudnn(wanted: bool = True) -> Iterator[None]:
    """cuDNN takes the same algorithm every time, and tries none out. Nothing is switched where it is not `wanted`."""
    import torch

    cudnn = torch.backends.cudnn
    before = cudnn.deterministic, cudnn.benchmark
    if wanted:
        cudnn.deterministic, cudnn.benchmark = True, False
    try:
        yield
    finally:
        cudnn.deterministic, cudnn.benchmark = before


@contextmanager
def frozen_weights() -> Iterator[None]:
    """torch.compile takes weights for constants. A network is compiled when it first runs, so it runs inside this."""
    import torch._inductor.config as inductor

    with inductor.patch(freezing=True):
        yield


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch computes on so many cores."""
    import torch

    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


def threads_within_quota() -> None:
    """Before torch is imported: no more threads than a container or scheduler grants; by itself it asks for the mask of cores."""
    if machine.cores() < machine.in_mask():
        os.environ.setdefault("OMP_NUM_THREADS", str(machine.cores()))


@contextmanager
def one_thread() -> Iterator[None]:
    """torch and OpenCV compute on one core, as they do in worker processes."""
    import cv2
    import torch

    before = torch.get_num_threads(), cv2.getNumThreads()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before[0])
        cv2.setNumThreads(before[1])


def one_thread_for_good() -> None:
    """For a worker process, before it imports torch: it computes on one core, for the processes are the parallelism."""
    import cv2

    cv2.setNumThreads(1)
    os.environ["OMP_NUM_THREADS"] = "1"  # torch's


def ray_environment() -> None:
    """Before Ray starts: actors without a GPU still see those of the machine, and nothing is reported to Ray's makers."""
    os.environ.setdefault("RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO", "0")
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")


def openvino_without_telemetry() -> None:
    """Before OpenVINO is imported: it reports nothing to Intel or to Google, which it does by default, from a forked process.

    Without the package `openvino_telemetry` it takes a stub of its own. Who imported that package before has chosen already.
    """
    sys.modules.setdefault("openvino_telemetry", None)  # type: ignore[arg-type]


def keep_freed_memory() -> bool:
    """The memory of freed tensors is kept for the next ones, in this process, from now on; False where there is no glibc.

    glibc gives large blocks back at once, and the kernel hands out new pages zeroed and one by one: a sixth of CIA's epoch on a
    CPU, for up to 0.2 GB more at the peak (benchmarks/RESULTS.md). glibc cannot be asked what was set before.
    """
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    done = [mallopt(parameter, value) for parameter, value in _KEEP.values()]
    return all(done)
