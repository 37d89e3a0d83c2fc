"""A grid of results as text: for a terminal, markdown, LaTeX or CSV. Names in it cannot act as markup or as a formula."""

import io
import re
import sys
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final, Literal

import pandas as pd
from cia_extract.common import console, spreadsheets
from cia_extract.common.names import printable
from rich.console import Console
from rich.table import Table

Format = Literal["terminal", "markdown", "latex", "csv"]
TEX: Final = {
    "\\": r"\textbackslash{}", "_": r"\_", "%": r"\%", "&": r"\&", "±": r"$\pm$", "→": r"$\to$", "−": "$-$", "★": r"$\star$",
    "#": r"\#", "$": r"\$", "{": r"\{", "}": r"\}", "~": r"\textasciitilde{}", "^": r"\textasciicircum{}",
    "<": r"\textless{}", ">": r"\textgreater{}", "|": r"\textbar{}",
    "◇": r"$\diamond$", "–": "--", "×": r"$\times$", "λ": r"$\lambda$",
}  # fmt: skip


@dataclass(frozen=True)
class Grid:
    """A table as text, not yet in a format."""

    title: str
    header: Sequence[str]
    """The columns' headings."""
    rows: Sequence[Sequence[str]]
    """The cells of each row, as many as headings."""
    notes: Sequence[str]
    """Lines below the table."""
    number: str
    """Which number ours are (selected, last, oracle): a column of its own in CSV, which has no notes."""
    departs: Sequence[str]
    """For each row, in what its runs depart from the method of its name: a column of its own in CSV."""


def render(grid: Grid, form: Format) -> str:
    """The grid in a format, as text to print or to paste."""
    formats: dict[str, Callable[[Grid], str]] = {"csv": _csv, "markdown": _markdown, "latex": _latex, "terminal": _terminal}
    return formats[form](grid)


def _csv(grid: Grid) -> str:
    """With the number that is ours, and in what the runs depart from the method of that name."""
    table = pd.DataFrame(grid.rows, columns=list(map(spreadsheets.cell, grid.header)))
    table.iloc[:, 1] = table.iloc[:, 1].map(spreadsheets.cell)  # the other cells are ours: "+1.0 [+0.2, +1.9]"
    table["ours"], table["departs from the method in"] = grid.number, list(map(spreadsheets.cell, grid.departs))
    return table.to_csv(index=False, lineterminator="\n")


def _markdown(grid: Grid) -> str:
    def line(cells: Sequence[str]) -> str:
        return "| " + " | ".join(_escaped(cell).replace("|", r"\|") for cell in cells) + " |"

    lines = [f"**{grid.title}**", "", line(grid.header), "|" + "---|" * len(grid.header), *map(line, grid.rows), ""]
    return "\n".join([*lines, *(f"- {_escaped(note)}" for note in grid.notes)]) + "\n"


def _escaped(text: str) -> str:
    """A cell or note whose names cannot act as markup (HTML, links, code, emphasis); other stars and signs stay as they are."""
    return re.sub(r"[\\`<>]|(?<=\S)[*_](?=\S)|!\[|\]\(", lambda mark: "".join("\\" + c for c in mark[0]), printable(text))


def _latex(grid: Grid) -> str:
    """With booktabs' rules; the notes stand below as text."""
    table = pd.DataFrame([map(_tex, row) for row in grid.rows], columns=list(map(_tex, grid.header)))
    body = table.to_latex(index=False, column_format="ll" + "r" * (len(grid.header) - 2))
    notes = "".join(rf"\par\footnotesize {_tex(note)}" + "\n" for note in grid.notes)
    return f"% {printable(grid.title)}\n% needs \\usepackage{{booktabs}}\n{body}{notes}"


def _tex(text: str) -> str:
    return "".join(TEX.get(character, character) for character in printable(text))


def _terminal(grid: Grid) -> str:
    table = Table(title=grid.title, caption=console.cells("\n".join(grid.notes))[0], caption_justify="left")
    for i, heading in enumerate(console.cells(*grid.header)):
        style = "dim" if heading.plain.endswith("published") else ""
        table.add_column(heading, justify="left" if i < 2 else "right", style=style)
    for row in grid.rows:
        table.add_row(*console.cells(*row))
    buffer = io.StringIO()
    width = None if sys.stdout.isatty() else 200
    Console(file=buffer, width=width or Console().width).print(table, markup=False)
    return buffer.getvalue()
