"""Names that come from files: which may become part of a path, and how any of them is printed.

A domain, data set or clip is named by whoever made the file. A name that becomes a folder must not lead out of its parent; a name
that is printed must not command the terminal.
"""

import re
from typing import Final

from cia_extract.common.errors import CiaError, DataError

LONGEST: Final = 255  # bytes of a file's name on Linux and macOS
# C0 and C1 controls, DEL; Unicode's line separators, directional marks, embeddings, overrides and isolates; half surrogates.
UNPRINTABLE: Final = re.compile("[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def check(name: str, what: str, added: int = 0, error: type[CiaError] = DataError) -> str:
    """The name itself, where it may be one part of a path.

    Args:
        name: as the file or the command line has it.
        what: what it names and where it stands, for the message: "feats.h5: domain".
        added: bytes that the path adds to it, a prefix or suffix.
        error: the kind of CiaError to raise.

    Raises:
        CiaError: of kind `error`, where it is empty, too long, starts with a dot or a dash, or has a separator, a control
            character, a mark that turns the direction of text, or half a surrogate pair.
    """
    if why := unfit(name, added):
        shown = printable(name if len(name) <= 60 else name[:60] + "…")
        raise error(f"{what} '{shown}': {why}, so it cannot become the name of a file or folder; rename it")
    return name


def unfit(name: str, added: int = 0) -> str:
    """Why a name may not be one part of a path, as the end of a sentence; empty where it may. Arguments as for `check`.

    >>> unfit("street"), unfit("../x"), unfit("a" * 201, added=55)
    ('', "begins with '.'", 'is longer than 200 bytes')
    """
    if not name.strip():
        return "is empty"
    if name[0] in ".-":
        return f"begins with '{name[0]}'"
    if "/" in name or "\\" in name:
        return "has a separator of paths"
    if bad := UNPRINTABLE.search(name):
        return f"has the character U+{ord(bad[0]):04X}"
    if len(name.encode()) + added > LONGEST:
        return f"is longer than {LONGEST - added} bytes"
    return ""


def printable(text: str, keep: str = "") -> str:
    r"""The text with what could command a terminal shown as escapes; characters in `keep` stay.

    >>> printable("a\x1b[2Jb")
    'a\\x1b[2Jb'
    """
    return UNPRINTABLE.sub(lambda found: found[0] if found[0] in keep else _escaped(found[0]), text)


def _escaped(character: str) -> str:
    return character.encode("ascii", "backslashreplace").decode() if character > "\x7f" else repr(character)[1:-1]
