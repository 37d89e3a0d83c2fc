"""What the page is put together from: sections of text, figures and tables. Whoever makes a section knows nothing of HTML."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import pandas as pd

NUMBERS: Final = "numbers"  # the name by which a chart's specification refers to its figure's numbers


@dataclass(frozen=True)
class Figure:
    """A chart or a picture, what it says in words, and its numbers."""

    name: str
    """Of its CSV file, without the ending; no other figure or table of one study has it."""
    title: str
    alt: str
    """What a reader who does not see it must know."""
    chart: Mapping[str, Any] | None = None
    """A Vega-Lite specification; its data have the name `NUMBERS`."""
    picture: bytes = b""
    """A PNG, JPEG or SVG file, where there is no chart."""
    numbers: pd.DataFrame | None = None
    """What is drawn, a row each; the reader can save it as CSV."""
    choices: Mapping[str, Sequence[str]] = field(default_factory=dict)
    """{parameter of the chart: its values}: a menu each. Figures of one section with the same parameter share its menu."""
    note: str = ""
    """How to read it, a sentence or two below the figure."""


@dataclass(frozen=True)
class Table:
    """A table that the reader can sort and save as CSV. Numbers stand right, text left."""

    name: str
    """As `Figure.name`."""
    title: str
    rows: pd.DataFrame
    """The cells; a column that is empty in the page is NaN or ""."""
    note: str = ""
    muted: Sequence[str] = ()
    """Columns that are no results of ours, such as the published numbers and the oracle: greyed."""
    folded: bool = False
    """Shown only when the reader asks for it."""


@dataclass(frozen=True)
class Section:
    """A part of the page under a heading."""

    title: str
    text: Sequence[str] = ()
    """Paragraphs before the figures."""
    figures: Sequence[Figure] = ()
    tables: Sequence[Table] = ()
    commands: Sequence[str] = ()
    """Commands to copy, after the text."""
