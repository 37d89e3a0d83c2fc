"""Backgrounds: a plain studio wall, or a street with walls, windows, signs, objects on the ground and passers-by."""

from dataclasses import dataclass

import cv2
import numpy as np

from cia_extract.datasets.demo.draw import Affine, Canvas, Frame, shade
from cia_extract.datasets.demo.figure import Colour

WIDTH, HEIGHT = 320, 240  # frame, pixels
MARGIN = 64  # pixels of background kept on every side, for the moving camera


def identity() -> Affine:
    """The camera [2 x 3] that maps world pixels to the same frame pixels."""
    return np.array([[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]])


def _ramp(top: Colour, bottom: Colour, rows: int, columns: int) -> Frame:
    """A vertical colour gradient, [rows x columns x 3]."""
    share = np.linspace(0.0, 1.0, rows)[:, None, None]
    image = np.asarray(top) * (1.0 - share) + np.asarray(bottom) * share  # [rows x 1 x 3]
    return np.broadcast_to(np.rint(image).clip(0, 255), (rows, columns, 3)).astype(np.uint8)


def _colour(rng: np.random.Generator, low: float, high: float, spread: float = 40.0) -> Colour:
    """A random grey level between `low` and `high`, with each channel up to `spread` above or below it."""
    r, g, b = np.clip(rng.uniform(low, high) + rng.uniform(-spread, spread, 3), 0.0, 255.0).tolist()
    return r, g, b


def plain(rng: np.random.Generator, floor: float) -> Frame:
    """A studio: coloured paper or a curtain, a soft pool of light, a bare floor, [H + 2 MARGIN x W + 2 MARGIN x 3]."""
    rows, columns = HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN
    horizon = int(floor - rng.uniform(14.0, 30.0)) + MARGIN
    wall, ground = _colour(rng, 110.0, 205.0, 30.0), _colour(rng, 100.0, 180.0, 15.0)
    top = _ramp(wall, shade(wall, float(rng.uniform(0.8, 1.1))), horizon, columns)
    bottom = _ramp(ground, shade(ground, 1.1), rows - horizon, columns)
    image = np.ascontiguousarray(np.vstack([top, bottom]))
    view = Canvas(image, identity())
    for _ in range(int(rng.integers(0, 4))):  # hanging paper
        x, wide = float(rng.uniform(0, columns)), float(rng.uniform(40.0, 140.0))
        view.polygon([(x, 0), (x + wide, 0), (x + wide, horizon), (x, horizon)], _colour(rng, 90.0, 215.0, 30.0))
    y, x = np.mgrid[0:rows, 0:columns].astype(np.float32)
    folds = float(rng.uniform(0.0, 0.12)) * np.sin(2.0 * np.pi * x / rng.uniform(12.0, 40.0) + rng.uniform(0.0, 6.28))
    folds[horizon:] = 0.0
    cx, cy, wide = rng.uniform(0.2, 0.8) * columns, rng.uniform(0.2, 0.6) * rows, rng.uniform(60.0, 160.0)
    pool = float(rng.uniform(-0.1, 0.25)) * np.exp(-((x - cx) ** 2 + (y - cy) ** 2) / (2.0 * wide**2))
    lit: Frame = np.clip(image * (1.0 + folds + pool)[:, :, None], 0, 255).astype(np.uint8)
    return lit


def cluttered(rng: np.random.Generator, floor: float) -> Frame:
    """A street front, [H + 2 MARGIN x W + 2 MARGIN x 3]."""
    rows, columns = HEIGHT + 2 * MARGIN, WIDTH + 2 * MARGIN
    horizon = int(floor - rng.uniform(18.0, 34.0)) + MARGIN
    image = np.ascontiguousarray(
        np.vstack(
            [
                _ramp(_colour(rng, 90, 170, 15.0), _colour(rng, 70, 140, 15.0), horizon, columns),
                _ramp(_colour(rng, 80, 120, 10.0), _colour(rng, 90, 135, 10.0), rows - horizon, columns),
            ]
        )
    )
    view = Canvas(image, identity())
    x = 0.0
    while x < columns:  # house fronts with rows of windows
        wide = float(rng.uniform(60.0, 130.0))
        top = float(rng.uniform(0.0, 90.0))
        front, pane = _colour(rng, 80, 180, 16.0), _colour(rng, 40, 200, 16.0)
        view.polygon([(x, top), (x + wide, top), (x + wide, horizon), (x, horizon)], front)
        step, size = float(rng.uniform(24.0, 40.0)), float(rng.uniform(9.0, 18.0))
        for wx in np.arange(x + 8.0, x + wide - size, step):
            for wy in np.arange(top + 10.0, horizon - 2.0 * size, step * 1.2):
                view.polygon([(wx, wy), (wx + size, wy), (wx + size, wy + size * 1.5), (wx, wy + size * 1.5)], pane)
        x += wide
    for _ in range(int(rng.integers(8, 15))):  # signs, bins, crates, balls: shapes like the props, of any colour
        cx, cy = float(rng.uniform(0, columns)), float(rng.uniform(horizon - 60.0, rows - 20.0))
        w, h = float(rng.uniform(8.0, 30.0)), float(rng.uniform(8.0, 34.0))
        paint = _colour(rng, 50, 200, 40.0)
        if rng.random() < 0.3:
            view.ellipse((cx, cy), w / 2, w / 2, paint)
        else:
            view.polygon([(cx - w / 2, cy - h), (cx + w / 2, cy - h), (cx + w / 2, cy), (cx - w / 2, cy)], paint)
    for _ in range(int(rng.integers(2, 6))):  # poles and wires
        x0, y0 = float(rng.uniform(0, columns)), float(rng.uniform(0, 80))
        upright = rng.random() < 0.6
        end = (x0, float(horizon + 10)) if upright else (float(rng.uniform(0, columns)), y0 + 40.0)
        view.line((x0, y0), end, float(rng.uniform(1.5, 5.0)), _colour(rng, 20, 120))
    coarse = rng.normal(0.0, 7.0, (rows // 4, columns // 4)).astype(np.float32)
    grain = cv2.resize(coarse, (columns, rows), interpolation=cv2.INTER_CUBIC)[:, :, None]  # [rows x columns x 1]
    worn: Frame = np.clip(image + grain, 0, 255).astype(np.uint8)
    return worn


@dataclass(frozen=True)
class Passer:
    """Somebody or something that crosses the background at constant speed."""

    x: float
    """World pixels at time 0."""
    y: float
    """Row of the ground contact."""
    speed: float
    """World pixels per second."""
    size: float
    """Height in world pixels."""
    colour: Colour
    second: Colour
    """Of the windows or legs."""
    vehicle: bool
    pace: float
    """Strides per second."""

    def draw(self, view: Canvas, t: float) -> None:
        """Draw the passer at `t` seconds: a vehicle, or a person who walks."""
        x, s = self.x + self.speed * t, self.size
        if self.vehicle:
            w = 0.9 * s
            view.polygon([(x - w, self.y - 0.75 * s), (x + w, self.y - 0.75 * s), (x + w, self.y), (x - w, self.y)], self.colour)
            view.polygon(
                [(x - 0.7 * w, self.y - 0.65 * s), (x + 0.7 * w, self.y - 0.65 * s), (x + 0.7 * w, self.y - 0.4 * s),
                 (x - 0.7 * w, self.y - 0.4 * s)], self.second,
            )  # fmt: skip
            return
        swing = 0.16 * s * float(np.sin(2.0 * np.pi * self.pace * t + self.x))
        hip = (x, self.y - 0.48 * s)
        for foot in (x + swing, x - swing):
            view.line(hip, (foot, self.y), 0.08 * s, self.second)
        view.capsule((x, self.y - 0.52 * s), (x, self.y - 0.80 * s), 0.09 * s, 0.09 * s, self.colour)
        view.disc((x, self.y - 0.93 * s), 0.07 * s, (170.0, 130.0, 105.0))


def passers(rng: np.random.Generator, number: int, floor: float) -> list[Passer]:
    """Draw `number` passers; most cross the middle of the frame during the clip."""
    drawn = []
    for _ in range(number):
        speed = float(rng.uniform(20.0, 55.0)) * (1.0 if rng.random() < 0.5 else -1.0)
        middle = float(rng.uniform(40.0, WIDTH - 40.0))
        drawn.append(
            Passer(
                x=middle - speed,  # in the middle about 1 s into the clip
                y=floor - float(rng.uniform(2.0, 16.0)),
                speed=speed,
                size=float(rng.uniform(45.0, 85.0)),
                colour=_colour(rng, 40, 200, 40.0),
                second=_colour(rng, 30, 140),
                vehicle=bool(rng.random() < 0.35),
                pace=float(rng.uniform(0.8, 1.4)),
            )
        )
    return drawn
