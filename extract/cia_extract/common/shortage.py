"""Running out of memory is a user's mistake with one line, whoever notices it. Importing this imports no torch."""

from collections.abc import Iterator
from contextlib import contextmanager

from cia_extract.common.errors import UsageError


def is_shortage(error: BaseException) -> bool:
    """Whether an error says "out of memory": Python's and numpy's, or torch's, which is a RuntimeError on a GPU and on a CPU."""
    text = str(error)
    return isinstance(error, MemoryError) or any(words in text for words in ("out of memory", "allocate memory"))


@contextmanager
def shortage_said(what: str, advice: str) -> Iterator[None]:
    """Turn "out of memory" inside, on the CPU or a GPU, into a UsageError: `what` has not enough memory; do as `advice` says."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not is_shortage(error):
            raise
        raise UsageError(f"{what}: not enough memory; {advice}") from error
