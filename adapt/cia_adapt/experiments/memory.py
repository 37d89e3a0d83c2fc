"""Running out of memory is a user's mistake with one line, whoever notices it."""

from collections.abc import Iterator
from contextlib import contextmanager

from cia_extract.common.errors import UsageError


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
            f"{what}: not enough memory; take a smaller --batch, fewer --jobs or --tier map, or lower the sizes that --set gives"
        ) from error
