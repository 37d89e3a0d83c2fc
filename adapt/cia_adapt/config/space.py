"""The space of a search: which settings of a method vary, and between what. `spaces/default.toml` shows how a file says it."""

import copy
import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final, get_type_hints

from cia_extract.common import settings
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import instead

from cia_adapt import parts
from cia_adapt.config.library import Chosen, names, read, said_of
from cia_adapt.config.schema import Method, Setup

Scalar = bool | int | float | str
AROUND: Final = ("lr", "reversal")  # of the set-up; the space `default` holds a tenth to ten times their values
PROTOCOL: Final = ("name", "labels", "train_split", "val_split", "test_classes", "select")  # equal in all runs that are compared


@dataclass(frozen=True)
class Range:
    """Numbers from `low` to `high`, both included; whole ones where both are."""

    low: float
    """The smallest number."""
    high: float
    """The largest number."""
    log: bool = False
    """Draw the logarithm evenly, not the number."""

    @property
    def whole(self) -> bool:
        """Whether its numbers are whole."""
        return isinstance(self.low, int)

    def holds(self, value: Any) -> bool:
        """Whether a value that was read from a file lies in the range."""
        right = isinstance(value, int if self.whole else int | float) and not isinstance(value, bool)
        return right and self.low <= value <= self.high


@dataclass(frozen=True)
class Choice:
    """One of some values."""

    values: tuple[Scalar, ...]

    def holds(self, value: Any) -> bool:
        """Whether a value that was read from a file is one of them."""
        return value in self.values


Space = Mapping[str, Range | Choice]
"""{"setup.lr" or "part.option": what it may be}."""


def load_space(name: str, chosen: Chosen) -> Space:
    """The space `name` of a method: a built-in one without the settings that this method does not have, or a file.

    `default` reaches from a tenth to ten times the set-up's rate and λ at least, as the method has them.

    Raises UsageError naming file and setting; DataError for a file that cannot be read.
    """
    space = _as_written(name, chosen)
    return _around(space, chosen.setup) if name == "default" else space


def earlier_spaces(chosen: Chosen) -> tuple[Space, ...]:
    """What `default` was in earlier versions, the latest first: a search that was begun in one goes on in it."""
    return _as_written("default", chosen), _as_written("earlier", chosen)


def with_values(method: Mapping[str, Any], values: Mapping[str, Any]) -> dict[str, Any]:
    """A method's TOML with these values of a space in its tables. They hold for every pair of domains."""
    table = copy.deepcopy(dict(method))
    for key, value in values.items():
        part, option = key.split(".")
        table.setdefault(part, {})[option] = value
        for of_pair in table.get("pairs", {}).values():
            of_pair.pop(key, None)
    return table


def values_of(method: Mapping[str, Any], space: Space) -> dict[str, Any] | None:
    """What `with_values` put into a method's TOML; None where a value is missing or not of the space."""
    values = {}
    for key, axis in space.items():
        part, option = key.split(".")
        table = method.get(part, {})
        if option not in table or not axis.holds(table[option]):
            return None
        values[key] = table[option]
    return values


def _as_written(name: str, chosen: Chosen) -> Space:
    """What the TOML of a space says to a method."""
    where = f"--space {name}"
    tables = read("spaces", name)
    used = {part: kind for kind, part in chosen.method.used_parts()}
    if name in names("spaces"):
        tables = _fitting(tables, chosen.method)
    space: dict[str, Range | Choice] = {}
    for table, entries in tables.items():
        shown = settings.brief(table)
        if not isinstance(entries, dict):
            raise UsageError(f"{where}: {shown}: write it in a table, [setup] or a part of the method")
        if table != "setup" and table not in used:
            known = {"setup", *used}
            raise UsageError(f"{where}: [{shown}]: this method has no such part{instead(shown, sorted(known))}")
        for option, entry in entries.items():
            with said_of(where):
                space[f"{table}.{option}"] = _axis(table, used.get(table), option, entry)
    if not space:
        raise UsageError(f"{where}: names no setting; write some, such as [setup] lr = [1e-3, 3e-3]")
    return space


def _around(space: Space, setup: Setup) -> Space:
    """The space, its ranges of `AROUND` widened to a tenth to ten times the set-up's value, within the settings' limits."""
    wide, kinds = dict(space), get_type_hints(Setup, include_extras=True)
    for option in AROUND:
        axis, (limits,) = wide.get(f"setup.{option}"), kinds[option].__metadata__
        if isinstance(axis, Range):
            own = getattr(setup, option)
            low, high = (float(f"{factor * own:.6g}") for factor in (0.1, 10.0))  # 0.3, not 0.30000000000000004
            low, high = max(low, limits.ge), min(high, limits.le)
            wide[f"setup.{option}"] = replace(axis, low=min(axis.low, low), high=max(axis.high, high))
    return wide


def _fitting(tables: Mapping[str, Any], method: Method) -> dict[str, Any]:
    """Of a built-in space what a method has."""
    used = {part: parts.find(kind, part) for kind, part in method.used_parts()}
    fitting = {name: dict(entries) for name, entries in tables.items() if name == "setup" or name in used}
    if not any(hasattr(module, "REVERSED") for module in used.values()):
        fitting["setup"].pop("reversal", None)
    return fitting


def _axis(table: str, kind: str | None, option: str, entry: Any) -> Range | Choice:
    """What a file says of one setting. Raises UsageError; the caller says of which file."""
    name = f"{table}.{settings.brief(option)}"
    if table == "setup" and option in PROTOCOL:
        raise UsageError(f"{name}: belongs to the protocol, which is the same in all trials; take it out")
    if isinstance(entry, list):
        if not entry or not all(isinstance(value, Scalar) for value in entry) or len(set(entry)) < len(entry):
            raise UsageError(f"{name}: list numbers, words, true or false, each once")
        return Choice(tuple(_converted(table, kind, option, value) for value in entry))
    if not isinstance(entry, dict) or not {"low", "high"} <= entry.keys():
        raise UsageError(f"{name}: write a list of values, or {{ low = 1e-4, high = 1e-2, log = true }}")
    asked = settings.converted(Range, entry, lambda field, value: f"{name}: {field} = {value}")
    low, high = (_converted(table, kind, option, entry[end]) for end in ("low", "high"))
    if isinstance(low, bool) or not isinstance(low, int | float):
        raise UsageError(f"{name}: is no number; list the values that it may have")
    if not low < high or (asked.log and low <= 0):
        raise UsageError(f"{name}: low must be below high{', and above 0 with log' if asked.log else ''}")
    return Range(low, high, asked.log)


def _converted(table: str, kind: str | None, option: str, value: Any) -> Any:
    """A value in the type of its setting. Raises UsageError."""
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(f"{table}.{option}: {value} is not finite")
    if kind is not None:
        return getattr(parts.options(kind, table, {option: value}), option)
    return getattr(settings.converted(Setup, {"name": "", option: value}, lambda name, text: f"setup.{name}={text}"), option)
