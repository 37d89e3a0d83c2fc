"""Recipes: named, versioned sets of every knob that decides how a clip becomes network input, kept as TOML beside this file.

`kinetics.toml` has every knob; the other recipes name only what they change. A flag (`--frames`, `--set rgb.edge=zero`)
changes a knob and with it the recipe's hash, which is part of what a feature file is resumed by. No torch here.
"""

import tomllib
from collections.abc import Mapping
from dataclasses import replace
from importlib import resources
from typing import Any, Final, get_args

from cia_extract.common import settings
from cia_extract.common.errors import DataError, UsageError
from cia_extract.common.settings import brief
from cia_extract.common.suggest import instead
from cia_extract.recipes.checks import check
from cia_extract.recipes.recipe import Backbone, Recipe

NAMES: Final = ("kinetics", "transvae", "video_features", "mmsada", "tbn-epic55", "tbn-epic100")
BASE: Final = "kinetics"
_TITLE: Final = ("name", "version", "backbone")
_NO_TEXTS: Final = {"about": "", "departs": "", "history": ""}


def load(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by name, with `changes` to single knobs by their dotted names ("rgb.edge": "zero"). Raises UsageError.

    >>> load("kinetics").sampling.frames, load("kinetics", {"sampling.frames": 5}).name
    (25, 'kinetics, changed')
    """
    if name not in NAMES:
        raise UsageError(f"--recipe {brief(name)}: unknown{instead(name[:60], NAMES)}")
    values = _values(name)
    recipe = _recipe(values)
    for key, value in (changes or {}).items():
        section, _, knob = key.partition(".")
        if not isinstance(values.get(section), dict):
            known = [f"{own}.{each}" for own, knobs in values.items() if isinstance(knobs, dict) for each in knobs]
            raise UsageError(f"{brief(key)}: unknown{instead(key[:60], known, f'cia-extract recipes {name}')}")
        values[section][knob] = value
    changed = _recipe(values)
    check(changed)
    return recipe if changed.knobs() == recipe.knobs() else replace(changed, name=f"{name}, changed")


def restored(knobs: Any, where: str) -> Recipe:
    """The recipe of a feature file, from its `preprocessing`; `where` names the file and dataset.

    Sections that its modalities did not need, and knobs that a recipe did not have yet, are those of the recipe of that name.
    Raises DataError for anything that no version of this project has written.
    """
    try:
        if not isinstance(knobs, Mapping) or not knobs.keys() >= {*_TITLE, "sampling", "network"}:
            raise UsageError(f"it lacks name, version, backbone, sampling or network: {brief(knobs)}")
        name, backbone = knobs["name"], knobs["backbone"]
        if not isinstance(name, str) or not name.isprintable() or backbone not in get_args(Backbone):
            raise UsageError(f"its name and backbone are {brief([name, backbone])}")
        plain = name.removesuffix(", changed")
        values = _values(plain if plain in NAMES else {"i3d": BASE, "tbn": "tbn-epic100"}[backbone]) | _NO_TEXTS
        for section, own in knobs.items():
            if section in _NO_TEXTS:
                raise UsageError(f"{section}: no section of a recipe")
            values[section] = {**values.get(section, {}), **own} if section not in _TITLE and isinstance(own, Mapping) else own
        recipe = _recipe(values)
        check(recipe)
    except UsageError as error:
        raise DataError(f"{where}: its recipe is damaged, or of a later version of cia-extract: {error}") from error
    return recipe


def _recipe(values: Mapping[str, Any]) -> Recipe:
    return settings.converted(Recipe, values, lambda knob, value: f"{knob} = {value}")


def _values(name: str) -> dict[str, Any]:
    """What a recipe's file says, over what the base's says of the knobs."""
    base, own = _read(BASE), _read(name)
    sections = {key: knobs | own.get(key, {}) for key, knobs in base.items() if isinstance(knobs, dict)}
    return {"name": name, "departs": "", "history": base["history"], **own, **sections}


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))
