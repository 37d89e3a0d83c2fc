"""`cia-adapt cost`: parameters and multiply-accumulates by module, beside the paper's table 1."""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from cia_extract.common import console, flags
from cia_extract.common.errors import UsageError
from msgspec import Meta

from cia_adapt import config

if TYPE_CHECKING:
    from cia_adapt.results import cost as counting


@dataclass(frozen=True)
class Counted:
    """What is counted."""

    method: tuple[str, ...] = ("concat", "cia")
    """Methods, or files that end in .toml; repeat."""
    setup: str = "uh"
    """Set-up whose layers the model has."""
    settings: Annotated[tuple[str, ...], "--set"] = ()
    """A setting of a part, for example sc.embedding=256; repeat."""
    modality: tuple[Literal["rgb", "flow", "audio"], ...] = ("rgb", "flow")
    """rgb, flow or audio; repeat."""
    classes: str = "12"
    """Number of classes; of several labels with commas between: 97,300."""
    segments: Annotated[int, Meta(ge=1, le=1000)] | None = None
    """Windows of 16 frames that a clip has. [default: 1 as in table 1; with a temporal part of relations the set-up's]"""
    as_json: Annotated[bool, "--json"] = False
    """One JSON object on stdout."""


def cost(counted: Counted) -> None:
    """Count parameters and multiply-accumulates of methods. They are listed by module, with and without the backbone, beside the
    paper's table 1.

    Examples:
        cia-adapt cost
        cia-adapt cost --method cia
    """
    from cia_adapt.results import cost as counting

    costs = []
    for name in counted.method:
        fitting = [entry for entry in counted.settings if entry.split(".")[0] in _parts(counted.setup, name)]
        chosen = config.load(counted.setup, name, {}, fitting)
        method = chosen.for_pair("", "")
        segments = counted.segments or (1 if method.temporal == "tsn" else chosen.setup.segments)
        sizes = (counted.modality, _numbers(counted.classes), segments, chosen.setup.shared_features)
        costs.append(counting.of_method(method, *sizes))
    if counted.as_json:
        console.print_json({"rules": counting.RULES, "methods": [one.as_json() for one in costs]})
        return
    for one in costs:
        _print(one)
    for rule in counting.RULES:
        console.out(f"note: {rule}")


def _print(cost: "counting.Cost") -> None:
    from rich.console import Console
    from rich.table import Table

    windows = "1 window" if cost.segments == 1 else f"{cost.segments} windows"
    table = Table("module", title=f"{cost.method}, a clip of {windows} of 16 × 224²", title_justify="left")
    table.add_column("M parameters", justify="right")
    table.add_column("GMac", justify="right")

    def add(row: "counting.Row", end: bool = False) -> None:
        table.add_row(row.module, f"{row.parameters / 1e6:.3f}", f"{row.macs / 1e9:.3f}", end_section=end)

    for group in (cost.head, [cost.without_backbone], cost.backbone, [cost.with_backbone]):
        for row in group:
            add(row, end=row is group[-1])
    if cost.published is not None:
        table.add_row("published (table 1)", f"{cost.published[0]:.2f}", f"{cost.published[1]:.2f}", end_section=True)
    for row in cost.training:
        table.add_row(f"in training only: {row.module}", f"{row.parameters / 1e6:.3f}", "")
    Console(width=None if Console().is_terminal else 100).print(table, markup=False)


def _parts(setup: str, method: str) -> set[str]:
    return {part for _, part in config.load(setup, method, {}).method.used_parts()}


def _numbers(text: str) -> tuple[int, ...]:
    """Numbers of "97,300". Raises UsageError."""
    words = [word.strip() for word in text.split(",")]
    if not all(word.isascii() and word.isdigit() and 1 <= int(word) <= 100_000 for word in words):
        raise UsageError(f"--classes {text}: write whole numbers with commas between, such as 12 or 97,300")
    return tuple(int(word) for word in words)


def register(app: typer.Typer) -> None:
    """Add `cost`."""
    app.command("cost")(flags.command(cost))
