"""Frames turned upright: phones and editors store in the file how players should turn or flip the picture."""

from typing import Any

import numpy as np
import numpy.typing as npt

Image = npt.NDArray[np.uint8]


def upright(image: Image, matrix: npt.NDArray[np.int32] | None) -> Image:
    """An image [H, W, 3] turned and flipped by a display matrix [9]; other angles go to the nearest of the eight orientations.

    The matrix (ISO 14496-12: a b u c d v x y w) moves a pixel from (x, y) to (a·x + c·y, b·x + d·y).
    """
    if matrix is None:
        return image
    a, b, c, d = (int(matrix[i]) for i in (0, 1, 3, 4))
    if abs(a) + abs(d) >= abs(b) + abs(c):
        flip_x, flip_y = a < 0, d < 0
    else:
        image = image.swapaxes(0, 1)
        flip_x, flip_y = c < 0, b < 0
    if flip_x:
        image = image[:, ::-1]
    if flip_y:
        image = image[::-1]
    return np.ascontiguousarray(image)


class Upright:
    """Turns the frames of one stream.

    The matrix belongs to the stream. It is looked up only when the angle changes: each look-up keeps the frame in memory until
    the garbage collector runs, which makes decoding half as fast.
    """

    def __init__(self) -> None:
        self._angle: float | None = None
        self._matrix: npt.NDArray[np.int32] | None = None

    def __call__(self, frame: Any) -> Image:
        """Pixels [H, W, 3] uint8 RGB of a decoded frame."""
        angle = float(getattr(frame, "rotation", 0.0))  # not in av 13
        if angle != self._angle:
            self._angle, self._matrix = angle, display_matrix(frame)
        return upright(frame.to_ndarray(format="rgb24"), self._matrix)


def display_matrix(frame: Any) -> npt.NDArray[np.int32] | None:
    """The display matrix [9] of a decoded frame; None if it has none."""
    data = frame.side_data.get("DISPLAYMATRIX")
    return None if data is None or data.buffer_size < 36 else np.frombuffer(bytes(data)[:36], np.int32)
