"""What to lower where a run has not enough memory."""

from contextlib import AbstractContextManager

from cia_extract.common import shortage


def shortage_said(what: str) -> AbstractContextManager[None]:
    """Turn "out of memory" inside into a UsageError that begins with `what`."""
    advice = "take a smaller --batch, fewer --jobs or --tier map, or lower the sizes that --set gives"
    return shortage.shortage_said(what, advice)
