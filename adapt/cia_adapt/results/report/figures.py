"""The report's figures, each as the bytes of a PNG file."""

import io
import warnings
from collections.abc import Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from cia_extract.common.names import printable
from matplotlib.figure import Figure
from matplotlib.text import Text

from cia_adapt.training import Metrics

SOURCE_COLOUR, TARGET_COLOUR = "#1f4fd8", "#d62728"  # source blue, target red, as in the paper's figures
LONGEST = 80  # characters of a title
Floats = npt.NDArray[np.float64]


def png(figure: Figure) -> bytes:
    """A figure as a PNG file. Texts are drawn literally: `$` begins no formula, and a letter that the font lacks is a box."""
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        warnings.filterwarnings("ignore", message=".*layout not applied")
        figure.savefig(buffer, format="png", dpi=110, metadata={"Software": None})
    return buffer.getvalue()


def shown(title: str) -> str:
    """A title on one line, cut to `LONGEST` characters so that it fits a figure; names may be of any length."""
    line = printable(title)
    return line if len(line) <= LONGEST else line[: LONGEST - 1] + "…"


def curves(histories: Sequence[Sequence[Metrics]], title: str) -> bytes:
    """Accuracies, class loss and domain accuracies by epoch, from the metrics of each seed's epochs.

    A line is the mean over the seeds, a band their range.
    """
    figure = Figure(figsize=(9, 3), layout="constrained")
    left, right = figure.subplots(1, 2)
    _band(left, histories, "source_val_accuracy", "source val", SOURCE_COLOUR)
    _band(left, histories, "target_val_accuracy", "target val (uses target labels)", TARGET_COLOUR)
    left.set(title=shown(title), xlabel="epoch", ylabel="accuracy, %", ylim=(0, 102))
    _band(right, histories, "class_loss", "class loss (source)", "black")
    right.set(xlabel="epoch", ylabel="cross-entropy", ylim=(0, 1.15 * right.get_ylim()[1]))
    if "video_domain_accuracy" in histories[0][0]:
        share = right.twinx()
        _band(share, histories, "video_domain_accuracy", "domain told apart, video", "#7f3fbf")
        if "frame_domain_accuracy" in histories[0][0]:
            _band(share, histories, "frame_domain_accuracy", "domain told apart, frame", "#b59ad6")
        share.axhline(50, color="grey", linewidth=0.7, linestyle=":")
        share.set(ylabel="%, 50 is chance for equal batches", ylim=(0, 102))
        share.legend(fontsize=7, loc="lower right", framealpha=0.6)
    left.legend(fontsize=7, loc="best", framealpha=0.6)
    right.legend(fontsize=7, loc="upper right", framealpha=0.6)
    return png(figure)


def _band(axes: Any, histories: Sequence[Sequence[Metrics]], key: str, label: str, colour: str) -> None:
    """Draw one metric: its mean over the seeds and their range."""
    values = np.array([[metrics.get(key, np.nan) for metrics in history] for history in histories])  # [seeds, epochs]
    epochs = np.arange(1, values.shape[1] + 1)
    axes.plot(epochs, values.mean(0), color=colour, label=label, linewidth=1.5)
    if len(values) > 1:
        axes.fill_between(epochs, values.min(0), values.max(0), color=colour, alpha=0.15, linewidth=0)


def tsne(source: Floats, target: Floats, title: str) -> bytes:
    """A scatter plot of both domains' coordinates [n, 2]: source blue, target red."""
    figure = Figure(figsize=(4.4, 4.2), layout="constrained")
    axes = figure.subplots()
    for points, label, colour in ((source, "source", SOURCE_COLOUR), (target, "target", TARGET_COLOUR)):
        axes.scatter(points[:, 0], points[:, 1], s=12, alpha=0.7, color=colour, label=label, linewidths=0)
    axes.set(title=shown(title), xticks=[], yticks=[])
    axes.title.set_fontsize(9)
    axes.legend(fontsize=8)
    return png(figure)


def consensus(frames: Sequence[npt.NDArray[np.uint8]], maps: Floats, title: str) -> bytes:
    """A clip's frames, and below them the same frames under their consensus maps, in one colour scale.

    Args:
        frames: S frames, [224, 224, 3] each.
        maps: weights [S, 7, 7].
    """
    figure = Figure(figsize=(1.75 * len(frames), 3.9), layout="constrained")
    axes = figure.subplots(2, len(frames), squeeze=False)
    figure.suptitle(shown(title), fontsize=9)
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
    bar.ax.tick_params(labelsize=6)
    bar.ax.axhline(1 / maps[0].size, color="white", linewidth=1)  # the weight of every cell under average pooling
    return png(figure)
