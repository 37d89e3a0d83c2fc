"""Clips stored as folders of numbered pictures: EPIC-KITCHENS' official RGB and flow frames, or any numbered jpgs or pngs.

A picture's number is the last digits of its name. A folder counts from 1 (ffmpeg, EPIC) or, if it has a number 0, from 0
(denseflow): picture number n is frame n − 1 or n. Frame i is shown at i/rate. Runs in workers.
"""

import functools
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import numpy.typing as npt

import cia_extract.clips.picture_file as picture_file
from cia_extract.clips.cuts import Cut, frame_number
from cia_extract.common.outcomes import ClipError

PICTURES: Final = frozenset([".jpg", ".jpeg", ".png"])
# A picture's folder or name tells its flow component: u/frame_1.jpg, x_0001.jpg, P01_01_flow_v_0000000001.jpg.
_COMPONENT: Final = {"u": 0, "x": 0, "v": 1, "y": 1}


@dataclass(frozen=True)
class Numbered:
    """The pictures of a folder: {number: file name}."""

    folder: Path
    names: Mapping[int, str]

    @functools.cached_property
    def base(self) -> int:
        """The number of frame 0: 0 if the folder has a picture number 0, else 1."""
        return 0 if 0 in self.names else 1

    @functools.cached_property
    def frames(self) -> int:
        """Number of frames up to the last picture, missing ones included."""
        return max(self.names) - self.base + 1

    def check_begins(self) -> None:
        """Raise ClipError if the first pictures are missing: the number of frame 0 is then unknown."""
        first = min(self.names)
        if first > 1:
            raise ClipError(
                f"{self.folder}: its pictures begin at number {first}, not at 0 or 1; unpack the frames again; or, if they "
                "are cut from a longer video, give start, stop and rate in that video in the manifest, counted from number 1"
            )

    def read(self, frame: int, mode: str) -> npt.NDArray[np.uint8]:
        """Frame `frame`, counted from 0: [H, W, 3] uint8 for `mode` "RGB", [H, W] for "L". Raises ClipError if it is missing."""
        number = frame + self.base
        if number not in self.names:
            raise ClipError(f"{self.folder}: picture number {number} is missing; unpack the frames again")
        return picture_file.read(self.folder / self.names[number], mode)


@functools.lru_cache(maxsize=4)  # EPIC cuts hundreds of clips from one folder of 100 000 pictures
def numbered(folder: Path) -> Numbered:
    """The numbered pictures of a folder. Raises ClipError if it has none, or two with one number."""
    names: dict[int, str] = {}
    for name in _visible(folder):
        stem, suffix = os.path.splitext(name)
        digits = re.search(r"(\d+)$", stem)
        if suffix.lower() in PICTURES and digits is not None:
            _add(names, folder, int(digits.group(1)), name)
    if not names:
        raise ClipError(f"{folder}: has no numbered pictures; expected frame_0000000001.jpg, …")
    return Numbered(folder, names)


def frames(folder: Path, start: float | None, stop: float | None, rate: float) -> Iterator[tuple[npt.NDArray[np.uint8], float]]:
    """Yield the pictures [H, W, 3] uint8 RGB with start ≤ time < stop, and their times (s).

    `rate` is in frames a second; at rate 0 the frames have no times. Raises ClipError if a picture is missing or cannot be read,
    or if start or stop is given without a rate.
    """
    if not rate and (start or stop):
        raise ClipError(f"{folder}: frame folders have no times; give the manifest a column `rate`, or --rate")
    pictures = numbered(folder)
    if not start:
        pictures.check_begins()
    first = frame_number(start, rate) if rate and start is not None else 0
    end = frame_number(stop, rate) if rate and stop is not None else pictures.frames
    if rate:
        Cut(start, stop).check_reached(folder, pictures.frames / rate)
    for frame in range(first, min(end, pictures.frames)):
        yield pictures.read(frame, "RGB"), frame / rate if rate else 0.0


class FlowFolder:
    """Stored flow of a video, quantised to 8 bits: x and y components as grey pictures in `u/` and `v/`, or in one folder.

    Flow i (from 0) is picture number i + 1, or i in a folder that counts from 0. Raises ClipError if the folder or its flow
    frames are missing, or x and y begin at different numbers.
    """

    def __init__(self, folder: Path) -> None:
        if not folder.is_dir():
            raise ClipError(f"{folder}: no such folder of flow frames; correct flow_path in the manifest")
        self.folder = folder
        self.components = [self._component(0), self._component(1)]
        first, second = (min(component.names) for component in self.components)
        if first != second:
            raise ClipError(f"{folder}: x begins at number {first} and y at {second}; unpack the flow frames again")

    def __len__(self) -> int:
        return min(component.frames for component in self.components)

    def check_begins(self) -> None:
        """Raise ClipError if the first flow frames are missing."""
        self.components[0].check_begins()

    def read(self, index: int) -> npt.NDArray[np.uint8]:
        """Flow `index`, from 0: [H, W, 2] uint8, (x, y). Raises ClipError."""
        x, y = (component.read(index, "L") for component in self.components)
        if x.shape != y.shape:
            sizes = " and ".join(f"{plane.shape[1]}x{plane.shape[0]}" for plane in (x, y))
            raise ClipError(f"{self.folder}: x and y of flow {index} have different sizes, {sizes}; unpack the flow frames again")
        return np.stack([x, y], axis=-1)

    def _component(self, axis: int) -> Numbered:
        for name in (letter for letter, component in _COMPONENT.items() if component == axis):
            if (self.folder / name).is_dir():
                return numbered(self.folder / name)
        names = _components_in_one(self.folder)[axis]
        if not names:
            raise ClipError(f"{self.folder}: has no flow frames; expected u/ and v/ with frame_0000000001.jpg, …")
        return Numbered(self.folder, names)


@functools.lru_cache(maxsize=4)
def _components_in_one(folder: Path) -> tuple[dict[int, str], dict[int, str]]:
    components: tuple[dict[int, str], dict[int, str]] = ({}, {})
    for name in _visible(folder):
        match = re.search(r"(?:^|_)([uvxy])_?(\d+)\.(?:jpe?g|png)$", name, re.IGNORECASE)
        if match:
            _add(components[_COMPONENT[match.group(1).lower()]], folder, int(match.group(2)), name)
    return components


def _visible(folder: Path) -> list[str]:
    """The file names in a folder without hidden ones: macOS leaves a `._frame_1.jpg` beside each picture that it unpacks."""
    try:
        return [entry.name for entry in os.scandir(folder) if not entry.name.startswith(".")]
    except OSError as error:
        raise ClipError(f"{folder}: cannot be listed ({error.strerror}); check its permissions") from error


def _add(names: dict[int, str], folder: Path, number: int, name: str) -> None:
    if number in names:
        raise ClipError(f"{folder}: {names[number]} and {name} have the same number; keep one kind of frames in a folder")
    names[number] = name
