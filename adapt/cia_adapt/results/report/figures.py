"""Consensus maps over frames, as a picture without a background or texts: it looks alike on a light and on a dark page."""

import io
from collections.abc import Sequence
from typing import Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from PIL import Image

Floats = npt.NDArray[np.float64]
Pixels = npt.NDArray[np.uint8]

SIDE: Final = 150  # pixels of a frame
GAP: Final = 4  # pixels between frames
MOST: Final = 6  # frames side by side; of more, the others lie below
STRENGTH: Final = 0.75  # of the colour where a map is highest


def consensus(frames: Sequence[Pixels], maps: Floats) -> bytes:
    """A clip's frames, and below them the same frames under their consensus maps, in one colour scale, as a WebP file.

    Args:
        frames: S frames, [224, 224, 3] each.
        maps: weights [S, 7, 7].
    """
    lines = -(-len(frames) // MOST)
    columns = -(-len(frames) // lines)
    step = SIDE + GAP
    picture = Image.new("RGBA", (columns * step - GAP, 2 * lines * step - GAP))
    for i, (frame, weights) in enumerate(zip(frames, maps, strict=True)):
        plain = Image.fromarray(frame).resize((SIDE, SIDE), Image.Resampling.LANCZOS)
        x, y = i % columns * step, 2 * (i // columns) * step
        picture.paste(plain, (x, y))
        picture.paste(overlaid(plain, weights / maps.max()), (x, y + step))
    buffer = io.BytesIO()
    picture.save(buffer, format="WEBP", quality=80)
    return buffer.getvalue()


def overlaid(frame: Image.Image, weights: Floats) -> Image.Image:
    """A frame under a map [7, 7] of 0 to 1: the more a cell weighs, the brighter its colour and the less of the frame is left."""
    smooth = np.asarray(Image.fromarray(weights.astype(np.float32)).resize(frame.size, Image.Resampling.BILINEAR))
    colours = 255 * mpl.colormaps["inferno"](smooth)[..., :3]
    share = STRENGTH * smooth[..., None]
    return Image.fromarray(np.rint((1 - share) * np.asarray(frame) + share * colours).astype(np.uint8))
