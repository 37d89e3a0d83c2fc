"""Drawing figures for papers with matplotlib, as PNG, PDF or SVG by the suffix of the file's name."""

import io
import textwrap
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from cia_extract.clips import Pixels
from cia_extract.common import writes
from cia_extract.common.errors import UsageError
from cia_extract.common.names import printable
from matplotlib.figure import Figure
from matplotlib.text import Text

SOURCE_COLOUR, TARGET_COLOUR = "#1f4fd8", "#d62728"  # source blue, target red, as in the paper's figures
SUFFIXES: Final = {".png": {"Software": None}, ".pdf": {"CreationDate": None}, ".svg": {"Date": None}}
LONGEST: Final = 60  # characters of a title
MARKERS: Final = "osD^v<>PX*ph8"  # filled ones, which stay apart when they are small
DPI: Final = 200
Floats = npt.NDArray[np.float64]


def check_out(out: Path) -> None:
    """Raise UsageError unless `out` can be the name of a figure."""
    if out.is_dir():
        raise UsageError(f"--out {out}: is a folder; name a file in it")
    if out.suffix.lower() not in SUFFIXES:
        raise UsageError(f"--out {out}: the suffix says the format; end the name in {', '.join(SUFFIXES)}")


def save(figure: Figure, out: Path) -> None:
    """Write a figure, the same bytes each time. Texts are drawn literally: `$` begins no formula. Raises UsageError."""
    suffix = out.suffix.lower()
    for text in figure.findobj(Text):
        text.set_parse_math(False)
    buffer = io.BytesIO()
    with warnings.catch_warnings(), mpl.rc_context({"svg.hashsalt": "cia", "svg.fonttype": "none", "pdf.fonttype": 42}):
        warnings.filterwarnings("ignore", message="Glyph .* missing")
        figure.savefig(buffer, format=suffix[1:], dpi=DPI, metadata=SUFFIXES[suffix])
    with writes.translated(f"--out {out}", "choose another file"):
        out.parent.mkdir(parents=True, exist_ok=True)
        with writes.whole(out) as part:
            part.write_bytes(buffer.getvalue())


def shown(title: str, longest: int = LONGEST) -> str:
    """A name on one line, cut to `longest` characters so that it fits a figure; names may be of any length."""
    line = printable(title)
    return line if len(line) <= longest else line[: longest - 1] + "…"


def scatter(panels: Mapping[str, Sequence[tuple[Floats, Sequence[str]]]], domains: Sequence[str]) -> Figure:
    """t-SNE plots side by side: source blue, target red, and a class's shape is the same in all of them.

    Args:
        panels: {title: for each domain (coordinates [n, 2], names of the clips' classes, "" where it is not known)}.
        domains: names of the two.
    """
    markers = markers_of([name for panel in panels.values() for _, names in panel for name in names])
    figure = Figure(figsize=(4.2 * len(panels), 4.4 + 0.2 * np.ceil(len(markers) / 4)), layout="constrained")
    all_axes = figure.subplots(1, len(panels), squeeze=False)[0]
    for axes, (title, panel) in zip(all_axes, panels.items(), strict=True):
        for (points, names), colour in zip(panel, (SOURCE_COLOUR, TARGET_COLOUR), strict=True):
            shape = np.array([markers.get(name, ".") for name in names])
            for marker in dict.fromkeys(shape.tolist()):
                at = points[shape == marker]
                axes.scatter(at[:, 0], at[:, 1], s=16, alpha=0.7, color=colour, marker=marker, linewidths=0)
        axes.set(xticks=[], yticks=[])
        axes.set_title(shown(title, 48), fontsize=9)
    colours = zip(domains, ("source", "target"), (SOURCE_COLOUR, TARGET_COLOUR), strict=True)
    keys = [_key("o", colour, f"{shown(domain, 24)} ({role})") for domain, role, colour in colours]
    keys += [_key(marker, "#666666", shown(name, 24)) for name, marker in markers.items()]
    if any(name not in markers for panel in panels.values() for _, names in panel for name in names if name):
        keys.append(_key(".", "#666666", "other classes"))
    figure.legend(handles=keys, loc="outside lower center", ncols=min(4, 2 * len(panels)), fontsize=7, frameon=False)
    return figure


def markers_of(names: Sequence[str]) -> dict[str, str]:
    """{class: its marker}, sorted, of the most frequent classes: as many as there are markers."""
    counts: dict[str, int] = {}
    for name in names:
        if name:
            counts[name] = counts.get(name, 0) + 1
    frequent = sorted(counts, key=lambda name: (-counts[name], name))[: len(MARKERS)]
    return dict(zip(sorted(frequent), MARKERS, strict=False))


def _key(marker: str, colour: str, label: str) -> Any:
    return mpl.lines.Line2D([], [], linestyle="", marker=marker, color=colour, markersize=5, label=label)


def maps_over_frames(frames: Sequence[Pixels | None], panels: Mapping[str, Floats], rows: Sequence[str], title: str) -> Figure:
    """A row for each frame: the frame, and over it the map of each panel. A panel's colours go from 0 to its largest value.

    Args:
        frames: S pictures [H, W, 3]; None where the clip's file cannot be read, then the maps lie on grey.
        panels: {its name: maps [S, h, w], not negative}.
        rows: names of the frames.
    """
    seen = any(frame is not None for frame in frames)
    columns = (["frame"] if seen else []) + list(panels)
    width = 1.5 * len(columns) + 0.5  # inches
    figure = Figure(figsize=(width, 1.5 * len(frames) + 0.65), layout="constrained")
    axes = figure.subplots(len(frames), len(columns), squeeze=False)
    line = int(11 * width)  # characters of this size
    figure.suptitle(textwrap.fill(shown(title, 2 * line), line, break_on_hyphens=False), fontsize=9)
    for row, frame in enumerate(frames):
        picture = np.full((224, 224, 3), 128, np.uint8) if frame is None else frame
        for column, name in enumerate(columns):
            cell = axes[row, column]
            cell.imshow(picture)
            if name in panels:
                _overlay(cell, panels[name][row], float(panels[name].max()), picture.shape)
            cell.set(xticks=[], yticks=[])
            if row == 0:
                cell.set_title(name, fontsize=8)
        axes[row, 0].set_ylabel(rows[row], fontsize=7)
    return figure


def _overlay(axes: Any, values: Floats, largest: float, shape: tuple[int, ...]) -> None:
    """A map [h, w] over a picture; cells of little weight let the picture through."""
    share = values / largest if largest > 0 else np.zeros_like(values)
    extent = (-0.5, shape[1] - 0.5, shape[0] - 0.5, -0.5)
    axes.imshow(share, extent=extent, interpolation="bilinear", cmap=mpl.colormaps["inferno"], alpha=0.75 * share, vmin=0, vmax=1)
