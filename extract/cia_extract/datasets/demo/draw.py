"""Anti-aliased shapes on an 8-bit RGB frame, seen through a moving camera."""

import math
from collections.abc import Sequence

import cv2
import numpy as np
import numpy.typing as npt

from cia_extract.datasets.demo.figure import Colour, Point

Frame = npt.NDArray[np.uint8]  # [H x W x 3], R G B
Affine = npt.NDArray[np.float64]  # [2 x 3], world pixels -> frame pixels

SHIFT = 4  # OpenCV's fixed-point fractional bits: shapes are placed to 1/16 px


def shade(colour: Colour, factor: float) -> Colour:
    """The colour made darker (factor < 1) or lighter, cut to 0 ... 255."""
    return tuple(min(max(c * factor, 0.0), 255.0) for c in colour)  # type: ignore[return-value]


class Canvas:
    """A frame and the camera through which shapes in world pixels (x right, y down) are drawn on it."""

    def __init__(self, frame: Frame, camera: Affine) -> None:
        self.frame, self.camera = frame, camera
        self.zoom = math.hypot(camera[0, 0], camera[1, 0])

    def _fixed(self, points: Sequence[Point]) -> npt.NDArray[np.int32]:
        """World points [n x 2] -> fixed-point frame points [n x 2]."""
        world = np.asarray(points, np.float64)
        seen = world @ self.camera[:, :2].T + self.camera[:, 2]  # [n x 2]
        return np.rint(seen * (1 << SHIFT)).astype(np.int32)

    def polygon(self, points: Sequence[Point], colour: Colour) -> None:
        """Fill a convex polygon of world points."""
        cv2.fillConvexPoly(self.frame, self._fixed(points), colour, cv2.LINE_AA, SHIFT)

    def disc(self, centre: Point, radius: float, colour: Colour) -> None:
        """Fill a circle, `radius` in world pixels."""
        x, y = self._fixed([centre])[0].tolist()
        cv2.circle(self.frame, (x, y), round(radius * self.zoom * (1 << SHIFT)), colour, -1, cv2.LINE_AA, SHIFT)

    def line(self, a: Point, b: Point, width: float, colour: Colour) -> None:
        """Draw a stroke with flat ends, `width` world pixels wide."""
        dx, dy = b[0] - a[0], b[1] - a[1]
        length = math.hypot(dx, dy) or 1.0
        nx, ny = -dy / length * width / 2, dx / length * width / 2
        corners = [(a[0] + nx, a[1] + ny), (b[0] + nx, b[1] + ny), (b[0] - nx, b[1] - ny), (a[0] - nx, a[1] - ny)]
        self.polygon(corners, colour)

    def ellipse(self, centre: Point, rx: float, ry: float, colour: Colour) -> None:
        """Fill an upright ellipse as a polygon of 24 corners, radii in world pixels."""
        angles = np.linspace(0.0, 2.0 * math.pi, 24, endpoint=False)
        self.polygon([(centre[0] + rx * math.cos(a), centre[1] + ry * math.sin(a)) for a in angles], colour)

    def capsule(self, a: Point, b: Point, ra: float, rb: float, colour: Colour) -> None:
        """Draw a tapered capsule, lit from the upper left: a darker outline with a lighter core; radii in world pixels."""
        self._capsule(a, b, ra, rb, shade(colour, 0.78))
        ox, oy = -0.18 * min(ra, rb), -0.18 * min(ra, rb)
        self._capsule((a[0] + ox, a[1] + oy), (b[0] + ox, b[1] + oy), ra * 0.68, rb * 0.68, shade(colour, 1.06))

    def _capsule(self, a: Point, b: Point, ra: float, rb: float, colour: Colour) -> None:
        dx, dy = b[0] - a[0], b[1] - a[1]
        length = math.hypot(dx, dy)
        if length > 1e-6:
            nx, ny = -dy / length, dx / length
            self.polygon(
                [
                    (a[0] + nx * ra, a[1] + ny * ra),
                    (b[0] + nx * rb, b[1] + ny * rb),
                    (b[0] - nx * rb, b[1] - ny * rb),
                    (a[0] - nx * ra, a[1] - ny * ra),
                ],
                colour,
            )
            self.disc(b, rb, colour)
        self.disc(a, ra, colour)
