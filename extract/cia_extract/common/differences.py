"""The fields in which two nested tables differ: records of how features were made, configurations of runs."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from cia_extract.common.names import printable

LISTED: Final = 40  # of two files, one of them damaged or somebody else's, any number of fields may differ
LONGEST: Final = 200  # characters of a field's name, and of a value


@dataclass(frozen=True)
class Difference:
    """A field that differs, by its path ("setup.epochs"), and its two values: None where one side lacks it.

    >>> print(Difference("setup.epochs", 30, 50))
    setup.epochs: 30 → 50
    """

    field: str
    old: Any
    new: Any

    def __str__(self) -> str:
        return f"{_brief(self.field)}: {_brief(self.old)} → {_brief(self.new)}"


def between(old: Mapping[str, Any], new: Mapping[str, Any], prefix: str = "") -> list[Difference]:
    """Every field whose values differ, sorted by name; tables are compared field by field.

    >>> between({"lr": 0.1, "setup": {"epochs": 30}}, {"lr": 0.1, "setup": {"epochs": 50}})
    [Difference(field='setup.epochs', old=30, new=50)]
    """
    differing = []
    for key in sorted({*old, *new}):
        before, after = old.get(key), new.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            differing += between(before, after, f"{prefix}{key}.")
        elif before != after:
            differing.append(Difference(f"{prefix}{key}", before, after))
    return differing


def listed(differing: Sequence[Difference]) -> str:
    """Differences in one printable line, as messages have them."""
    more = [f"and {len(differing) - LISTED} more"] if len(differing) > LISTED else []
    return "; ".join([*map(str, differing[:LISTED]), *more])


def _brief(value: Any) -> str:
    """A value for a message; a whole table that the other side lacks, by its name."""
    text = printable(str(value.get("name", value.get("algorithm", "…")) if isinstance(value, dict) else value))
    text = text if text.isprintable() else ascii(text)  # what nobody sees, such as a byte order mark, makes two names look alike
    return text if len(text) <= LONGEST else text[:LONGEST] + "…"
