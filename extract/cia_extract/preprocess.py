"""From a decoded frame to network input: the `kinetics` recipe (`extraction.md` §1)."""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

Pixels = npt.NDArray[np.uint8]

SHORT_SIDE: Final = 256  # px
CROP: Final = 224  # px


def scaled_size(height: int, width: int) -> tuple[int, int]:
    """(height, width) with the shorter side 256 px, aspect kept, the longer one rounded down to even.

    >>> scaled_size(240, 320), scaled_size(1080, 1920), scaled_size(640, 480)
    ((256, 340), (256, 454), (340, 256))
    """
    short = min(height, width)
    return (SHORT_SIDE if height == short else height * SHORT_SIDE // short // 2 * 2,
            SHORT_SIDE if width == short else width * SHORT_SIDE // short // 2 * 2)  # fmt: skip


def resize(image: Pixels) -> Pixels:
    """[H, W, 3] uint8 → shorter side 256. Bilinear with antialiasing (Pillow's): plain bilinear drops pixels of 1080p frames."""
    height, width = scaled_size(*image.shape[:2])
    if (height, width) == image.shape[:2]:
        return image
    return np.asarray(Pillow.fromarray(image).resize((width, height), Pillow.Resampling.BILINEAR))


def centre_crop(image: Pixels) -> Pixels:
    """[H, W, …] → [224, 224, …] around the centre; an odd pixel is left at the bottom or right."""
    top, left = (image.shape[0] - CROP) // 2, (image.shape[1] - CROP) // 2
    return np.ascontiguousarray(image[top : top + CROP, left : left + CROP])


def grey(image: Pixels) -> Pixels:
    """[H, W, 3] RGB → [H, W]: ITU-R BT.601 luma, on which flow is computed."""
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)


def to_unit_range(values: Pixels) -> npt.NDArray[np.float32]:
    """uint8 → float32 in [−1, 1] by 2x/255 − 1: RGB pixels, and quantised flow (its ±20 px)."""
    return values.astype(np.float32) * np.float32(2 / 255) - np.float32(1)
