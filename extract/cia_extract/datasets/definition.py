"""Definitions of the built-in datasets, data/manifests/NAME.toml. Counts and names live there, not in code."""

import tomllib
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from pathlib import Path
from typing import Any

from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean


@dataclass(frozen=True)
class Annotations:
    """One annotation file of a dataset: the names it may have, the published one last, and the split and domain of its clips.

    `{folder}` in a name stands for each class folder.
    """

    files: list[str]
    split: str = ""
    domain: str = ""
    label_free: bool = False


@dataclass(frozen=True)
class Recording:
    """Frames a second of EPIC's annotations and official frames, and flows a second and bound (px) of its official flow."""

    rate: int
    flow_rate: int
    flow_bound: int


@dataclass(frozen=True)
class Expected:
    """The official number of clips of one part, in all and by class (in the order of `classes`; empty if not known)."""

    split: str
    clips: int
    domain: str = ""
    per_class: list[int] = field(default_factory=list)


@dataclass(frozen=True)
class Definition:
    """The definition of a dataset, one TOML.

    `path` is a template of the path of a clip that is not on disk; `clip` names EPIC's column of ids; `tail` and `tail_nouns` are
    the positions of EPIC's rare classes in `classes` and `nouns`.
    """

    name: str
    title: str
    reader: str
    folder: str
    licence: str
    classes: list[str]
    annotations: list[Annotations]
    expected: list[Expected]
    path: str
    layout: str
    """Where the clips lie below the root."""
    get: list[dict[str, str]]
    """What to download: the clips first, then the lists of splits."""
    lists: str = ""
    """Where the official lists lie below the folder of annotations."""
    folders: dict[str, str] = field(default_factory=dict)
    codes: dict[str, str] = field(default_factory=dict)
    domains: list[str] = field(default_factory=list)
    clip: str = ""
    nouns: list[str] = field(default_factory=list)
    tail: list[int] = field(default_factory=list)
    tail_nouns: list[int] = field(default_factory=list)
    recordings: dict[int, Recording] = field(default_factory=dict)

    def how_to_get(self, clips: bool = True, lists: bool = True) -> str:
        """What to download, from where, and how it must be laid out, for a message about one folder."""
        items = [*(self.get[:1] if clips else ()), *(self.get[1:] if lists else ())]
        layouts = [*([self.layout] if clips else ()), *([self.lists] if lists and self.lists else ())]
        sources = " and ".join(f"{item['what']} ({item['url']})" for item in items)
        return f"get {sources}; expected in it: {' and '.join(layouts).rstrip(',')}"


def manifests() -> Traversable:
    """The folder of the definitions: part of the installed package, data/manifests in a checkout."""
    packaged = resources.files("cia_extract").joinpath("manifests")
    return packaged if packaged.is_dir() else Path(__file__).parents[3] / "data" / "manifests"


def names() -> list[str]:
    """Names of all datasets that are read from official downloads (so not `demo`, which is rendered)."""
    stems = sorted(entry.name.removesuffix(".toml") for entry in manifests().iterdir() if entry.name.endswith(".toml"))
    return [stem for stem in stems if "reader" in _table(stem)]


def load(name: str) -> Definition:
    """The definition of a dataset of `names()`. Raises UsageError for another name."""
    if name not in names():
        raise UsageError(f"--dataset {name}: not a built-in dataset; they are {', '.join(names())}{did_you_mean(name, names())}")
    table = _table(name)
    return Definition(
        **table
        | {
            "annotations": [Annotations(**part) for part in table["annotations"]],
            "expected": [Expected(**part) for part in table["expected"]],
            "recordings": {int(digits): Recording(**entry) for digits, entry in table.get("recordings", {}).items()},
        }
    )


def _table(name: str) -> dict[str, Any]:
    """The table of a TOML; with `extends`, its values override those of the TOML named there."""
    table = tomllib.loads(manifests().joinpath(f"{name}.toml").read_text(encoding="utf-8"))
    base = table.pop("extends", None)
    return table if base is None else {**_table(base), **table}
