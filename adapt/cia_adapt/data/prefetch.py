"""Have the next batch at hand when it is wanted: read ahead in a thread, or by the kernel."""

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

Request = TypeVar("Request")
Batch = TypeVar("Batch")


def prefetched(requests: Iterable[Request], read: Callable[[Request], Batch]) -> Iterator[tuple[Request, Batch]]:
    """(request, read(request)) in order, one batch ahead in a thread. An error of `read` is raised at its turn."""
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
    """(request, read(request)) in order, each read at its turn, in this thread, and announced one earlier.

    For a CPU, where a thread that copies would take a core from the products: all of their threads then wait for the one that
    shares it, and what a thread allocates is new pages each time: 2 of 16 s of CIA's epoch on two cores (benchmarks/RESULTS.md).
    """
    waiting = iter(requests)
    following = next(waiting, None)
    while following is not None:
        request, batch, following = following, read(following), next(waiting, None)
        if following is not None:
            announce(following)
        yield request, batch
