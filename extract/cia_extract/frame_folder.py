"""Clips that come as numbered pictures: EPIC-KITCHENS' official RGB and flow frames, or any folder of numbered jpgs.

Picture number n (1-based, the last digits of its name) is frame n − 1, shown at time (n − 1)/rate. Runs in workers.
"""

import functools
import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from cia_extract.ledger import ClipError

PICTURES: Final = frozenset([".jpg", ".jpeg", ".png"])
# A flow component is told by its folder or by its name: u/frame_1.jpg, x_0001.jpg, P01_01_flow_v_0000000001.jpg.
_COMPONENT: Final = {"u": 0, "x": 0, "v": 1, "y": 1}
# EPIC's annotations reach a few frames beyond the last extracted one.
TOLERATED_S: Final = 0.1


@functools.lru_cache(maxsize=4)  # EPIC cuts hundreds of clips from one folder of 100 000 pictures
def numbered(folder: Path) -> dict[int, str]:
    """{number: file name} of the pictures of a folder. Raises ClipError for none, or two of one number."""
    found: dict[int, str] = {}
    for entry in os.scandir(folder):
        stem, suffix = os.path.splitext(entry.name)
        digits = re.search(r"(\d+)$", stem)
        if suffix.lower() not in PICTURES or digits is None:
            continue
        number = int(digits.group(1))
        if number in found:
            raise ClipError(f"{folder}: {found[number]} and {entry.name} have the same number; keep one kind of frame a folder")
        found[number] = entry.name
    if not found:
        raise ClipError(f"{folder}: no numbered pictures in it (frame_0000000001.jpg, …)")
    return found


def frames(folder: Path, start: float | None, stop: float | None, rate: float) -> Iterator[tuple[npt.NDArray[np.uint8], float]]:
    """The pictures [H, W, 3] uint8 RGB with start ≤ time < stop, and their times. `rate` in frames a second; 0 without times.

    Raises ClipError where a picture is missing or cannot be read, or the clip's times are asked for without a rate.
    """
    if not rate and (start or stop):
        raise ClipError(f"{folder}: frame folders have no times; give the manifest a column `rate`, or --rate")
    names = numbered(folder)
    first = round(start * rate) + 1 if rate and start is not None else min(names)
    end = round(stop * rate) + 1 if rate and stop is not None else max(names) + 1
    last = min(end, max(names) + 1)
    if end - last > TOLERATED_S * rate:
        raise ClipError(f"{folder}: partial, {max(last - first, 0)} of {end - first} frames are there", "partial decode")
    for number in range(first, last):
        yield _picture(folder, names, number, "RGB"), (number - 1) / rate if rate else 0.0


def _picture(folder: Path, names: dict[int, str], number: int, mode: str) -> npt.NDArray[np.uint8]:
    if number not in names:
        raise ClipError(f"{folder}: picture number {number} is missing; unpack the frames again")
    try:
        with Pillow.open(folder / names[number]) as picture:
            return np.asarray(picture.convert(mode))
    except (OSError, SyntaxError, ValueError) as error:
        raise ClipError(f"{folder / names[number]}: cannot be read ({error}); unpack the frames again") from error


class FlowFolder:
    """Stored flow of a video, quantised to 8 bits: x and y components as grey pictures in `u/` and `v/`, or in one folder.

    Flow index i (0-based) is picture number i + 1.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ClipError(f"{folder}: no such folder of flow frames")
        self.folder = folder
        self.components = [self._component(0), self._component(1)]

    def __len__(self) -> int:
        return min(max(names) for _, names in self.components)

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """[H, W, 2] uint8, (x, y)."""
        planes = [_picture(folder, names, index + 1, "L") for folder, names in self.components]
        return np.stack(planes, axis=-1)

    def _component(self, which: int) -> tuple[Path, dict[int, str]]:
        for name in (letter for letter, component in _COMPONENT.items() if component == which):
            if (self.folder / name).is_dir():
                return self.folder / name, numbered(self.folder / name)
        names = _components_in_one(self.folder)[which]
        if not names:
            raise ClipError(f"{self.folder}: no flow frames in it; expected u/ and v/ with frame_0000000001.jpg, …")
        return self.folder, names


@functools.lru_cache(maxsize=4)
def _components_in_one(folder: Path) -> tuple[dict[int, str], dict[int, str]]:
    found: tuple[dict[int, str], dict[int, str]] = ({}, {})
    for entry in os.scandir(folder):
        match = re.search(r"(?:^|_)([uvxy])_?(\d+)\.(?:jpe?g|png)$", entry.name, re.IGNORECASE)
        if match:
            found[_COMPONENT[match.group(1).lower()]][int(match.group(2))] = entry.name
    return found
