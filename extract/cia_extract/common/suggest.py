"""What a mistyped name most likely means, for the message of every look-up of a name."""

import difflib
from collections.abc import Iterable, Sequence
from typing import Final

MOST_LISTED: Final = 12  # names in a message; more of them hide the one that is meant


def did_you_mean(name: str, names: Iterable[str]) -> str:
    """The known name that is most like `name`, as the end of an error message; empty if none is like it.

    Upper and lower case count as the same, and so do `-`, `_` and a space.

    Args:
        name: what the user wrote.
        names: the known names.

    Returns:
        "; did you mean cia?", or "".

    >>> did_you_mean("cai", ["cia", "concat", "avg"])
    '; did you mean cia?'
    >>> did_you_mean("UCF", ["ucf", "hmdb"]), did_you_mean("resnet", ["ucf", "hmdb"])
    ('; did you mean ucf?', '')
    """
    by_form: dict[str, str] = {}
    for candidate in names:
        by_form.setdefault(_form(candidate), candidate)
    forms, written = sorted(by_form), _form(name)
    like = difflib.get_close_matches(written, forms, n=1, cutoff=0.6)
    # difflib finds two swapped letters of a two-letter name ("hu" for "uh") too far apart.
    like = like or [form for form in forms if len(form) > 1 and sorted(form) == sorted(written)]
    # The start of one name only: "source" for "source-only".
    like = like or [form for form in forms if len(written) > 1 and form.startswith(written)]
    return f"; did you mean {by_form[like[0]]}?" if like else ""


def instead(name: str, names: Sequence[str], listing: str = "") -> str:
    """What to take instead of an unknown name, as the end of an error message: all names where they are few, else the one that is
    meant and the command that lists them.

    Args:
        name: what the user wrote.
        names: the known names.
        listing: a command that lists them, for where they are many.

    >>> instead("cai", ["cia", "concat", "avg"], "cia-adapt methods")
    ', choose from cia, concat, avg; did you mean cia?'
    >>> instead("cai", ["cia", *map(str, range(56))], "cia-adapt methods")
    '; did you mean cia? cia-adapt methods lists all 57'
    """
    meant = did_you_mean(name, names)
    if len(names) <= MOST_LISTED or not (meant or listing):
        return f", choose from {', '.join(names)}{meant}"
    return meant + (f"{' ' if meant else '; '}{listing} lists all {len(names)}" if listing else "")


def _form(name: str) -> str:
    return name.strip().casefold().replace("_", "-").replace(" ", "-")
