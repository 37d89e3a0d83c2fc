"""What a reader found, and how it compares with what the definition expects."""

from collections import Counter
from dataclasses import dataclass

from cia_extract.datasets.definition import Definition


@dataclass(frozen=True)
class Found:
    """Manifest rows, how many of them have a file, and what is to be said of the others; one line each."""

    rows: list[dict[str, str]]
    on_disk: int
    notes: list[str]


def mismatches(definition: Definition, rows: list[dict[str, str]]) -> list[str]:
    """Where the clips of a domain, split or class are not as many as expected; one line each."""
    parts = Counter((row.get("domain", ""), row["split"]) for row in rows)
    classes = Counter((row.get("domain", ""), row["split"], row["label"]) for row in rows)
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
