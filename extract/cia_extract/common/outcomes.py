"""What can become of a clip: the outcomes, as the feature file and the summary name them."""

from dataclasses import dataclass
from typing import Final

from cia_extract.common.errors import DataError

# Stored as uint8 by position; only append. "ok", "short", "no audio" and "damaged" go with status "done", others with "failed".
OUTCOMES: Final = (
    "",
    "ok",
    "short",  # fewer frames than are described, or sound shorter than its windows: frames repeat, sound is padded and masked
    "no audio",  # zeros, all masked
    "partial decode",  # ends before its header says it should
    "decode error",
    "timeout",
    "not finite",
    "missing",  # no such file
    "damaged",  # usable, but the decoder concealed errors in some frames
)

MESSAGE_BYTES: Final = 240


@dataclass(frozen=True)
class Outcome:
    """One of OUTCOMES, and one line about it, empty if there is nothing to say."""

    name: str
    message: str = ""

    @property
    def code(self) -> int:
        """The outcome's position in OUTCOMES, as the feature file stores it."""
        return OUTCOMES.index(self.name)


OK: Final = Outcome("ok")


class ClipError(DataError):
    """A clip that cannot be used; `outcome` is what the feature file records for it."""

    def __init__(self, message: str, outcome: str = "decode error") -> None:
        super().__init__(message)
        self.outcome = Outcome(outcome, message)

    def __reduce__(self) -> tuple[type["ClipError"], tuple[str, str]]:  # crosses from worker processes
        return ClipError, (str(self), self.outcome.name)


def first_line(error: BaseException) -> str:
    """The type and first line of an unexpected error: some libraries write whole paragraphs."""
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0]}" if lines else type(error).__name__


def last_line(error: BaseException) -> str:
    """What an error says in the end: Ray's errors are whole tracebacks, whose last line tells the cause."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def encoded(message: str) -> bytes:
    """A message as it is stored: UTF-8, cut to MESSAGE_BYTES without splitting a character."""
    return message.encode(errors="replace")[:MESSAGE_BYTES].decode(errors="ignore").encode()
