"""Whether two domains have the same classes; if not, which ones differ, and what the likely cause is.

Causes that are recognised: ids from 0 and from 1; upper and lower case; 1, 1.0 and 01; spaces and underscores; another encoding.
All functions take sets of class names. The empty name stands for a clip without a label and is ignored.
"""

import difflib
import re
import unicodedata
from collections import defaultdict
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

SHOWN: Final = 8  # class names in a message
MOST_PAIRS: Final = 20_000  # of names compared letter by letter, which is slow


@dataclass(frozen=True)
class Comparison:
    """The classes of two domains side by side."""

    first: str
    """Name of the one domain."""
    second: str
    """Name of the other."""
    shared: frozenset[str]
    """Classes of both."""
    only_first: frozenset[str]
    only_second: frozenset[str]
    cause: str
    """A mistake that explains the difference, and what to do about it; empty where none is evident."""

    @property
    def same(self) -> bool:
        """Whether both domains have the same classes."""
        return not self.only_first and not self.only_second

    @property
    def text(self) -> str:
        """The number of shared classes, the names of the others, and the likely cause, as a part of a message."""
        parts = [f"{len(self.shared)} {'class is' if len(self.shared) == 1 else 'classes are'} in both"] if self.shared else []
        for domain, names in ((self.first, self.only_first), (self.second, self.only_second)):
            if names:
                parts.append(f"only in '{domain}': {listed(names)}")
        return "; ".join(parts) + (f"; likely cause: {self.cause}" if self.cause else "")


def compare(first: str, first_classes: Collection[str], second: str, second_classes: Collection[str]) -> Comparison:
    """Compare the classes of the domains named `first` and `second`."""
    a, b = frozenset(first_classes) - {""}, frozenset(second_classes) - {""}
    cause = "" if a == b or not a or not b else _shift(first, a, second, b) or _spelling(first, a - b, second, b - a)
    return Comparison(first, second, a & b, a - b, b - a, cause)


def variants(classes: Collection[str]) -> list[str]:
    """Lines that name classes of one domain which look like one class, written in two ways."""
    lines, left = [], sorted(set(classes) - {""})
    for rule, form in _FORMS:
        alike: dict[str, list[str]] = defaultdict(list)
        for name in left:
            alike[form(name)].append(name)
        groups = [names for key, names in alike.items() if key and len(names) > 1]
        lines += [f"{listed(names)} {rule.format(written=_written(*names[:2]))}" for names in groups]
        grouped = {name for names in groups for name in names}
        left = [name for name in left if name not in grouped]
    return lines


def listed(names: Collection[str]) -> str:
    """At most `SHOWN` names for a message, numbers in their order first; what cannot be printed is escaped."""
    ordered = sorted(names, key=lambda name: (_number(name) is None, _number(name) or 0.0, name))
    shown = ", ".join(_quoted(name) for name in ordered[:SHOWN])
    return shown + (f" and {len(ordered) - SHOWN} more" if len(ordered) > SHOWN else "")


def _quoted(name: str) -> str:
    """One plain word as it is; any other name in quotes, so that spaces and escape sequences are seen."""
    return name if name.isprintable() and re.fullmatch(r"\S+", name) else ascii(name)


def _number(name: str) -> float | None:
    """The value of a class that is written as a finite number; None of any other."""
    try:
        value = float(name)
    except ValueError:
        return None
    return value if abs(value) < 1e15 else None  # not NaN either


def _shift(first: str, a: frozenset[str], second: str, b: frozenset[str]) -> str:
    """The cause where one domain's ids are the other's plus a constant, such as ids from 0 and ids from 1; else ""."""
    numbers = [[_number(name) for name in names] for names in (a, b)]
    if any(value is None or not value.is_integer() for values in numbers for value in values):
        return ""
    x, y = ({int(value) for value in values if value is not None} for values in numbers)
    low, high = min(y) - min(x), max(y) - max(x)
    from_0_and_1 = low == high and {min(x), min(y)} == {0, 1}
    if not low or not ({value + low for value in x} == y or from_0_and_1):
        return ""
    above, below = (second, first) if low > 0 else (first, second)
    starts = f"ids count from {max(min(x), min(y))} in '{above}' and from {min(*x, *y)} in '{below}'"
    return f"{starts}: subtract {abs(low)} in '{above}'"


def _spelling(first: str, a: frozenset[str], second: str, b: frozenset[str]) -> str:
    """The causes of names that are equal once written in one way; each rule is tried on what the rules before left."""
    causes = []
    left_a, left_b = set(a), set(b)
    for rule, form in _FORMS:
        by_form = {form(name): name for name in sorted(left_b)}
        matches = [(name, by_form[form(name)]) for name in sorted(left_a) if form(name) and form(name) in by_form]
        if matches:
            causes.append(_cause(first, second, matches, rule))
            left_a -= {name for name, _ in matches}
            left_b -= {name for _, name in matches}
    if len(left_a) * len(left_b) > MOST_PAIRS:
        return "; ".join(causes)
    near = [(name, close[0]) for name in sorted(left_a) if (close := difflib.get_close_matches(name, sorted(left_b), 1, 0.8))]
    if near and not any(_number(name) is not None for pair in near for name in pair):
        causes.append(_cause(first, second, near, "are written almost alike"))
    return "; ".join(causes)


def _cause(first: str, second: str, matches: list[tuple[str, str]], rule: str) -> str:
    """A cause by its first pair of names, and the number of further ones."""
    a, b = matches[0]
    others = f", and {len(matches) - 1} more such" if len(matches) > 1 else ""
    return f"{_quoted(a)} in '{first}' and {_quoted(b)} in '{second}' {rule.format(written=_written(a, b))}{others}"


def _written(a: str, b: str) -> str:
    """How two ways of writing one number differ."""
    floats = [name for name in (a, b) if re.search(r"[.eE]", name)]
    if len(floats) == 1:
        return f"{_quoted(floats[0])} is written as a float: write whole numbers"
    zeros = [name for name in (a, b) if re.match(r"[+-]?0\d", name.strip())]
    return f"{_quoted(zeros[0])} has leading zeros" if zeros else "write both in the same way"


def _number_form(name: str) -> str:
    value = _number(name)
    return "" if value is None else repr(value)


def _without_bytes(name: str) -> str:
    return re.sub(r"""^b(['"])(.*)\1$""", r"\2", name)


_FORMS: Final[tuple[tuple[str, Callable[[str], str]], ...]] = (
    ("are the same but for spaces", lambda name: "".join(name.split())),
    ("are the same number ({written})", _number_form),
    ("are the same but for upper and lower case", lambda name: name.strip().casefold()),
    ("are the same but for Python's b'…' of undecoded text", _without_bytes),
    ("are the same but for how Unicode writes accents", lambda name: unicodedata.normalize("NFKC", name)),
    (
        "are the same but for underscores, hyphens, spaces, punctuation and capitals",
        lambda name: re.sub(r"[\W_]+", "", unicodedata.normalize("NFKC", name).casefold()) if _number(name) is None else "",
    ),
    (
        "are the same but for a number before the name",
        lambda name: re.sub(r"[\W_]+", "", re.sub(r"^\d+\W*_?", "", name).casefold()) if _number(name) is None else "",
    ),
)
"""(what the classes have in common, for a message; the form in which they are equal, empty where the rule does not apply)."""
