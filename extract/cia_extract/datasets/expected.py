"""What a reader of official files read, and where it differs from the definition."""

from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

from cia_extract.common.errors import DataError
from cia_extract.datasets.definition import Definition
from cia_extract.datasets.manifest import Manifest

Line = TypeVar("Line")
Parsed = TypeVar("Parsed")


@dataclass(frozen=True)
class Listing:
    """Manifest rows, how many of them have a file on disk, and notes on the others, one line each.

    `bad` describes the rows of the official files that name no clip, one line each; they are in no other list.
    """

    rows: list[dict[str, str]]
    on_disk: int
    notes: list[str]
    bad: list[str] = field(default_factory=list)


def parse_each(path: Path, lines: Iterable[Line], parse: Callable[[Line], Parsed | None], bad: list[str]) -> list[Parsed]:
    """The values of `parse` for the lines of an official file, without None.

    A line for which it raises DataError is left out and described in `bad`. Raises DataError if these are more than half of the
    lines: the file is then another one, or damaged.
    """
    parsed, wrong, count = [], [], 0
    for line in lines:
        count += 1
        try:
            value = parse(line)
        except DataError as error:
            wrong.append(str(error))
            continue
        if value is not None:
            parsed.append(value)
    if 2 * len(wrong) > count:
        more = f" ({len(wrong)} of {count} rows of {path.name} are like that)" if count > 1 else ""
        raise DataError(wrong[0] + more)
    bad += wrong
    return parsed


def mismatches(definition: Definition, manifest: Manifest) -> list[str]:
    """One line for each domain, split or class whose number of clips is not the expected one."""
    columns = manifest.columns
    clips = list(zip(columns.get("domain", [""] * len(manifest)), columns["split"], columns["label"], strict=True))
    parts = Counter((domain, split) for domain, split, _ in clips)
    classes = Counter(clips)
    lines = []
    for expected in definition.expected:
        part = (expected.domain, expected.split)
        where = " ".join(filter(None, [definition.name, *part]))
        if parts[part] != expected.clips:
            lines.append(f"{where}: {parts[part]} clips, expected {expected.clips}")
        for name, count in zip(definition.classes, expected.per_class, strict=False):
            if classes[*part, name] != count:
                lines.append(f"{where}, class {name}: {classes[*part, name]} clips, expected {count}")
    return lines
