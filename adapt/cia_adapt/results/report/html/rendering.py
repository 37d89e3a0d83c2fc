"""One HTML file with everything inside: text, tables, charts with their script, pictures, all numbers."""

import base64
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Final

import jinja2
import pandas as pd
from cia_extract import __version__
from cia_extract.common.names import printable
from markupsafe import Markup
from pandas.api.types import is_float_dtype

from cia_adapt.results.report.section import Figure, Section

MOST_ROWS: Final = 1000  # of a table that are in the page itself; a browser lays out each
KINDS: Final = {b"\x89PNG": "image/png", b"\xff\xd8\xff": "image/jpeg", b"RIFF": "image/webp", b"<": "image/svg+xml"}


@dataclass(frozen=True)
class Page:
    """What one HTML file shows."""

    title: str
    chapters: Mapping[str, Sequence[Section]]
    """{heading: sections}; the heading is left out where there is one chapter."""
    left_out: Sequence[str] = ()
    """What is not shown, and why."""


def render(page: Page) -> str:
    """The HTML of a page. It asks the network for nothing; names in it are text, whatever they contain."""
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.finalize = lambda value: printable(value, keep="\n") if type(value) is str else value
    environment.globals |= {
        "most_rows": MOST_ROWS,
        "figure_data": figure_data,
        "columns": columns,
        "texts": texts,
        "is_number": is_number,
        "picture": picture,
        "as_json": as_json,
    }
    charts = any(figure.chart for sections in page.chapters.values() for section in sections for figure in section.figures)
    return environment.from_string(_resource("page.html")).render(
        page=page,
        version=__version__,
        style=Markup(_resource("page.css")),
        script=Markup(_resource("page.js")),
        library=Markup(library() if charts else ""),
    )


def _resource(name: str) -> str:
    return resources.files(__package__).joinpath(name).read_text(encoding="utf-8")


@cache
def library() -> str:
    """Vega, Vega-Lite and Vega-Embed as one script, out of vl-convert."""
    import vl_convert

    return (
        str(vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;"))
        .replace("</script", "<\\/script")
        .replace("<!--", "<\\!--")
    )


def figure_data(figure: Figure) -> str:
    """A chart's specification and its numbers, as JSON for a script element."""
    numbers = figure.numbers if figure.numbers is not None else pd.DataFrame()
    return as_json({"spec": _printable(figure.chart), "columns": columns(numbers)})


def columns(table: pd.DataFrame) -> dict[str, Any]:
    """{column: its cells}: numbers to 4 decimals, texts printable, None for nothing.

    A column of texts that repeat is {"values": the different ones, "at": the place of each cell's}.
    """
    cells: dict[str, Any] = {}
    for name in table:
        column = table[name].astype(float).round(4) if is_float_dtype(table[name]) else table[name]
        plain = [None if _missing(value) else _printable(value) for value in column.tolist()]
        values = list(dict.fromkeys(plain))
        if len(plain) > 2 * len(values) and any(isinstance(value, str) for value in values):
            place = {value: i for i, value in enumerate(values)}
            cells[printable(str(name))] = {"values": values, "at": [place[value] for value in plain]}
        else:
            cells[printable(str(name))] = plain
    return cells


def _printable(value: Any) -> Any:
    """A specification whose texts are printable, as those of its numbers are."""
    if isinstance(value, Mapping):
        return {_printable(key): _printable(inner) for key, inner in value.items()}
    if isinstance(value, list | tuple):
        return [_printable(inner) for inner in value]
    return printable(value) if isinstance(value, str) else value


def as_json(value: Any) -> str:
    """A value as JSON that nothing in it can end: for a script element that holds data."""
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":"))
    for character in "<>&\u2028\u2029":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def texts(column: pd.Series) -> list[str]:
    """The cells of a table's column: "" for none, floats to two decimals where one of them has any.

    >>> texts(pd.Series([81.25, 3.0, None])), texts(pd.Series([3.0, None])), texts(pd.Series(["a", 7, None]))
    (['81.25', '3.00', ''], ['3', ''], ['a', '7', ''])
    """
    whole = all(value == int(value) for value in column if isinstance(value, float) and not _missing(value))
    form = "{:.0f}" if whole else "{:.2f}"
    return ["" if _missing(value) else form.format(value) if isinstance(value, float) else str(value) for value in column]


def _missing(value: Any) -> bool:
    return value is None or (isinstance(value, float) and value != value)


def is_number(cells: Sequence[str]) -> bool:
    """Whether a column stands right: all its cells begin with a number, or are empty.

    >>> is_number(["81.0 ± 1.4", "–", "+0.5"]), is_number(["a", "1"]), is_number([""])
    (True, False, False)
    """
    begun = [cell.lstrip("+−-[") for cell in cells]
    return all(text[:1].isdigit() or text in ("", "–") for text in begun) and any(begun)


def picture(content: bytes) -> str:
    """A picture as the source of an image element."""
    kind = next(kind for start, kind in KINDS.items() if content.startswith(start))
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
