"""The grids of `cia-adapt sweep`: --set part.option=a,b,c, or --set setup.lr=a,b,c, and every value has run folders of its own.

They lie under the method's name and the value, such as runs/uh/cia@sc.scales=2, beside those of the method as it is.
"""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from cia_extract.common import settings
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import instead

from cia_adapt.config import Setup

SETUP = "setup."


@dataclass(frozen=True)
class Point:
    """One point of a grid, and what is set everywhere."""

    suffix: str = ""
    """Of the method's name; empty where no setting has several values."""
    sets: list[str] = field(default_factory=list)
    """Of parts, as --set has them."""
    setup: dict[str, Any] = field(default_factory=dict)
    """Fields of the set-up."""


def points(entries: Sequence[str]) -> list[Point]:
    """Every combination of the values of `--set` entries. Raises UsageError quoting the entry.

    >>> [point.suffix for point in points(["sc.scales=1,2", "setup.lr=1e-3", "mc.ratio=8,16"])]
    ['@sc.scales=1@mc.ratio=8', '@sc.scales=1@mc.ratio=16', '@sc.scales=2@mc.ratio=8', '@sc.scales=2@mc.ratio=16']
    """
    grid = [_values(entry) for entry in entries]
    several = {values[0].partition("=")[0] for values in grid if len(values) > 1}
    grid_points: list[Point] = []
    for chosen in itertools.product(*grid):
        suffix = "".join(f"@{entry}" for entry in chosen if entry.partition("=")[0] in several)
        of_setup = [entry for entry in chosen if entry.startswith(SETUP)]
        grid_points.append(Point(suffix, [entry for entry in chosen if entry not in of_setup], dict(map(_field, of_setup))))
    return grid_points


def _field(entry: str) -> tuple[str, Any]:
    """(field of the set-up, value). Raises UsageError for a name that is none."""
    name, value = settings.parsed(entry, "setup.field", "setup.lr=1e-3")
    option, known = name.removeprefix(SETUP), settings.docs(Setup)  # its name has no text, and is no setting
    if option not in known:
        raise UsageError(f"--set {settings.brief(entry)}: unknown{instead(option, list(known), 'cia-adapt sweep --help')}")
    return option, value


def _values(entry: str) -> list[str]:
    """An entry for each value: of "sc.scales=1,2" these are "sc.scales=1" and "sc.scales=2"."""
    name, separator, text = (part.strip() for part in entry.partition("="))
    if "," not in text or any(mark in text for mark in "[\"'"):  # a list, or a text with a comma, is one value
        return [f"{name}{separator}{text}"]
    values = [value.strip() for value in text.split(",")]
    if not all(values) or len(set(values)) < len(values):
        raise UsageError(f"--set {settings.brief(entry)}: write values with commas between, each once")
    return [f"{name}={value}" for value in values]
