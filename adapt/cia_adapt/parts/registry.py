"""The parts that methods are composed of: one file each in `refinements`, `poolings`, `temporal` and `objectives`.

A part is found by the name of its file. The file has a frozen dataclass `Options`, whose fields are the part's settings (in a
method's TOML, `--set part.option=value`, and the run's configuration), and a function `build`. `REVERSED` names the settings that
multiply a reversed gradient, where there are any; `MINIMISES` names the validators that an objective's loss makes better by
itself, on the same clips.
"""

import importlib
from collections.abc import Mapping
from importlib import resources
from types import ModuleType
from typing import Any, Final

from cia_extract.common import settings
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import instead
from msgspec import Meta

KINDS: Final = ("refinements", "poolings", "temporal", "objectives")
_NUMBERS: Final = Meta(ge=0, lt=10**9)  # what a number among a part's settings may be, where its field says nothing else


def names(kind: str) -> list[str]:
    """The parts of a kind; nothing is imported for it."""
    folder = resources.files(__package__).joinpath(kind)
    return sorted(f.name[:-3] for f in folder.iterdir() if f.name.endswith(".py") and not f.name.startswith("_"))


def find(kind: str, name: str) -> ModuleType:
    """The part's module. Raises UsageError with the names there are."""
    if name not in names(kind):
        known = names(kind)
        flag = kind if kind in ("temporal", "objectives") else kind.removesuffix("s")
        raise UsageError(f"--{flag} {name}: no such part in {kind}{instead(name, known, 'cia-adapt --help')}")
    return importlib.import_module(f"{__package__}.{kind}.{name}")


def options(kind: str, name: str, values: Mapping[str, Any]) -> Any:
    """The part's `Options` with `values` over its defaults. Raises UsageError quoting the setting."""

    def quote(option: str, value: str) -> str:
        return f"--set {name}.{option}={value}"

    return settings.converted(find(kind, name).Options, values, quote, numbers=_NUMBERS)


def check_several(part: str, modalities: Mapping[str, int]) -> None:
    """Raise UsageError where there is nothing to exchange with."""
    if len(modalities) < 2:
        raise UsageError(f"{part} exchanges between modalities and needs two, here is {', '.join(modalities)}; --refinement none")


def check_grids(part: str, grids: Mapping[str, tuple[int, int]]) -> None:
    """Raise UsageError where modalities' maps are of unlike size."""
    if len(set(grids.values())) > 1:
        have = ", ".join(f"{m} {height}×{width}" for m, (height, width) in grids.items())
        raise UsageError(f"{part}: compares cells of modalities, whose maps must be of one size; here are {have}")


def needs_target(objective: str, values: Mapping[str, Any]) -> bool:
    """Whether an objective looks at the target's clips with these settings: its own `needs_target(options)`, else it does."""
    module = find("objectives", objective)
    return bool(module.needs_target(options("objectives", objective, values))) if hasattr(module, "needs_target") else True
