"""Recipes: named, versioned sets of every knob that decides how a clip becomes network input, kept as TOML beside this file.

`kinetics.toml` explains each knob; the other recipes name only what they change. A flag (`--frames`, `--set rgb.edge=zero`)
changes a knob and with it the recipe's hash, which is part of what a feature file is resumed by. No torch here.
"""

import json
import tomllib
from collections.abc import Mapping
from importlib import resources
from typing import Any, Final

import cia_extract.recipes.checks as checks
from cia_extract.common.errors import DataError, UsageError
from cia_extract.recipes.recipe import Audio, Flow, Network, Picture, Recipe, Rgb, Sampling

NAMES: Final = ("kinetics", "transvae", "video_features", "mmsada", "tbn-epic55", "tbn-epic100")

BASE: Final = "kinetics"

# Of recipes in files.
_NAME_CHARACTERS: Final = 100

_VERSIONS: Final = 1_000_000


def load(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by name, with `changes` to single knobs by their dotted names ("rgb.edge": "zero"). Raises UsageError.

    >>> load("kinetics").sampling.frames, load("kinetics", {"sampling.frames": 5}).name
    (25, 'kinetics, changed')
    """
    if name not in NAMES:
        raise UsageError(f"--recipe {checks.brief(name)}: unknown, choose from {', '.join(NAMES)}")
    values, own = _sections(name), _read(name)
    before = json.dumps(values)
    for key, value in (changes or {}).items():
        checks.change(values, key, value)
    checks.check(values, own["backbone"])
    changed = bool(changes) and json.dumps(values) != before
    title = {"name": f"{name}, changed" if changed else name, "version": own["version"], "backbone": own["backbone"]}
    texts = {"about": own["about"], "departs": own.get("departs", ""), "history": _read(BASE)["history"]}
    return _made({**values, **title}, texts)


def restored(knobs: Any, where: str) -> Recipe:
    """The recipe of a feature file, from its `preprocessing`; `where` names the file and dataset.

    Sections that its modalities did not need, and knobs that a recipe did not have yet, are those of the recipe of that name.
    Raises DataError for anything that no version of this project has written.
    """
    title = ("name", "version", "backbone")
    try:
        if not isinstance(knobs, Mapping) or not knobs.keys() >= {*title, "sampling", "network"}:
            raise UsageError(f"it lacks name, version, backbone, sampling or network: {checks.brief(knobs)}")
        name, version, backbone = (knobs[key] for key in title)
        named = type(name) is str and name.isprintable() and 0 < len(name) <= _NAME_CHARACTERS
        if not (named and type(version) is int and 0 < version < _VERSIONS and backbone in checks.BACKBONES):
            raise UsageError(f"name, version and backbone are {checks.brief([name, version, backbone])}")
        plain = name.removesuffix(", changed")
        values = _sections(plain if plain in NAMES else {"i3d": BASE, "tbn": "tbn-epic100"}[backbone])
        for section, own in knobs.items():
            if section in title:
                continue
            if section not in values or not isinstance(own, Mapping):
                raise UsageError(f"{checks.brief(section)}: no section of a recipe")
            for knob, value in own.items():
                checks.change(values, f"{section}.{knob}", value)
        checks.check(values, backbone)
    except (UsageError, TypeError) as error:  # TypeError: a value that cannot be looked up, as a list
        raise DataError(f"{where}: its recipe is damaged, or of a later version of cia-extract: {error}") from error
    return _made({**values, **{key: knobs[key] for key in title}}, {})


def _made(values: Mapping[str, Any], texts: Mapping[str, str]) -> Recipe:
    streams = {}
    for section in ("rgb", "flow"):
        streams[section] = values[section] | {key: tuple(values[section][key]) for key in ("mean", "std")}
    return Recipe(
        name=values["name"],
        version=values["version"],
        backbone=values["backbone"],
        sampling=Sampling(**values["sampling"]),
        picture=Picture(**values["picture"]),
        rgb=Rgb(**streams["rgb"]),
        flow=Flow(**streams["flow"]),
        audio=Audio(**values["audio"]),
        network=Network(**values["network"]),
        **texts,
    )


def parse_change(text: str) -> tuple[str, Any]:
    """A `--set section.knob=value` as (name, value); values are TOML, bare words are strings. Raises UsageError."""
    key, separator, value = text.partition("=")
    if not separator:
        raise UsageError(
            f"--set {checks.brief(text)}: write section.knob=value, for example rgb.edge=zero (see cia-extract recipes kinetics)"
        )
    try:
        read = tomllib.loads(f"value = {value}")
    except (ValueError, RecursionError):  # no TOML, a number of thousands of digits, or brackets without end
        return key.strip(), value
    return key.strip(), read["value"] if set(read) == {"value"} else value


def _sections(name: str) -> checks.Sections:
    """All knobs of a recipe as it is: the base's, and what it changes."""
    base, own = _read(BASE), _read(name)
    return {key: {**base[key], **own.get(key, {})} for key in base if isinstance(base[key], dict)}


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
