"""Which clips train and which are evaluated: `--train-split` and `--val-split`, for both domains or for one.

A value is the name of a split, or `all` for every clip of the domain whatever its split. `source=NAME` and `target=NAME`, with a
comma between, say it for one domain. What is not said stays as the set-up has it. The protocol of small benchmarks such as
Office-Caltech, adapt to all target clips without their labels and test on the same clips, is

    --train-split target=all --val-split target=all
"""

from typing import Final

from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean

ALL: Final = "all"
ROLES: Final = ("source", "target")


def merged(flag: str, known: str, given: str) -> str:
    """The value `given` on top of the set-up's `known`, in the one way of writing it that runs are compared by.

    >>> merged("--val-split", "test", "target=all")
    'source=test,target=all'
    >>> merged("--val-split", "test", "target=all,source=all")
    'all'
    """
    by_role = dict.fromkeys(ROLES, "") | _parsed(flag, known) | _parsed(flag, given)
    names = set(by_role.values())
    return names.pop() if len(names) == 1 else ",".join(f"{role}={by_role[role]}" for role in ROLES)


def of_role(value: str, role: str) -> str:
    """The split of "source" or "target".

    >>> of_role("train", "target"), of_role("source=train,target=all", "target")
    ('train', 'all')
    """
    return _parsed("", value)[role]


def _parsed(flag: str, value: str) -> dict[str, str]:
    """{role: split}. Raises UsageError quoting the flag."""
    entries = [entry.strip() for entry in value.split(",")]
    if len(entries) == 1 and entries[0] and "=" not in entries[0]:
        return dict.fromkeys(ROLES, entries[0])
    by_role: dict[str, str] = {}
    for entry in entries:
        role, separator, name = (part.strip() for part in entry.partition("="))
        if not separator or not name or role in by_role:
            raise UsageError(f"{flag} {value}: write NAME, source=NAME or target=NAME, each once, with a comma between")
        if role not in ROLES:
            raise UsageError(f"{flag} {value}: {role} is neither source nor target{did_you_mean(role, ROLES)}")
        by_role[role] = name
    return by_role
