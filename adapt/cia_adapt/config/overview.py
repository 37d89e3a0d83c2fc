"""What `cia-adapt methods` and docs/methods.md list: the methods by group, and what others publish on UCF-HMDB."""

import tomllib
from importlib import resources
from typing import Any, Final, NamedTuple

from cia_extract.common import settings
from cia_extract.common.errors import UsageError
from cia_extract.common.suggest import did_you_mean

GROUPS: Final = {
    "table-3": "The paper's table 3: rows on UCF-HMDB",
    "table-2": "The paper's table 2: poolings",
    "figure-1": "The supplement's figure 1",
    "ablation": "What the supplement leaves open",
    "alignment": "Methods for images: domains are aligned",
    "self-training": "Methods for images: predictions on the target train",
    "video": "Methods for video, 2021 and later",
    "source-free": "Source-free methods",
    "on-cia": "Later objectives on top of CIA and TA3N",
    "control": "Controls: the bound, and other temporal parts",
}
"""{`group` of a method's TOML: heading}, in the order of the lists."""


class Published(NamedTuple):
    """What others publish for a method on UCF-HMDB."""

    work: str
    features: str
    to_hmdb: float
    """U→H, top-1 in % on HMDB's validation clips."""
    to_ucf: float
    """H→U."""
    source: str
    """Where the two numbers stand."""


def check_group(where: str, group: object) -> None:
    """Raise UsageError for the `group` of the TOML `where` that is none of `GROUPS`."""
    if group not in GROUPS:
        raise UsageError(
            f"{where}: group = {settings.brief(group)}: choose from {', '.join(GROUPS)}{did_you_mean(str(group), GROUPS)}"
        )


def published() -> tuple[list[Published], str]:
    """The rows in the order of their file, and the note that belongs below them."""
    table: dict[str, Any] = tomllib.loads(
        resources.files("cia_adapt.config").joinpath("published.toml").read_text(encoding="utf-8")
    )
    rows = [
        Published(work, table["features"][features], to_hmdb, to_ucf, table["sources"][source])
        for work, features, to_hmdb, to_ucf, source in table["rows"]
    ]
    return rows, table["note"]
