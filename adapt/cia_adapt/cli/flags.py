"""Flags that several commands share: those of the configuration's fields, and what all that train are asked."""

import inspect
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from cia_extract.common import console
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean

from cia_adapt import config
from cia_adapt.config import flags as config_flags

if TYPE_CHECKING:
    from cia_adapt.experiments import Request

MOST_SEEDS: Final = 10_000


def request(features: Path | None, chosen: config.Chosen, device: str, precision: str, tier: str) -> "Request":
    """A request with what all commands that train share. Raises UsageError."""
    if features is None:
        raise UsageError("--features is missing; make a file with cia-extract, then: cia-adapt --features feats.h5")
    for flag, value, known in (("--precision", precision, ("fp32", "bf16")), ("--tier", tier, ("auto", "device", "ram", "map"))):
        one_of(flag, value, known)
    from cia_adapt.experiments import Request, memory

    memory.keep_freed()
    found = console.device(device)
    if tier == "device" and found.type == "cpu":
        raise UsageError("--tier device: means a GPU's memory, and the device is the CPU; use --tier ram")
    asked: Any = None if tier == "auto" else tier
    return Request(features=features, chosen=chosen, device=found, precision=precision, tier=asked)  # type: ignore[arg-type]


def one_of(flag: str, value: str, known: Sequence[str]) -> None:
    """Raise UsageError where the flag's value is none of the known ones."""
    if value not in known:
        raise UsageError(f"{flag} {value}: unknown, choose from {', '.join(known)}{did_you_mean(value, known)}")


def with_flags(function: Callable[..., None], *classes: type[config.Setup] | type[config.Method]) -> Callable[..., None]:
    """`function` with one flag, None if not given, for every field of `classes` that carries a help text."""
    own = [p for p in inspect.signature(function).parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    added = []
    for name, (kind, text) in [item for cls in classes for item in config_flags.flags(cls).items()]:
        switch = f"--{name.replace('_', '-')}"
        option = typer.Option(f"{switch}/--no-{switch[2:]}" if kind is bool else switch, help=f"{text} [default: as set up]")
        annotation = Annotated[kind | None, option]  # type: ignore[valid-type]
        added.append(inspect.Parameter(name, inspect.Parameter.KEYWORD_ONLY, default=None, annotation=annotation))
    function.__signature__ = inspect.Signature([*own, *added])  # type: ignore[attr-defined]
    function.__annotations__ = {p.name: p.annotation for p in [*own, *added]}
    return function


def given(flags: Mapping[str, Any]) -> dict[str, Any]:
    """Those of `with_flags` that were given."""
    return {name: value for name, value in flags.items() if value is not None}
