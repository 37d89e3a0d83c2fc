"""From a decoded frame to a network's picture: scaling and cropping by a recipe's `picture`. Runs in workers.

I3D's authors scale the shorter side to 256 and crop 224 from the centre (https://github.com/google-deepmind/kinetics-i3d); the
longer side is rounded differently by everyone: to even in their MediaPipe graph, truncated in torchvision and video_features,
to the nearest even number by ffmpeg's `scale=-2:256`, which gave EPIC-KITCHENS' frames.
"""

from typing import Final

import numpy as np
import numpy.typing as npt
from PIL import Image as Pillow

from cia_extract.common.outcomes import ClipError
from cia_extract.recipes import Picture

Pixels = npt.NDArray[np.uint8]  # [H, W], [H, W, 3] RGB or [H, W, 2] flow

# Of a frame; 8K video has 33 million. A small file can decompress to gigabytes.
LARGEST_PX: Final = 64_000_000
# Adaptive streams round the same picture to 854×480 and 848×480, or 1920×1080 and 1920×1088: 0.8 % apart at most.
SAME_SHAPE: Final = 0.01
# Longer side / shorter side. Panoramas have 2, the widest screens 3.6; longer frames would take gigabytes once scaled.
LONGEST: Final = 10


def scaled_size(height: int, width: int, short_side: int = 256, longer_side: str = "even") -> tuple[int, int]:
    """(height, width) with `short_side` as the shorter side and the aspect kept; `longer_side` says how the other is rounded.

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


def resize(image: Pixels, picture: Picture, size: tuple[int, int] | None = None) -> Pixels:
    """[H, W, 3, 2 or none] uint8 → shorter side as the recipe says, or `size` (height, width).

    Pillow's bilinear is antialiased; OpenCV's drops pixels of 1080p frames and is offered for ports that use it.
    """
    height, width = size or scaled_size(image.shape[0], image.shape[1], picture.short_side, picture.longer_side)
    if (height, width) == image.shape[:2]:
        return image
    if picture.resize == "pillow":
        if image.ndim == 3 and image.shape[2] == 2:  # Pillow takes two channels for grey with alpha, and mixes them
            return np.stack([resize(image[..., c], picture, (height, width)) for c in (0, 1)], axis=-1)
        return np.asarray(Pillow.fromarray(image).resize((width, height), Pillow.Resampling.BILINEAR))
    import cv2

    interpolation = {"opencv": cv2.INTER_LINEAR, "opencv-cubic": cv2.INTER_CUBIC}[picture.resize]
    return np.asarray(cv2.resize(image, (width, height), interpolation=interpolation), dtype=np.uint8)


class Scaler:
    """Scales the frames of one clip, all to the size that its first frame gets.

    A stream may change its resolution (adaptive streams): picture and motion stay the same once scaled. A change of shape by more
    than SAME_SHAPE (another film begins, a phone is turned) is refused: stretched frames would show motion that is not there.
    `exactly` refuses any change of size, since stored flow is in px of its own size. `name` stands for the clip in messages.
    """

    def __init__(self, name: str, picture: Picture, exactly: bool = False) -> None:
        self.name, self.picture, self.exactly = name, picture, exactly
        self.first: tuple[int, int] | None = None  # (height, width) of the first frame
        self.size = (0, 0)  # (height, width) that every frame gets

    def check_size(self, image: Pixels, number: int) -> None:
        """Raise ClipError if frame `number` (from 0) has another shape than the first frame, or is too long to be scaled."""
        height, width = image.shape[:2]
        if (height, width) == self.first:
            return
        if self.first is None:
            if max(height, width) > LONGEST * min(height, width):
                raise ClipError(f"{self.name}: its picture of {width}x{height} is too long and narrow; get the clip again")
            self.first = height, width
            self.size = scaled_size(height, width, self.picture.short_side, self.picture.longer_side)
        elif self.exactly or abs(width * self.first[0] / (height * self.first[1]) - 1) > SAME_SHAPE:
            old = f"{self.first[1]}x{self.first[0]}"
            raise ClipError(
                f"{self.name}: picture size changes from {old} to {width}x{height} at frame {number} (counted from 0); "
                "cut the clip there"
            )

    def __call__(self, image: Pixels, number: int) -> Pixels:
        """Frame `number` scaled: [H, W, …] uint8 → [*size, …]. Raises ClipError as `check`."""
        self.check_size(image, number)
        return resize(image, self.picture, self.size)


def centre_crop(image: Pixels, size: int = 224) -> Pixels:
    """[H, W, …] → [size, size, …] around the centre; an odd pixel is cut off at the bottom or right."""
    top, left = (image.shape[0] - size) // 2, (image.shape[1] - size) // 2
    return np.ascontiguousarray(image[top : top + size, left : left + size])


def on_canvas(image: Pixels, height: int, width: int) -> Pixels:
    """[H, W, …] → [height, width, …] around the centre. What is too large is cut, what is too small repeats its outermost pixels.

    The centre crop of the canvas is that of the picture where all sides are even numbers.

    >>> on_canvas(np.arange(4, dtype=np.uint8).reshape(2, 2), 1, 6).tolist()
    [[0, 0, 0, 1, 1, 1]]
    """
    missing = [max(size - have, 0) for size, have in zip((height, width), image.shape, strict=False)]
    if any(missing):
        sides = [(short // 2, short - short // 2) for short in missing]
        image = np.pad(image, [*sides, *[(0, 0)] * (image.ndim - 2)], mode="edge")
    top, left = (image.shape[0] - height) // 2, (image.shape[1] - width) // 2
    return np.ascontiguousarray(image[top : top + height, left : left + width])


def grey(image: Pixels) -> Pixels:
    """[H, W, 3] uint8 RGB → [H, W] uint8: ITU-R BT.601 luma, on which flow is computed."""
    import cv2

    return np.asarray(cv2.cvtColor(image, cv2.COLOR_RGB2GRAY), dtype=np.uint8)
