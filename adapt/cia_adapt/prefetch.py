"""Read the next batch while this one is computed."""

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
