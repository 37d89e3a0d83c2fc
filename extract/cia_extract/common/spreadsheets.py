r"""Text cells of CSV files: none that a spreadsheet would run as a formula, none that commands the terminal that shows it.

Control characters and the like (`names.UNPRINTABLE`) are written as \x1b or \u202e, and backslashes that stand before them, or
before what reads like them, twice. So an id is the same text in all files and reading gives it back.

A cell that begins with `=`, `+`, `-`, `@`, a tab or a carriage return, and is no number, is written with an apostrophe before
it, as OWASP advises; so is one that begins with apostrophes before such a character, so that reading takes exactly one away.
"""

import re
from typing import Final

from cia_extract.common import names

_ESCAPE: Final = "x(?:[0189][0-9a-f]|7f)|u(?:061c|200[ef]|202[89a-e]|206[6-9]|d[89a-f][0-9a-f]{2})"  # those of UNPRINTABLE
_TO_ESCAPE: Final = re.compile(rf"(\\*)({names.UNPRINTABLE.pattern}|(?<=\\)(?:{_ESCAPE}))")
_ESCAPED: Final = re.compile(rf"(\\+)({_ESCAPE})")
FORMULA: Final = re.compile(r"'*[=+\-@\t\r]")


def cell(text: str) -> str:
    r"""The text as it is written into a CSV cell.

    >>> cell("=1+1"), cell("-0.5"), cell("run")
    ("'=1+1", '-0.5', 'run')
    >>> print(cell("a\x1b[2J"), cell(r"a\x1b[2J"), cell(r"C:\run"))
    a\x1b[2J a\\x1b[2J C:\run
    """
    text = _TO_ESCAPE.sub(lambda match: 2 * match[1] + _escape(match[2]), text)
    return "'" + text if FORMULA.match(text) and not _number(text) else text


def plain(text: str) -> str:
    r"""The text that `cell` turned into `text`.

    >>> plain("'=1+1"), plain("'tis"), plain(r"a\x1b[2J")
    ('=1+1', "'tis", 'a\x1b[2J')
    """
    text = text[1:] if text.startswith("'") and FORMULA.match(text) else text
    return _ESCAPED.sub(lambda match: len(match[1]) // 2 * "\\" + _character(match[2], len(match[1]) % 2 == 1), text)


def _escape(text: str) -> str:
    """A character that must not be printed as \\x1b or \\u202e; other text as it is."""
    if len(text) > 1:
        return text
    return f"\\x{ord(text):02x}" if text < "\u0100" else f"\\u{ord(text):04x}"


def _character(escape: str, escaped: bool) -> str:
    """The character of x1b or u202e, where a backslash before it says so."""
    return chr(int(escape[1:], 16)) if escaped else escape


def _number(text: str) -> bool:
    return re.fullmatch(r"[+-]?(\d+\.?\d*|\.\d+)([eE][+-]?\d+)?", text, re.ASCII) is not None
