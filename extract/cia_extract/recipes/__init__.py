"""Recipes: named, versioned sets of every knob that decides how a clip becomes network input, kept as TOML beside this file.

`kinetics.toml` explains each knob; the other recipes name only what they change. A flag (`--frames`, `--set rgb.edge=zero`)
changes a knob and with it the recipe's hash, which is part of what a feature file is resumed by. No torch here.
"""

import dataclasses
import hashlib
import json
import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final

from cia_extract.errors import UsageError

NAMES: Final = ("kinetics", "transvae", "video_features", "mmsada", "tbn-epic55", "tbn-epic100")
BASE: Final = "kinetics"

# Knobs with a closed set of values.
CHOICES: Final[Mapping[str, tuple[str, ...]]] = {
    "sampling.rule": ("tsn", "linspace", "inside"),
    "picture.longer_side": ("even", "nearest-even", "int"),
    "picture.resize": ("pillow", "opencv", "opencv-cubic"),
    "rgb.edge": ("replicate", "zero"),
    "rgb.order": ("rgb", "bgr"),
    "flow.edge": ("replicate", "zero"),
    "flow.algorithm": ("tvl1", "dis"),
    "flow.quantiser": ("floor", "round", "round128"),
    "flow.stored": ("rescale", "keep"),
    "network.reduce": ("mean", "pairs"),
}
_AT_LEAST: Final = {
    "sampling.frames": 1,
    "sampling.rate": 0,
    "picture.short_side": 32,
    "picture.crop": 32,
    "rgb.window": 1,
    "rgb.step": 1,
    "flow.window": 1,
    "flow.step": 1,
    "flow.stride": 1,
    "flow.dilation": 1,
    "flow.bound": 0.001,
    "network.bn_eps": 1e-12,
    "audio.hop": 1,
}


@dataclass(frozen=True)
class Sampling:
    frames: int
    rule: str
    rate: float


@dataclass(frozen=True)
class Picture:
    short_side: int
    longer_side: str
    resize: str
    crop: int


@dataclass(frozen=True)
class Rgb:
    window: int
    first: int
    step: int
    edge: str
    order: str
    mean: tuple[float, ...]
    std: tuple[float, ...]


@dataclass(frozen=True)
class Flow:
    window: int
    first: int
    step: int
    edge: str
    mean: tuple[float, ...]
    std: tuple[float, ...]
    algorithm: str
    median: int
    stride: int
    dilation: int
    bound: float
    quantiser: str
    stored: str


@dataclass(frozen=True)
class Audio:
    rate: int
    seconds: float
    n_fft: int
    win: int
    hop: int
    log_offset: float


@dataclass(frozen=True)
class Network:
    bn_eps: float
    reduce: str


@dataclass(frozen=True)
class Recipe:
    """Every preprocessing knob. `about` and `departs` are for people and not part of the hash."""

    name: str
    version: int
    backbone: str
    sampling: Sampling
    picture: Picture
    rgb: Rgb
    flow: Flow
    audio: Audio
    network: Network
    about: str = field(default="", compare=False)
    departs: str = field(default="", compare=False)

    def knobs(self, modalities: Sequence[str] = ("rgb", "flow", "audio")) -> dict[str, Any]:
        """Name, version and the knobs that these modalities depend on, as plain values: what a feature file stores."""
        everything = dataclasses.asdict(self)
        pictures = ("picture",) if {"rgb", "flow"} & set(modalities) else ()
        sections = ("sampling", *pictures, *(m for m in ("rgb", "flow", "audio") if m in modalities), "network")
        chosen = {key: everything[key] for key in ("name", "version", "backbone", *sections)}
        plain: dict[str, Any] = json.loads(json.dumps(chosen))  # tuples → lists, as a file gives them back
        return plain

    def sha256(self) -> str:
        return hashlib.sha256(json.dumps(self.knobs(), sort_keys=True).encode()).hexdigest()


def load(name: str, changes: Mapping[str, Any] | None = None) -> Recipe:
    """A recipe by name, with `changes` to single knobs by their dotted names ("rgb.edge": "zero"). Raises UsageError.

    >>> load("kinetics").sampling.frames, load("kinetics", {"sampling.frames": 5}).name
    (25, 'kinetics, changed')
    """
    if name not in NAMES:
        raise UsageError(f"--recipe {name}: unknown, choose from {', '.join(NAMES)}")
    base, own = _read(BASE), _read(name)
    values = {key: {**base.get(key, {}), **own.get(key, {})} for key in base if isinstance(base[key], dict)}
    before = json.dumps(values)
    for key, value in (changes or {}).items():
        _change(values, key, value)
    for key, allowed in CHOICES.items():
        section, knob = key.split(".")
        if values[section][knob] not in allowed:
            raise UsageError(f"{key} = {values[section][knob]}: unknown, choose from {', '.join(allowed)}")
    if values["flow"]["median"] not in {0, 1, 3, 5}:
        raise UsageError(f"flow.median = {values['flow']['median']}: TV-L1's filters are of 3 or 5 px, 0 for none")
    for key, least in _AT_LEAST.items():
        section, knob = key.split(".")
        if values[section][knob] < least:
            raise UsageError(f"{key} = {values[section][knob]}: must be {least} or more")
    _check(values, own["backbone"])
    changed = bool(changes) and json.dumps(values) != before
    title = {"name": f"{name}, changed" if changed else name, "version": own["version"], "backbone": own["backbone"]}
    return _made({**values, **title}, own["about"], own.get("departs", ""))


def restored(knobs: Mapping[str, Any]) -> Recipe:
    """The recipe of a feature file, from its `preprocessing`. Sections its modalities did not need have the base's values."""
    base = _read(BASE)
    sections = {key: values | knobs.get(key, {}) for key, values in base.items() if isinstance(values, dict)}
    return _made(sections | {key: knobs[key] for key in ("name", "version", "backbone")}, "", "")


def _made(values: Mapping[str, Any], about: str, departs: str) -> Recipe:
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
        about=about,
        departs=departs,
    )


def parse_change(text: str) -> tuple[str, Any]:
    """A `--set section.knob=value` as (name, value); values are TOML, bare words are strings. Raises UsageError."""
    key, separator, value = text.partition("=")
    if not separator:
        raise UsageError(f"--set {text}: write section.knob=value, for example rgb.edge=zero (see cia-extract recipes kinetics)")
    try:
        return key, tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key, value


def _read(name: str) -> dict[str, Any]:
    return tomllib.loads(resources.files(__package__).joinpath(f"{name}.toml").read_text(encoding="utf-8"))


def _change(values: dict[str, dict[str, Any]], key: str, value: Any) -> None:
    section, _, knob = key.partition(".")
    if knob not in values.get(section, {}):
        known = ", ".join(f"{s}.{k}" for s, knobs in values.items() for k in knobs)
        raise UsageError(f"{key}: no such knob of a recipe; there are {known}")
    old = values[section][knob]
    if isinstance(old, float) and isinstance(value, int):
        value = float(value)
    if isinstance(old, list):
        if isinstance(value, list) and len(value) == len(old) and all(isinstance(v, int | float) for v in value):
            value = [float(v) for v in value]
        else:
            raise UsageError(f"{key} = {value}: give {len(old)} numbers, like {old}")
    if type(value) is not type(old):
        raise UsageError(f"{key} = {value}: give a value like {old}")
    values[section][knob] = value


def _check(values: dict[str, dict[str, Any]], backbone: str) -> None:
    """What no single knob shows."""
    if values["picture"]["crop"] > values["picture"]["short_side"]:
        raise UsageError("picture.crop is larger than picture.short_side; there would be nothing to crop from")
    for stream in ("rgb", "flow"):
        window = values[stream]["window"]
        if backbone == "i3d" and window < 9:
            raise UsageError(f"{stream}.window = {window}: I3D needs 9 frames or more for two time slices")
        if 0 in values[stream]["std"]:
            raise UsageError(f"{stream}.std: cannot be zero")
    if backbone == "tbn" and (values["rgb"]["window"], values["flow"]["window"]) != (1, 5):
        raise UsageError("TBN's networks see 1 RGB frame and 5 flows; rgb.window and flow.window cannot change")
    if backbone == "tbn" and values["picture"]["crop"] != 224:
        raise UsageError("picture.crop: TBN's maps are 7×7 from 224 px only")
    if values["picture"]["crop"] != 224:
        raise UsageError("picture.crop: maps are 7×7 from 224 px only")
