"""What a run is made of: a set-up (benchmark, optimiser, schedule) and a method (a row of the paper's tables).

The dataclasses are the one source of truth: their fields are the command line's flags, the keys of `setups/*.toml` and
`methods/*.toml`, and the configuration stamped into every run; the text under a field is its help. The settings of a method's
parts are those parts' own (`parts`): tables of its TOML, and `--set part.option=value`.
"""

import dataclasses
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from typing import Any, TypeVar

from cia_extract.common import settings
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean

from cia_adapt import parts
from cia_adapt.config.schema import Method, Setup
from cia_adapt.config.splits import merged

Configured = TypeVar("Configured", Setup, Method)


def names(kind: str) -> list[str]:
    """Names of the built-in `methods` or `setups`."""
    folder = resources.files("cia_adapt").joinpath(kind)
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


@dataclass(frozen=True)
class Chosen:
    """A set-up and a method for any pair of domains."""

    setup: Setup
    method: Method
    pairs: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)
    """{"source-target": {"part.option": value}}, where the method differs by direction."""
    sets: Mapping[str, Any] = field(default_factory=dict)
    """From the command line, above all else."""

    def for_pair(self, source: str, target: str) -> Method:
        """The method with what its TOML says of this pair, the set-up's `reversal` and what the command line says, every option
        of its parts written out.
        """
        of_pair = _resolved(self.method, self.pairs.get(f"{source}-{target}", {}))
        return _resolved(of_pair, _weakened(of_pair, self.setup.reversal) | dict(self.sets))


def load(setup: str, method: str, overrides: Mapping[str, Any], sets: Sequence[str] = ()) -> Chosen:
    """By names, with flags over what the files say. Between set-up and flags stand the temporal part's `SETUP` (TRN's optimiser)
    and the method's own `[setup]`.

    Raises UsageError quoting the flag.
    """
    from_method = _read("methods", method)
    pairs, own_setup = from_method.pop("pairs", {}), from_method.pop("setup", {})
    tables = {key: from_method.pop(key) for key in list(from_method) if isinstance(from_method[key], dict) and key != "published"}
    chosen_method = _checked(Method, f"methods/{method}.toml", {"name": method} | from_method | {"options": tables}, overrides)
    of_part = getattr(parts.find("temporal", chosen_method.temporal), "SETUP", {})
    values = {"name": setup} | _read("setups", setup) | of_part | own_setup
    chosen_setup = _checked(Setup, f"setups/{setup}.toml", values, overrides)
    chosen = Chosen(
        chosen_setup, chosen_method, pairs, dict(settings.parsed(entry, "part.option", "sc.scales=2") for entry in sets)
    )
    for kind, name in chosen.method.used_parts():
        parts.find(kind, name)
    used = {name for _, name in chosen.method.used_parts()}
    for key in chosen.sets:
        if key.split(".")[0] not in used:
            part = key.split(".")[0]
            have = f"it has {', '.join(sorted(used))}{did_you_mean(part, used)}"
            raise UsageError(f"--set {key}: this method has no part {part}, {have}")
    _resolved(chosen.method, chosen.sets)
    return chosen


def _read(kind: str, name: str) -> dict[str, Any]:
    if name not in names(kind):
        known = f"{', '.join(names(kind))}{did_you_mean(name, names(kind))}"
        raise UsageError(f"--{kind[:-1]} {name}: unknown, choose from {known}")
    return tomllib.loads(resources.files("cia_adapt").joinpath(kind, f"{name}.toml").read_text(encoding="utf-8"))


def _checked(cls: type[Configured], where: str, values: dict[str, Any], overrides: Mapping[str, Any]) -> Configured:
    """What a file says, with the flags among `overrides` that are fields of `cls` over it."""
    known = {f.name for f in fields(cls)}
    given = {key: value for key, value in overrides.items() if key in known}
    for key in {"train_split", "val_split"} & known:
        before = values.get(key, getattr(cls, key))
        given[key] = merged("--" + key.replace("_", "-"), before, given.get(key, before))
    if "objectives" in given:
        names = [name.strip() for name in given["objectives"].split(",")]
        given["objectives"] = [] if names == ["none"] else names

    def quote(name: str, value: str) -> str:
        return f"--{name.replace('_', '-')} {value}" if name in overrides else f"{where}: {name} = {value}"

    config = settings.converted(cls, values | given, quote)
    for name, entries in (("objectives", getattr(config, "objectives", ())), ("labels", getattr(config, "label_columns", ()))):
        if "" in entries or len(set(entries)) < len(entries):
            raise UsageError(f"--{name} {', '.join(entries)}: write names with commas between, each once")
    return config


def _resolved(method: Method, sets: Mapping[str, Any]) -> Method:
    options = {name: dict(method.option(name)) for _, name in method.used_parts()}
    for key, value in sets.items():
        part, option = key.split(".")
        if part in options:
            options[part][option] = value
    resolved = {name: dataclasses.asdict(parts.options(kind, name, options[name])) for kind, name in method.used_parts()}
    return replace(method, options={name: values for name, values in resolved.items() if values})


def _weakened(method: Method, factor: float) -> dict[str, Any]:
    """What multiplies a reversed gradient, times `factor`."""
    return {
        f"{name}.{option}": round(factor * method.option(name)[option], 12)  # 0.02, not 0.020000000000000004
        for kind, name in method.used_parts()
        for option in getattr(parts.find(kind, name), "REVERSED", ())
    }
