"""Few methods that have, together, every part that a method has: what is compiled first, or where there is little time."""

from collections.abc import Sequence

from cia_adapt import config


def covering(names: Sequence[str]) -> list[str]:
    """Methods that together have every (kind, part) of them all: each time the one that has most of what is missing."""
    parts = {name: set(config.load("uh", name, {}).method.used_parts()) for name in names}
    missing, picked = set().union(*parts.values()), []
    while missing:
        picked.append(max(names, key=lambda name: len(parts[name] & missing)))
        missing -= parts[picked[-1]]
    return picked
