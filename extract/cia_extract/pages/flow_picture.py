"""Optical flow as colours and as arrows.

Colours as in Baker et al., "A Database and Evaluation Methodology for Optical Flow", IJCV 2011: the hue is the direction, the
saturation the length; what does not move is white.
"""

import numpy as np
import numpy.typing as npt

from cia_extract.clips import Pixels

Motion = npt.NDArray[np.float32]  # [H, W, 2], px to the right and down

GRID = 16  # px between arrows
LONGEST = 14  # px that an arrow of full length has in the picture


def colours(motion: Motion, full: float) -> Pixels:
    """Motion → [H, W, 3] RGB. `full` is the length (px) of full colour; longer motion has it too.

    >>> colours(np.array([[[0, 0], [2, 0], [-2, 0]]], np.float32), 2.0).tolist()
    [[[255, 255, 255], [255, 0, 0], [0, 255, 255]]]
    """
    import cv2

    length, angle = cv2.cartToPolar(motion[..., 0], motion[..., 1], angleInDegrees=True)
    hsv = np.stack([angle % 360, np.minimum(length / full, 1), np.ones_like(length)], axis=-1).astype(np.float32)
    return np.asarray(np.rint(cv2.cvtColor(hsv, cv2.COLOR_HSV2RGB) * 255), dtype=np.uint8)


def wheel(side: int = 96) -> npt.NDArray[np.uint8]:
    """The key of `colours`: every direction at its place around the centre, transparent outside, [side, side, 4]."""
    axis = np.linspace(-1, 1, side, dtype=np.float32)
    motion = np.stack(np.meshgrid(axis, axis), axis=-1)
    inside = np.linalg.norm(motion, axis=-1) <= 1
    return np.dstack([colours(motion, 1.0), np.where(inside, 255, 0).astype(np.uint8)])


def arrows(picture: Pixels, motion: Motion, full: float) -> Pixels:
    """The picture [H, W, 3], paler and grey, under arrows; one of `full` px is `LONGEST` px long. Cells that rest have none."""
    import cv2

    grey = cv2.cvtColor(picture, cv2.COLOR_RGB2GRAY)
    drawn = cv2.cvtColor((grey // 2 + 127).astype(np.uint8), cv2.COLOR_GRAY2RGB)
    for y in range(GRID // 2, picture.shape[0], GRID):
        for x in range(GRID // 2, picture.shape[1], GRID):
            cell = motion[y - GRID // 2 : y + GRID // 2, x - GRID // 2 : x + GRID // 2]
            dx, dy = (cell.reshape(-1, 2).mean(0) * LONGEST / full).clip(-LONGEST, LONGEST)
            if np.hypot(dx, dy) >= 1:
                end = round(float(x + dx)), round(float(y + dy))
                cv2.arrowedLine(drawn, (x, y), end, (200, 0, 0), 1, cv2.LINE_AA, tipLength=0.35)
    return np.asarray(drawn, dtype=np.uint8)
