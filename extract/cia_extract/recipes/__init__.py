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

from cia_extract.errors import DataError, UsageError
from cia_extract.recipes import checks

NAMES: Final = ("kinetics", "transvae", "video_features", "mmsada", "tbn-epic55", "tbn-epic100")
BASE: Final = "kinetics"
# Of recipes in files.
_NAME_CHARACTERS: Final = 100
_VERSIONS: Final = 1_000_000


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
    """Which sound belongs to a frame, and how it becomes an image."""

    rate: int  # Hz
    seconds: float  # length of the window that replaces one that overhangs an end of the recording
    n_fft: int
    win: int  # samples
    hop: int  # samples
    log_offset: float

    @property
    def half_s(self) -> float:
        """A window reaches this far to either side of its centre: TBN's 0.639 s, and as much less than `edge` at any length."""
        return round((self.seconds - 0.001) / 2, 9)

    @property
    def edge(self) -> int:
        """Samples of the window at either end of a recording."""
        return round(self.seconds * self.rate)

    @property
    def length(self) -> int:
        """Samples of every other window."""
        return round(2 * self.half_s * self.rate)

    @property
    def shape(self) -> tuple[int, int]:
        """(frequencies, time steps) of an image.

        >>> from cia_extract import recipes
        >>> tbn = recipes.load("kinetics").audio
        >>> tbn.shape, tbn.length, tbn.edge
        ((256, 256), 30672, 30696)
        """
        return self.n_fft // 2 + 1, self.columns(self.length)

    def columns(self, samples: int) -> int:
        """Time steps of so many samples: the FFT's places, a hop apart, when n_fft // 2 zeros lie to either side."""
        return 1 + (samples + self.n_fft // 2 * 2 - self.n_fft) // self.hop


@dataclass(frozen=True)
class Network:
    bn_eps: float
    reduce: str


@dataclass(frozen=True)
class Recipe:
    """Every preprocessing knob. `about`, `departs` and `history` are for people and not part of the hash."""

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
    history: str = field(default="", compare=False)

    def knobs(self, modalities: Sequence[str] = ("rgb", "flow", "audio")) -> dict[str, Any]:
        """Name, version and the knobs that these modalities depend on, as plain values: what a feature file stores."""
        everything = dataclasses.asdict(self)
        pictures = ("picture",) if {"rgb", "flow"} & set(modalities) else ()
        # MM-SADA's rule keeps RGB's windows inside the clip, and so decides the centres of all modalities.
        used = {*modalities, "rgb"} if self.sampling.rule == "inside" else {*modalities}
        sections = ("sampling", *pictures, *(m for m in ("rgb", "flow", "audio") if m in used), "network")
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
