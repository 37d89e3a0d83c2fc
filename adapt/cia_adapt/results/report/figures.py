"""Consensus maps over frames, as the bytes of a PNG file."""

import io
from collections.abc import Sequence

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure

GREY = "#7a7a7a"  # of what is drawn beside the frames: it is seen on the light page and on the dark one
Floats = npt.NDArray[np.float64]


def consensus(frames: Sequence[npt.NDArray[np.uint8]], maps: Floats) -> bytes:
    """A clip's frames, and below them the same frames under their consensus maps, in one colour scale, on no ground.

    Args:
        frames: S frames, [224, 224, 3] each.
        maps: weights [S, 7, 7].
    """
    figure = Figure(figsize=(1.75 * len(frames), 3.6), layout="constrained")
    axes = figure.subplots(2, len(frames), squeeze=False)
    for column, (frame, weights) in enumerate(zip(frames, maps, strict=True)):
        axes[0, column].imshow(frame)
        axes[1, column].imshow(frame)
        overlay = axes[1, column].imshow(
            weights,
            extent=(-0.5, frame.shape[1] - 0.5, frame.shape[0] - 0.5, -0.5),
            interpolation="bilinear",
            cmap=mpl.colormaps["inferno"],
            alpha=0.75 * weights / maps.max(),  # cells of little weight stay visible
            vmin=0,
            vmax=float(maps.max()),
        )
        for row in (0, 1):
            axes[row, column].set(xticks=[], yticks=[])
    bar = figure.colorbar(overlay, ax=axes[1, :].tolist(), shrink=0.8, aspect=10)
    bar.ax.tick_params(labelsize=7, colors=GREY)
    bar.ax.axhline(1 / maps[0].size, color="white", linewidth=1)  # the weight of every cell under average pooling
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=110, transparent=True, metadata={"Software": None})
    return buffer.getvalue()
