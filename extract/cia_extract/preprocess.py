"""From a decoded frame to what a network sees, by a recipe's `picture` (`extraction.md` §1, §2). Runs in workers."""

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from cia_extract.recipes import Picture

Pixels = npt.NDArray[np.uint8]


def scaled_size(height: int, width: int, short_side: int = 256, longer_side: str = "even") -> tuple[int, int]:
    """(height, width) with the shorter side as given, aspect kept, the longer one as the recipe rounds it.

    >>> scaled_size(240, 320), scaled_size(1080, 1920), scaled_size(640, 480), scaled_size(240, 320, longer_side="int")
    ((256, 340), (256, 454), (340, 256), (256, 341))
    >>> scaled_size(1080, 1920, longer_side="nearest-even")
    (256, 456)
    """
    short, longer = min(height, width), max(height, width)
    if longer_side == "nearest-even":
        other = int(longer * short_side / short / 2 + 0.5) * 2
    else:
        unit = 2 if longer_side == "even" else 1
        other = longer * short_side // short // unit * unit
    return (short_side if height == short else other, short_side if width == short else other)


def resize(image: Pixels, picture: Picture) -> Pixels:
    """[H, W, 3 or none] uint8 → shorter side as the recipe says.

    Pillow's bilinear is antialiased; OpenCV's drops pixels of 1080p frames and is offered for ports that use it.
    """
    height, width = scaled_size(image.shape[0], image.shape[1], picture.short_side, picture.longer_side)
    if (height, width) == image.shape[:2]:
        return image
    if picture.resize == "pillow":
        return np.asarray(Pillow.fromarray(image).resize((width, height), Pillow.Resampling.BILINEAR))
    import cv2

    interpolation = {"opencv": cv2.INTER_LINEAR, "opencv-cubic": cv2.INTER_CUBIC}[picture.resize]
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), dtype=np.uint8)


def centre_crop(image: Pixels, size: int = 224) -> Pixels:
    """[H, W, …] → [size, size, …] around the centre; an odd pixel is left at the bottom or right."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return np.ascontiguousarray(image[top : top + size, left : left + size])


def grey(image: Pixels) -> Pixels:
    """[H, W, 3] RGB → [H, W]: ITU-R BT.601 luma, on which flow is computed."""
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
