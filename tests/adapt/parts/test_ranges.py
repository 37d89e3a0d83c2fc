"""Numbers among a part's settings that are out of their range are refused, in one line, before anything is built."""

import dataclasses
import math
import re
from typing import Annotated, get_args, get_origin, get_type_hints

import pytest
from cia_adapt import parts
from cia_extract.common import settings
from cia_extract.common.errors import UsageError

FIELDS = [
    (kind, name, field)
    for kind in parts.KINDS
    for name in parts.names(kind)
    for field in dataclasses.fields(parts.find(kind, name).Options)
]
# What the help of a setting says, if it must lie in a range of its own. "0:" and "; 0 " say what 0 means: it is then allowed.
SHARES = re.compile(r"0 … 1|[Ss]hare (of|γ)|, above 0 and at most 1|, below 1|Adam's β₁|factor at the start")
DIVISORS = re.compile(r"^(τ|T), (which divides|by which)|temperature")
COUNTS = re.compile(r"^(Number of|Width of|Features of|States of|n, the number|k, the number|r, by which)")
ZERO = re.compile(r"; 0[ :]")


def hint_of(kind: str, name: str, field: str) -> object:
    return get_type_hints(parts.find(kind, name).Options, include_extras=True)[field]


def outside(kind: object) -> list[float]:
    """The nearest numbers below and above the range of a field."""
    number, *metas = get_args(kind)
    step, found = (1 if number is int else 1e-6), []
    for meta in metas:
        found += [meta.ge - step] if meta.ge is not None else []
        found += [meta.gt] if meta.gt is not None else []
        found += [meta.le + step] if meta.le is not None else []
        found += [meta.lt] if meta.lt is not None else []
    return found + ([math.nan, math.inf] if number is float else [])


RANGED = [(kind, name, f.name) for kind, name, f in FIELDS if get_origin(hint_of(kind, name, f.name)) is Annotated]


@pytest.mark.parametrize(("kind", "name", "field"), RANGED, ids=lambda x: x)
def test_a_value_outside_the_range_of_a_setting_is_refused(kind, name, field):
    """In one line that names part, setting and range; the ends that belong to it are taken."""
    hint = hint_of(kind, name, field)
    assert len(outside(hint)) >= 2
    for value in outside(hint):
        with pytest.raises(UsageError) as error:
            parts.options(kind, name, {field: value})
        number = "a whole number" if get_args(hint)[0] is int else "a number"
        assert str(error.value) == f"--set {name}.{field}={value}: give {number} {settings.limits(hint)}"
    for meta in get_args(hint)[1:]:
        for end in (meta.ge, meta.le):
            assert end is None or getattr(parts.options(kind, name, {field: end}), field) == end


@pytest.mark.parametrize(("kind", "name", "field"), FIELDS, ids=lambda x: getattr(x, "name", x))
def test_a_setting_whose_help_speaks_of_a_range_has_one(kind, name, field):
    """A share ends at 1, or below it; what divides is above 0; what is counted is at least 1, unless 0 has a meaning."""
    text = settings.docs(parts.find(kind, name).Options)[field.name]
    hint = hint_of(kind, name, field.name)
    number = get_args(hint)[0] if get_origin(hint) is Annotated else hint
    if number not in (int, float):
        return
    least, most = 0.0, math.inf
    for meta in get_args(hint)[1:]:
        least = min(x for x in (meta.ge, meta.gt) if x is not None)
        most = min(x for x in (meta.le, meta.lt) if x is not None)
    if SHARES.search(text):
        assert most == 1, text
    if DIVISORS.search(text):
        assert [meta.gt for meta in get_args(hint)[1:]] == [0], text
    if number is int and COUNTS.search(text) and not ZERO.search(text):
        assert least == 1, text


def test_settings_without_a_range_may_be_0_or_more():
    assert parts.options("objectives", "coral", {"weight": 0}).weight == 0
    for value in (-0.1, math.nan, math.inf):
        with pytest.raises(UsageError, match=r"--set coral\.weight=.*: give a number of at least 0 and below 1e\+09"):
            parts.options("objectives", "coral", {"weight": value})
