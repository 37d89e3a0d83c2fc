"""Commands whose parameters are dataclasses, as a user meets them."""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from cia_extract.common import console, entry, flags
from msgspec import Meta

from tests.command_line import in_this_process


@dataclass(frozen=True)
class Group:
    """Flags of every kind."""

    folder: Path | None = None
    """A folder."""
    clip_count: Annotated[int, Meta(ge=1, le=9)] = 3
    """How many KINDS."""
    edge: Literal["", "replicate", "zero"] = ""
    """What lies beyond."""
    modality: tuple[Literal["rgb", "flow"], ...] = ()
    """Repeat."""
    tiers: Annotated[tuple[str, ...], "--tier"] = ("ram",)
    """Repeat."""
    keep: bool = True
    """Keep it."""
    as_json: Annotated[bool, "--json"] = False
    """JSON."""


@dataclass(frozen=True)
class Science:
    """What other values are changed by."""

    lr: Annotated[float, Meta(gt=0)] = 0.1
    """Rate."""
    decay: bool = True
    """Lower it."""
    head: Literal["sum", "concat"] = "sum"
    """Head."""
    losses: tuple[str, ...] = ()
    """With commas."""
    name: str = "no flag, since it has no text"


def program(seen: list[Any]):
    def command(clip: str, group: Group, science: Annotated[dict[str, Any], flags.Changes((Science,), "as set up")]) -> None:
        """Do it."""
        seen.extend((clip, group, science))

    app = console.application("Program.")
    app.command()(flags.command(command, {"KINDS": "maps"}))
    return lambda *words: in_this_process(lambda: entry.run(lambda: app, "program"), *words)


def test_a_group_is_built_of_its_flags_and_changes_are_those_given():
    seen: list[Any] = []
    assert program(seen)("a").returncode == 0
    assert seen == ["a", Group(), {}]
    seen.clear()
    words = "--folder f --clip-count 9 --edge zero --modality flow --modality rgb --tier a --no-keep --json"
    run = program(seen)("a", *words.split(), "--lr", "-5", "--no-decay", "--head", "any", "--losses", "a, b")
    assert run.returncode == 0, run.stderr
    assert seen == [
        "a", Group(Path("f"), 9, "zero", ("flow", "rgb"), ("a",), False, True),
        {"lr": -5.0, "decay": False, "head": "any", "losses": "a, b"},
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--clip-count 10", "--clip-count 10: give a whole number from 1 to 9"),
        ("--edge zeros", "--edge zeros: unknown, choose from replicate, zero; did you mean zero?"),
        ("--modality rgb --modality rbg", "--modality rbg: unknown, choose from rgb, flow; did you mean rgb?"),
    ],
)
def test_a_bad_value_is_one_line_that_quotes_the_flag(words, message):
    seen: list[Any] = []
    run = program(seen)("a", *words.split())
    assert (run.returncode, run.stderr, seen) == (2, f"program: {message}\n", [])


def test_the_help_is_made_of_the_texts_limits_and_defaults(monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    text = " ".join(program([])("--help").stdout.split())
    for words in (
        "Flags of every kind: --folder",
        "How many maps. [from 1 to 9] [default: 3]",
        "Repeat. [default: ram]",
        "--keep / --no-keep Keep it. [default: keep]",
        "--json JSON. What other values are changed by: --lr",
        "Rate. [above 0] [default: as set up]",
        "--decay / --no-decay Lower it. [default: as set up]",
    ):
        assert words in text
    assert "--name" not in text and "--no-json" not in text
