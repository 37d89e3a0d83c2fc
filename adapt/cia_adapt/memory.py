"""Memory of freed tensors is kept for the next ones. glibc gives large blocks back at once, and the kernel hands out new pages
zeroed and one by one: a sixth of CIA's epoch on a CPU, for up to 0.2 GB more at the peak (benchmarks/RESULTS.md).
"""

import ctypes
from typing import Final

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
