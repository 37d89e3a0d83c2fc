"""What a run is made of: a set-up (benchmark, optimiser, schedule) and a method (a row of the paper's tables).

The dataclasses are the one source of truth: their fields are the command line's flags, the keys of `setups/*.toml` and
`methods/*.toml`, and the configuration stamped into every run; the text under a field is its help. The settings of a method's
parts are those parts' own (`parts`): tables of its TOML, and `--set part.option=value`.
"""

import dataclasses
import tomllib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, fields, replace
from importlib import resources
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, TypeVar

from cia_extract.common import settings
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean, instead

import cia_adapt.config.toml_file as toml_file
from cia_adapt import parts
from cia_adapt.config.overview import GROUPS, check_group
from cia_adapt.config.schema import Method, Setup
from cia_adapt.config.splits import merged

TEXTS: Final = ("published", "searched")  # tables of a method's TOML that are of no part
Configured = TypeVar("Configured", Setup, Method)


def names(kind: str) -> list[str]:
    """Names of the built-in `methods`, `setups` or `spaces`."""
    folder = resources.files("cia_adapt").joinpath(kind)
    return sorted(entry.name.removesuffix(".toml") for entry in folder.iterdir() if entry.name.endswith(".toml"))


def grouped() -> dict[str, list[str]]:
    """{heading: names} of the built-in methods, by the `group` of their TOMLs; those without one come last."""
    headings = GROUPS | {None: "Methods without a group"}
    of = {name: read("methods", name).get("group") for name in names("methods")}
    groups = {heading: [name for name in of if of[name] == group] for group, heading in headings.items()}
    return {heading: members for heading, members in groups.items() if members}


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
    """By names, or from files whose names end in .toml, with flags over what the files say. Between set-up and flags stand the
    temporal part's `SETUP` (TRN's optimiser) and the method's own `[setup]`. The set-up's settings of
    parts stand below the method's.

    Raises UsageError quoting the flag or the file; DataError for a file that cannot be read.
    """
    from_method, where = read("methods", method), _where("methods", method)
    from_setup, where_setup = read("setups", setup), _where("setups", setup)
    below = {key: from_setup.pop(key) for key in list(from_setup) if isinstance(from_setup[key], dict)}
    pairs, own_setup = from_method.pop("pairs", {}), from_method.pop("setup", {})
    from_method.pop("group", None)
    tables = {key: from_method.pop(key) for key in list(from_method) if isinstance(from_method[key], dict) and key not in TEXTS}
    chosen_method = _checked(Method, where, {"name": _name(method)} | from_method | {"options": tables}, overrides)
    of_part = getattr(parts.find("temporal", chosen_method.temporal), "SETUP", {})
    chosen_method = replace(chosen_method, options=_over(below, where_setup, chosen_method))
    values = {"name": _name(setup)} | from_setup | of_part | own_setup
    origins = dict.fromkeys(own_setup, f"{where}: [setup]")
    chosen_setup = _checked(Setup, where_setup, values, overrides, origins)
    chosen = Chosen(
        chosen_setup, chosen_method, pairs, dict(settings.parsed(entry, "part.option", "sc.scales=2") for entry in sets)
    )
    for kind, name in chosen.method.used_parts():
        parts.find(kind, name)
    used = {name for _, name in chosen.method.used_parts()}
    for key in chosen.sets:
        if key.split(".")[0] not in used:
            part = key.split(".")[0]
            have = f"it has {', '.join(sorted(used - {'none'}))}{did_you_mean(part, used)}"
            raise UsageError(f"--set {key}: this method has no part {part}, {have}")
    with said_of(where):
        for of_pair in ({}, *pairs.values()):
            _resolved(chosen.method, of_pair)
    _resolved(chosen.method, chosen.sets)
    return chosen


def read(kind: str, name: str) -> dict[str, Any]:
    """What a TOML of `methods`, `setups` or `spaces` says: a built-in one, or the file `name`.toml. The tables of a method are of
    parts that exist; its settings are not checked yet. Raises UsageError, DataError.
    """
    if not _is_file(name):
        if name not in names(kind):
            listing = "cia-adapt methods" if kind == "methods" else ""
            raise UsageError(f"--{kind[:-1]} {settings.brief(name)}: unknown{instead(name, names(kind), listing)}")
        values = tomllib.loads(resources.files("cia_adapt").joinpath(kind, f"{name}.toml").read_text(encoding="utf-8"))
    else:
        if not Path(name).is_file():
            raise UsageError(f"--{kind[:-1]} {settings.brief(name)}: no such file")
        values = toml_file.read(Path(name), f"--{kind[:-1]} takes a name, or a file that ends in .toml")
    if kind == "methods":
        _check_tables(_where(kind, name), values)
    elif kind == "setups":
        _check_parts(_where(kind, name), values)
    return values


@contextmanager
def said_of(where: str) -> Iterator[None]:
    """Inside this context the message of a UsageError names the file `where` in the place of `--set`."""
    try:
        yield
    except UsageError as error:
        raise UsageError(f"{where}: {str(error).removeprefix('--set ')}") from None


def _is_file(name: str) -> bool:
    return name.endswith(".toml")


def _name(name: str) -> str:
    """A method's or set-up's name: that of its file."""
    return Path(name).stem if _is_file(name) else name


def _where(kind: str, name: str) -> str:
    """The file, for messages."""
    return name if _is_file(name) else f"{kind}/{name}.toml"


def _check_tables(where: str, method: Mapping[str, Any]) -> None:
    """Raise UsageError where a method's TOML has a table that is none, or is of no part; or a group that is none."""
    if "group" in method:
        check_group(where, method["group"])
    _check_parts(where, method, "setup", "pairs", *TEXTS)
    for pair, values in method.get("pairs", {}).items():
        if not isinstance(values, dict) or any(key.count(".") != 1 for key in values):
            raise UsageError(f'{where}: [pairs.{settings.brief(pair)}]: write lines "part.option" = value')


def _check_parts(where: str, values: Mapping[str, Any], *others: str) -> None:
    """Raise UsageError where a TOML has a table that is neither of a part nor one of `others`, or a part's that is no table."""
    known = {name for kind in parts.KINDS for name in parts.names(kind)}
    for name, table in values.items():
        shown = settings.brief(name)
        if name in {"options", *others, *known} - set(TEXTS) and not isinstance(table, dict):
            raise UsageError(f"{where}: {shown}: write a table of settings, [{shown}]")
        if isinstance(table, dict) and name not in {*others, *known}:
            raise UsageError(f"{where}: [{shown}]: no such part{did_you_mean(shown, known)}")


def _over(below: Mapping[str, Mapping[str, Any]], where: str, method: Method) -> dict[str, Any]:
    """The method's settings of parts, over those that the set-up (the file `where`) has for the parts that it uses."""
    kinds = {name: kind for kind in parts.KINDS for name in parts.names(kind)}
    with said_of(where):
        for name, table in below.items():
            parts.options(kinds[name], name, table)
    used = {name for _, name in method.used_parts()}
    own = dict(method.options)
    return own | {name: dict(table) | dict(own.get(name, {})) for name, table in below.items() if name in used}


def _checked(
    cls: type[Configured],
    where: str,
    values: dict[str, Any],
    overrides: Mapping[str, Any],
    origins: Mapping[str, str] = MappingProxyType({}),
) -> Configured:
    """What a file says, with the flags among `overrides` that are fields of `cls` over it. `origins` names the file of those
    values that are not of `where`.
    """
    known = {f.name for f in fields(cls)}
    given = {key: value for key, value in overrides.items() if key in known}
    for key in {"train_split", "val_split"} & known:
        before = values.get(key, getattr(cls, key))
        given[key] = merged("--" + key.replace("_", "-"), before, given.get(key, before))
    if "objectives" in given:
        names = [name.strip() for name in given["objectives"].split(",")]
        given["objectives"] = [] if names == ["none"] else names

    def quote(name: str, value: str) -> str:
        return f"--{name.replace('_', '-')} {value}" if name in overrides else f"{origins.get(name, where)}: {name} = {value}"

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
