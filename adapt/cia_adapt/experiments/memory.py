"""Memory of freed tensors is kept for the next ones. glibc gives large blocks back at once, and the kernel hands out new pages
zeroed and one by one: a sixth of CIA's epoch on a CPU, for up to 0.2 GB more at the peak (benchmarks/RESULTS.md).
"""

import ctypes
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from cia_extract.common.errors import UsageError

# mallopt(3): no block of its own for large requests, nothing given back below 2 GB, 256 MB asked for at a time.
_KEEP: Final = {"M_MMAP_MAX": (-4, 0), "M_TRIM_THRESHOLD": (-1, 2**31 - 1), "M_TOP_PAD": (-2, 2**28)}


def keep_freed() -> bool:
    """For this process, from now on; False where there is no glibc."""
    try:
        mallopt = ctypes.CDLL("libc.so.6").mallopt
    except (OSError, AttributeError):
        return False
    done = [mallopt(parameter, value) for parameter, value in _KEEP.values()]
    return all(done)


@contextmanager
def shortage_said(what: str) -> Iterator[None]:
    """Turn "out of memory" inside, by Python, numpy or torch, on the CPU or a GPU, into a UsageError that begins with `what`."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:  # torch's own error for a GPU is a RuntimeError, and so is the CPU's
        text = str(error)
        if isinstance(error, RuntimeError) and not any(words in text for words in ("out of memory", "allocate memory")):
            raise
        raise UsageError(
            f"{what}: not enough memory; take a smaller --batch, fewer --jobs or --tier map, or lower what --set makes large"
        ) from error
