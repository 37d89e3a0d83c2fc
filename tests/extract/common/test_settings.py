"""Values of fields: what fits is converted, everything else is one line that quotes the setting and says what it may be."""

import datetime
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Annotated, Any, Literal

import pytest
from cia_extract.common import settings
from cia_extract.common.errors import UsageError
from msgspec import Meta


@dataclass(frozen=True)
class Section:
    """A section of settings."""

    scale: tuple[Annotated[float, Meta(ge=0, le=1)], Annotated[float, Meta(ge=0, le=1)]] = (1.0, 1.0)
    """Of x and y."""


@dataclass(frozen=True)
class Example:
    """Settings of every type."""

    count: Annotated[int, Meta(ge=1, le=2**32 - 1)] = 1
    """How many; a text
    of two lines.
    """
    share: Annotated[float, Meta(gt=0, lt=1)] = 0.5
    weight: float = 1.0
    on: bool = False
    """Whether."""
    word: Literal["", "replicate", "zero"] | None = None
    """Empty: no choice."""
    words: tuple[Literal["rgb", "flow"], ...] = ()
    name: Annotated[str, Meta(min_length=1, max_length=9)] = "x"
    section: Section = field(default_factory=Section)


@dataclass(frozen=True)
class Derived(Example):
    """Its own field, and another text for one of its parent's."""

    on: bool = True
    """Whether or not."""
    more: int = 0
    """More."""


def converted(values: Mapping[str, Any]) -> Example:
    return settings.converted(Example, values, lambda name, value: f"{name} = {value}", numbers=Meta(ge=0, lt=10))


def test_what_fits_is_converted_to_its_fields_type():
    example = converted({"count": 3, "share": 0.25, "on": True, "word": "", "words": ["flow"], "section": {"scale": [1, 0]}})
    assert example == Example(3, 0.25, 1.0, True, "", ("flow",), "x", Section((1.0, 0.0)))
    assert type(converted({"weight": 2}).weight) is float and type(example.section.scale[0]) is float


WHOLE = "give a whole number from 1 to 4294967295"
SHARE = "give a number above 0 and below 1"
WORD = "unknown, choose from replicate, zero"


@pytest.mark.parametrize(
    ("name", "value", "message"),
    [
        *(("count", value, WHOLE) for value in (0, -1, 2**32, 10**400, 1.0, math.nan, math.inf, True, "1", "", None, [], {})),
        *(("share", value, SHARE) for value in (0, 1, -0.1, math.nan, math.inf, -math.inf, 10**400, True, "0.5", None, [0.5])),
        *(("weight", value, "give a number of at least 0 and below 10") for value in (-1, 10, math.nan, "x", datetime.date.min)),
        *(("on", value, "say true or false") for value in (0, 1, "true", None, [])),
        *(("word", value, WORD) for value in ("Replicat", "none", 0, True, [], {}, ["zero"], "\ud800", "\x1b[31m", "x" * 10_000)),
        *(("words", value, "unknown, choose from rgb, flow") for value in (["rgb", "rbg"], [""], [["rgb"]], [None])),
        *(("name", value, "give a text of 1 to 9 characters") for value in ("", "x" * 10, 5, None)),
        *(("section", value, "give a section of settings") for value in (None, [], "x", 1)),
        ("sectoin", {}, "unknown, choose from count, share, weight, on, word, words, name, section; did you mean section?"),
        ("x" * 100_000, 1, "unknown, choose from count"),
        ("\x1b[31m", 1, "unknown, choose from count"),
    ],
    ids=settings.brief,
)  # fmt: skip
def test_what_does_not_fit_is_one_short_line(name, value, message):
    with pytest.raises(UsageError) as error:
        converted({name: value})
    text = str(error.value)
    assert f": {message}" in text and text.isprintable() and len(text) < 300
    assert not name.isidentifier() or len(name) > 60 or text.startswith(f"{name} = ")


@pytest.mark.parametrize("value", [[1], [1, 2], [1, math.nan], [1, True], [1, 0, 1], 1, "x"])
def test_a_setting_of_a_section_has_a_dotted_name(value):
    expected = "give 2 numbers from 0 to 1, in brackets and with commas between"
    with pytest.raises(UsageError) as error:
        converted({"section": {"scale": value}})
    assert str(error.value) == f"section.scale = {settings.brief(value)}: {expected}"
    with pytest.raises(UsageError, match=r"section.scal = 1: unknown, choose from section.scale; did you mean section.scale\?"):
        converted({"section": {"scal": 1}})


def test_settings_without_fields_say_so():
    @dataclass(frozen=True)
    class Empty:
        """Nothing to set."""

    with pytest.raises(UsageError, match=r"^x=1: unknown, there is nothing to set here$"):
        settings.converted(Empty, {"x": 1}, lambda name, value: f"{name}={value}")


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("inf", math.inf), ("2", 2), ("-0.5", -0.5), (".5", 0.5), ("007", 7), ("1e-3", 1e-3),
        ("true", True), ("True", True), ("FALSE", False),
        ("zero", "zero"), ('"zero"', "zero"), (" zero ", "zero"), ("a=b", "a=b"), ("", ""), ("[1, 2.5]", [1, 2.5]),
        ("5\nx = 7", "5\nx = 7"), ("[" * 100_000, "[" * 100_000), ("9" * 5000, math.inf), ("zero # edge", "zero # edge"),
    ],
    ids=settings.brief,
)  # fmt: skip
def test_the_value_of_a_set_entry(text, value):
    name, read = settings.parsed(f" part.option ={text}", "part.option", "sc.scales=2")
    assert name == "part.option" and read == value and type(read) is type(value)


@pytest.mark.parametrize(
    "entry", ["", "=", "a.b", ".=1", "a.=1", ".b=1", "a=1", "a.b.c=1", "x" * 100_000, "\x1b[31m"], ids=settings.brief
)
def test_a_set_entry_of_another_form_is_answered_with_an_example(entry):
    with pytest.raises(UsageError, match=r"^--set .+: write part\.option=value, for example sc\.scales=2$") as error:
        settings.parsed(entry, "part.option", "sc.scales=2")
    assert str(error.value).isprintable() and len(str(error.value)) < 150


def test_the_text_under_a_field_is_read_with_those_of_the_parents():
    texts = {"count": "How many; a text\nof two lines.", "on": "Whether.", "word": "Empty: no choice."}
    assert settings.docs(Example) == texts
    assert settings.docs(Derived) == texts | {"on": "Whether or not.", "more": "More."}


def test_a_value_for_a_message_is_one_short_line():
    deep: list[Any] = []
    for _ in range(100_000):
        deep = [deep]
    assert [settings.brief(value) for value in ("", "zero", "\n", 10**5000, deep)] == ["''", "zero", r"'\n'", "a int", "a list"]
    assert settings.brief("x" * 61) == "x" * 59 + "…" and len(settings.brief(["x" * 100])) == 60
