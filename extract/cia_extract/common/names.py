"""Names that come from files: which of them may become part of a path, and how to print them.

Whoever wrote the file named its domains, datasets and clips. A name that becomes a folder must not lead out of its parent; a name
that is printed must not command the terminal.
"""

import re
from typing import Final

from cia_extract.common.errors import CiaError, DataError

LONGEST: Final = 255  # bytes of a file's name on Linux and macOS
# C0 and C1 controls, DEL; Unicode's line separators, directional marks, embeddings, overrides and isolates; half surrogates.
UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def check(name: str, subject: str, added: int = 0, error: type[CiaError] = DataError) -> str:
    """The name itself, if it may be one part of a path.

    Args:
        name: as the file or the command line has it.
        subject: what the name stands for and where, for the message: "feats.h5: domain".
        added: bytes that a prefix or suffix in the path takes.
        error: the kind of CiaError to raise.

    Raises:
        CiaError: of kind `error`, if the name is empty, too long, starts with a dot or a dash, or contains a path separator,
            a control character, a mark that turns the direction of text, or half a surrogate pair.
    """
    if why := unfit(name, added):
        shown = printable(name if len(name) <= 60 else name[:60] + "…")
        raise error(f"{subject} '{shown}': {why}, so it cannot become the name of a file or folder; rename it")
    return name


def unfit(name: str, added: int = 0) -> str:
    """Why a name may not be one part of a path, as the end of a sentence; empty if it may. Arguments as for `check`.

    >>> unfit("street"), unfit("../x"), unfit("a" * 201, added=55)
    ('', "begins with '.'", 'is longer than 200 bytes')
    """
    if not name.strip():
        return "is empty"
    if name[0] in ".-":
        return f"begins with '{name[0]}'"
    if "/" in name or "\\" in name:
        return "contains a path separator"
    if bad := UNPRINTABLE.search(name):
        return f"contains the character U+{ord(bad[0]):04X}"
    if len(name.encode()) + added > LONGEST:
        return f"is longer than {LONGEST - added} bytes"
    return ""


def printable(text: str, keep: str = "") -> str:
    r"""The text with control characters, which could command a terminal, as escapes; characters in `keep` stay.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return UNPRINTABLE.sub(lambda match: match[0] if match[0] in keep else _escaped(match[0]), text)


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode() if character > "\x7f" else repr(character)[1:-1]
