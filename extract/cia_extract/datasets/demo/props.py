"""Props: the things that the figure holds, climbs or strikes. Two classes of an appearance pair differ only in colour."""

import math
from collections.abc import Callable

from cia_extract.datasets.demo.backdrop import HEIGHT, WIDTH
from cia_extract.datasets.demo.draw import Canvas, shade
from cia_extract.datasets.demo.figure import Colour, Point


class Props:
    """Draws the props of one frame.

    `chroma` holds the two colours as differences from grey, `grey` is the luma, `tint` the strength of the colours, `stature`
    the figure's in world pixels; `at` maps body units to world pixels.
    """

    def __init__(
        self,
        chroma: tuple[Colour, Colour],
        grey: float,
        tint: float,
        stature: float,
        canvas: Canvas,
        at: Callable[[Point], Point],
    ) -> None:
        self.chroma, self.grey, self.tint, self.stature = chroma, grey, tint, stature
        self.canvas, self.at = canvas, at

    def colour(self, grey: float, second: bool = False) -> Colour:
        """The prop's first or second colour at a luma of `grey` levels relative to its own."""
        level, chroma = self.grey + grey, self.chroma[int(second)]
        # Paler where the full strength would clip, which would change the luma.
        strength = min(self.tint, *((255.0 - level if c > 0 else level) / max(abs(c), 1e-9) for c in chroma))
        r, g, b = (level + strength * c for c in chroma)
        return r, g, b

    def quad(self, x0: float, y0: float, x1: float, y1: float, colour: Colour) -> None:
        """Fill the rectangle between two corners, in body units."""
        self.canvas.polygon([self.at((x0, y0)), self.at((x1, y0)), self.at((x1, y1)), self.at((x0, y1))], colour)

    def stroke(self, a: Point, b: Point, width: float, colour: Colour) -> None:
        """Draw a stroke between two points, all in body units."""
        self.canvas.line(self.at(a), self.at(b), width * self.stature, colour)

    def shadow(self, x: float) -> None:
        """Darken the floor under the figure at `x`, in body units."""
        under = self.at((x, 0.0))
        floor = self.canvas.frame[min(max(int(under[1]), 0), HEIGHT - 1), min(max(int(under[0]), 0), WIDTH - 1)]
        self.canvas.ellipse(under, 0.20 * self.stature, 0.025 * self.stature, shade(tuple(floor.tolist()), 0.75))

    def ladder(self, height: float, spacing: float) -> None:
        """Draw a ladder with a rung at `height` and others `spacing` apart, in body units."""
        dark, light = self.colour(-70.0), self.colour(-45.0)
        low, high = 0.0, 2.2
        for x in (-0.19, 0.19):
            self.stroke((x, low), (x, high), 0.028, dark)
        first = math.ceil((low - height) / spacing)
        for k in range(first, first + int((high - low) / spacing) + 1):
            y = height + k * spacing
            self.stroke((-0.19, y), (0.19, y), 0.022, light)

    def box(self, centre: Point) -> None:
        """Draw a crate or suitcase around `centre`, in body units."""
        x, y = centre
        w, h = 0.19, 0.13
        self.quad(x - w, y - h, x + w, y + h, self.colour(-40.0))
        self.quad(x - w + 0.02, y - h + 0.02, x + w - 0.02, y + h - 0.02, self.colour(0.0))
        for k in (-1.0, 0.0, 1.0):
            self.stroke((x - w, y + 0.068 * k), (x + w, y + 0.068 * k), 0.010, self.colour(-30.0))
        for k in (-0.5, 0.5):
            self.stroke((x + k * w, y - h), (x + k * w, y + h), 0.022, self.colour(22.0, True))

    def ball(self, centre: Point) -> None:
        """Draw a ball around `centre`, in body units."""
        r = 0.105 * self.stature
        self.canvas.disc(self.at(centre), r, self.colour(-45.0))
        self.canvas.disc(self.at((centre[0], centre[1] + 0.01)), r * 0.8, self.colour(0.0))
        self.canvas.disc(self.at((centre[0], centre[1] + 0.02)), r * 0.35, self.colour(30.0))

    def block(self, x: float, height: float) -> None:
        """Draw a chopping block or drum at `x`, in body units."""
        w, tip = 0.15, 0.04
        sx, _ = self.at((x, 0.0))
        rx, ry = w * self.stature, tip * self.stature
        foot, top = self.at((x, 0.02))[1], self.at((x, height - tip))[1]
        self.canvas.ellipse((sx, foot), rx, ry, self.colour(-25.0))
        self.quad(x - w, 0.02, x + w, height - tip, self.colour(-12.0))
        for k in (-0.75, -0.4, 0.0, 0.4, 0.75):
            self.stroke((x + k * w, 0.0), (x + k * w * 0.9, height - tip), 0.012, self.colour(-40.0, True))
        self.canvas.ellipse((sx, top), rx, ry, self.colour(-35.0))
        self.canvas.ellipse((sx, top), rx * 0.88, ry * 0.85, self.colour(25.0))

    def tool(self, grip: Point, head: Point) -> None:
        """Draw an axe or mallet, a stick with a thick end, from `grip` to `head`, in body units."""
        self.stroke(grip, head, 0.022, (120.0, 96.0, 70.0))
        dx, dy = head[0] - grip[0], head[1] - grip[1]
        neck = (head[0] - 0.25 * dx, head[1] - 0.25 * dy)
        self.stroke(neck, head, 0.07, self.colour(-20.0))
