"""What a recipe's knobs may be. One place for `--set`, flags and the recipes that feature files carry."""

import math
from collections.abc import Mapping
from typing import Any, Final

from cia_extract.common.errors import UsageError

Sections = dict[str, dict[str, Any]]

BACKBONES: Final = ("i3d", "tbn")
# Knobs with a closed set of values.
CHOICES: Final[Mapping[str, tuple[Any, ...]]] = {
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
# Every other knob: its least and its greatest value, wide enough for all uses and narrow enough to be computed.
_LIMITS: Final[Mapping[str, tuple[float, float]]] = {
    "sampling.frames": (1, 10_000),
    "sampling.rate": (0, 1000),
    "picture.short_side": (32, 2160),
    "picture.crop": (32, 2160),
    "rgb.window": (1, 1024),
    "rgb.first": (-100_000, 100_000),
    "rgb.step": (1, 1000),
    "rgb.mean": (-1e6, 1e6),
    "rgb.std": (1e-6, 1e6),
    "flow.window": (1, 1024),
    "flow.first": (-100_000, 100_000),
    "flow.step": (1, 1000),
    "flow.mean": (-1e6, 1e6),
    "flow.std": (1e-6, 1e6),
    "flow.median": (0, 5),
    "flow.stride": (1, 1000),
    "flow.dilation": (1, 1000),
    "flow.bound": (0.001, 10_000),
    "audio.rate": (1000, 192_000),
    "audio.seconds": (0.01, 60),
    "audio.n_fft": (63, 8192),
    "audio.win": (1, 8192),
    "audio.hop": (1, 8192),
    "audio.log_offset": (1e-30, 1e6),
    "network.bn_eps": (1e-12, 1),
}
_SMALLEST_IMAGE: Final = 32  # BN-Inception halves five times


def brief(value: object) -> str:
    """A value for a message: one line of at most 60 characters."""
    try:
        text = value if isinstance(value, str) and value.isprintable() else ascii(value)
    except (ValueError, RecursionError):  # a number of thousands of digits, or nested without end
        text = f"a {type(value).__name__}"
    return text if len(text) <= 60 else f"{text[:59]}…"


def fitted(key: str, value: Any, like: Any) -> Any:
    """`value` in the type of the knob's present value: whole numbers become floats. Raises UsageError."""
    if isinstance(like, list):
        if not (isinstance(value, list) and len(value) == len(like) and all(type(v) in {int, float} for v in value)):
            raise UsageError(f"{key} = {brief(value)}: give {len(like)} numbers, like {like}")
        return [_float(key, v) for v in value]
    if isinstance(like, float) and type(value) is int:
        return _float(key, value)
    if type(value) is not type(like):
        raise UsageError(f"{key} = {brief(value)}: give a value like {like}")
    return value


def _float(key: str, value: float) -> float:
    try:
        return float(value)
    except OverflowError:
        raise UsageError(f"{key} = {brief(value)}: the number is too large") from None


def change(sections: Sections, key: str, value: Any) -> None:
    """Set one knob by its dotted name. Raises UsageError for one that does not exist, or a value of another type."""
    section, _, knob = key.partition(".")
    if knob not in sections.get(section, {}):
        known = ", ".join(f"{s}.{k}" for s, knobs in sections.items() for k in knobs)
        raise UsageError(f"{brief(key)}: no such knob of a recipe; there are {known}")
    sections[section][knob] = fitted(key, value, sections[section][knob])


def check(sections: Sections, backbone: str) -> None:
    """Raises UsageError for values that no extraction can use, alone or together."""
    for section, knobs in sections.items():
        for knob, value in knobs.items():
            _check_one(f"{section}.{knob}", value)
    if sections["flow"]["median"] not in {0, 1, 3, 5}:
        raise UsageError(f"flow.median = {sections['flow']['median']}: TV-L1's filters are of 3 or 5 px, 0 for none")
    _check_together(sections, backbone)
    _check_sound(sections["audio"])


def _check_one(key: str, value: Any) -> None:
    if key in CHOICES:
        if value not in CHOICES[key]:
            raise UsageError(f"{key} = {brief(value)}: unknown, choose from {', '.join(CHOICES[key])}")
        return
    least, most = _LIMITS[key]
    for number in value if isinstance(value, list) else [value]:
        if isinstance(number, float) and math.isnan(number):
            raise UsageError(f"{key} = {brief(value)}: is not a number")
        if key.endswith(".std") and number == 0:
            raise UsageError(f"{key}: cannot be zero")
        if number < least:
            raise UsageError(f"{key} = {brief(value)}: must be {least:g} or more")
        if number > most:
            raise UsageError(f"{key} = {brief(value)}: must be {most:g} or less")


def _check_together(sections: Sections, backbone: str) -> None:
    """What no single knob shows."""
    if sections["picture"]["crop"] > sections["picture"]["short_side"]:
        raise UsageError("picture.crop is larger than picture.short_side; there would be nothing to crop from")
    for stream in ("rgb", "flow"):
        window = sections[stream]["window"]
        if backbone == "i3d" and window < 9:
            raise UsageError(f"{stream}.window = {window}: I3D needs 9 frames or more for two time slices")
    if backbone == "tbn" and (sections["rgb"]["window"], sections["flow"]["window"]) != (1, 5):
        raise UsageError("TBN's networks see 1 RGB frame and 5 flows; rgb.window and flow.window cannot change")
    if backbone == "tbn" and sections["picture"]["crop"] != 224:
        raise UsageError("picture.crop: TBN's maps are 7×7 from 224 px only")
    if sections["picture"]["crop"] != 224:
        raise UsageError("picture.crop: maps are 7×7 from 224 px only")


def _check_sound(audio: Mapping[str, Any]) -> None:
    if audio["win"] > audio["n_fft"]:
        raise UsageError(f"audio.win = {audio['win']}: must not be longer than audio.n_fft, {audio['n_fft']}")
    columns = audio["seconds"] * audio["rate"] / audio["hop"]
    if not _SMALLEST_IMAGE < columns < 10_000:
        raise UsageError(
            f"audio.seconds · audio.rate / audio.hop = {columns:.4g}: spectrograms need {_SMALLEST_IMAGE} to 10000 time steps"
        )
