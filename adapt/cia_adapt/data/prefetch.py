"""Have the next batch at hand when training asks for it: a thread reads ahead, or the kernel does."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Request = TypeVar("Request")
Batch = TypeVar("Batch")


def prefetched(requests: Iterable[Request], read: Callable[[Request], Batch]) -> Iterator[tuple[Request, Batch]]:
    """(request, read(request)) in order; a thread reads one batch ahead. An error of `read` is raised when its turn comes."""
    waiting = iter(requests)
    with ThreadPoolExecutor(1, thread_name_prefix="prefetch") as pool:
        request = next(waiting, None)
        future = None if request is None else pool.submit(read, request)
        while future is not None and request is not None:
            batch = future.result()
            following = next(waiting, None)
            future = None if following is None else pool.submit(read, following)
            yield request, batch
            request = following


def announced(
    requests: Iterable[Request], announce: Callable[[Request], None], read: Callable[[Request], Batch]
) -> Iterator[tuple[Request, Batch]]:
    """(request, read(request)) in order; this thread reads each at its turn, and announces it one turn earlier.

    For training on a CPU. There a thread that copies would take a core from the matrix products, whose threads all wait for the
    slowest; and memory that a thread allocates is new pages each time. Together: 2 of 16 s of CIA's epoch on two cores
    (benchmarks/RESULTS.md).
    """
    waiting = iter(requests)
    following = next(waiting, None)
    while following is not None:
        request, batch, following = following, read(following), next(waiting, None)
        if following is not None:
            announce(following)
        yield request, batch
