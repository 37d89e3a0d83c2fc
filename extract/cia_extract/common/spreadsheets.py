r"""Text cells of CSV files that a spreadsheet would run as a formula.

A cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return, and is no number, is written with an apostrophe before
it, as OWASP advises; so is one that begins with apostrophes before such a character, so that reading takes exactly one away.
"""

import re
from typing import Final

FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")


def cell(text: str) -> str:
    """The text as it is written into a CSV cell.

    >>> cell("=1+1"), cell("-0.5"), cell("run")
    ("'=1+1", '-0.5', 'run')
    """
    return "'" + text if FORMULA.match(text) and not _number(text) else text


def plain(text: str) -> str:
    """The text that `cell` turned into `text`.

    >>> plain("'=1+1"), plain("'tis")
    ('=1+1', "'tis")
    """
    return text[1:] if text.startswith("'") and FORMULA.match(text) else text


def _number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is not None
