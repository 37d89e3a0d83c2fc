"""The manifest: a CSV with one clip a row, which says what is extracted and carries the labels.

Columns: `clip` (unique id), `path` (relative to a root: a video or a folder of numbered pictures), `label`, `split`; optional
`start`, `stop` (seconds), `group` (clips that belong together, for example cut from one video), `domain`, `rate` (frames a second
by which the clip is read), and for stored flow `flow_path` (a folder), `flow_rate` (flows a second), `flow_bound` (px).
Unknown columns are kept and copied into the feature file.
"""

import csv
import hashlib
import json
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

from cia_extract.errors import DataError, UsageError

REQUIRED: Final = ("clip", "path", "label", "split")
OPTIONAL: Final = ("start", "stop", "group", "domain", "rate", "flow_path", "flow_rate", "flow_bound")
SPLITS: Final = ("train", "val", "validation", "test")
VIDEO_SUFFIXES: Final = frozenset(
    [
        ".avi",
        ".mp4",
        ".m4v",
        ".mkv",
        ".mov",
        ".webm",
        ".mpg",
        ".mpeg",
        ".wmv",
        ".flv",
        ".3gp",
        ".ts",
        ".mts",
        ".gif",
        ".ogv",
    ]
)


@dataclass(frozen=True)
class Manifest:
    """Validated rows, by column; `source` names them in messages (a file, or a built-in dataset)."""

    source: str
    columns: Mapping[str, Sequence[str]]

    def __len__(self) -> int:
        return len(self.columns["clip"])

    def path(self, row: int, root: Path) -> Path:
        return root / self.columns["path"][row]

    def seconds(self, row: int) -> tuple[float | None, float | None]:
        """(start, stop) of a row in its video, None where not given."""
        start, stop = (self.columns[name][row] if name in self.columns else "" for name in ("start", "stop"))
        return (float(start) if start else None, float(stop) if stop else None)

    def number(self, row: int, column: str) -> float:
        """A numeric column's value, 0 where not given."""
        text = self.columns[column][row] if column in self.columns else ""
        return float(text) if text else 0.0

    def sha256(self) -> str:
        return hashlib.sha256(json.dumps({k: list(v) for k, v in self.columns.items()}).encode()).hexdigest()

    def write(self, path: Path) -> None:
        """Write the CSV, whole or not at all."""
        part = path.with_name(f".{path.name}.part")
        with part.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(self.columns)
            writer.writerows(zip(*self.columns.values(), strict=True))
        part.replace(path)


def read(path: Path, needs_path: bool = True) -> Manifest:
    """Read and check a manifest. Without `needs_path` the clips' ids stand for the paths, where it has none.

    Raises DataError naming file, line and column.
    """
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            header = next(reader, [])
            lines = [(reader.line_num, cells) for cells in reader if cells]
    except FileNotFoundError:
        raise DataError(f"{path}: no such manifest; write one with: cia-extract manifest --from-folders DIR") from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(f"{path}: cannot be read as a UTF-8 CSV ({error})") from error
    if not needs_path and "path" not in header:
        at = header.index("clip") if "clip" in header else 0
        lines = [(number, [*cells, cells[at]] if len(cells) == len(header) else cells) for number, cells in lines]
        header = [*header, "path"]
    _check_header(path, header)
    for number, cells in lines:
        if len(cells) != len(header):
            raise DataError(f"{path}, line {number}: {len(cells)} cells under {len(header)} columns")
    rows = [dict(zip(header, (cell.strip() for cell in cells), strict=True)) for _, cells in lines]
    return check(str(path), rows, [number for number, _ in lines])


def check(source: str, rows: Sequence[Mapping[str, str]], line_numbers: Sequence[int] | None = None) -> Manifest:
    """Check rows that have the required columns and make them a manifest. Raises DataError."""
    if not rows:
        raise DataError(f"{source}: no clips in it")
    first: dict[str, int] = {}
    for number, row in zip(line_numbers or range(1, len(rows) + 1), rows, strict=True):
        where = f"{source}, line {number}, column"
        if not row["clip"]:
            raise DataError(f"{where} clip: empty; every clip needs an id")
        if row["clip"] in first:
            raise DataError(f"{where} clip: '{row['clip']}' stands in line {first[row['clip']]} already; ids are unique")
        first[row["clip"]] = number
        _check_path(where, "path", row["path"])
        if row.get("flow_path"):
            _check_path(where, "flow_path", row["flow_path"])
        _check_positive(where, row)
        if not row["split"]:
            raise DataError(f"{where} split: empty; write train, val or test")
        _check_seconds(where, row)
    return Manifest(source, {column: [row[column] for row in rows] for column in rows[0]})


def check_name(dataset: str) -> None:
    """Raises UsageError for what cannot be a group of the feature file."""
    if "/" in dataset or not dataset.strip(". "):
        raise UsageError(f"--dataset '{dataset}': give a plain name, it becomes a group of the feature file")


def _check_header(path: Path, header: Sequence[str]) -> None:
    missing = [column for column in REQUIRED if column not in header]
    if missing:
        raise DataError(f"{path}, line 1: column {', '.join(missing)} is missing; needed are {', '.join(REQUIRED)}")
    for column, count in Counter(header).items():
        if count > 1 or not column.strip() or "/" in column or column in {"n_frames", "fps", "indices"}:
            why = "stands twice" if count > 1 else "cannot be used as a column's name"
            raise DataError(f"{path}, line 1, column '{column}': {why}")


def _check_path(where: str, column: str, text: str) -> None:
    path = PurePosixPath(text)
    if not text:
        raise DataError(f"{where} {column}: empty; give the clip's file relative to the root")
    if path.is_absolute() or ".." in path.parts or "\\" in text or "\0" in text:
        raise DataError(f"{where} {column}: '{text}' leaves the root; paths are relative to it, with '/' and without '..'")


def _check_positive(where: str, row: Mapping[str, str]) -> None:
    for name in ("rate", "flow_rate", "flow_bound"):
        text = row.get(name)
        try:
            fine = not text or 0 < float(text) < float("inf")
        except ValueError:
            fine = False
        if not fine:
            raise DataError(f"{where} {name}: '{text}' is not a positive number")
    missing = [name for name in ("flow_rate", "flow_bound") if row.get("flow_path") and not row.get(name)]
    if missing:
        raise DataError(f"{where} {', '.join(missing)}: empty, but there is a flow_path; EPIC's are 30 and 25, or 50 and 8")


def _check_seconds(where: str, row: Mapping[str, str]) -> None:
    values = {}
    for name in ("start", "stop"):
        if row.get(name):
            try:
                values[name] = float(row[name])
            except ValueError:
                raise DataError(f"{where} {name}: '{row[name]}' is not a number of seconds") from None
            if not 0 <= values[name] < float("inf"):
                raise DataError(f"{where} {name}: {row[name]} is not a time in a video (seconds from its start)")
    if "stop" in values and values["stop"] <= values.get("start", 0.0):
        raise DataError(f"{where} stop: {row['stop']} does not lie after start {row.get('start') or 0}")


def from_folders(folder: Path, val_every: int = 0) -> Manifest:
    """Make a manifest of DIR/<class>/<clip> or DIR/<split>/<class>/<clip> (train, val, validation, test).

    Without split folders every clip is `train`, except every `val_every`-th of each class, in the order of names, as `val`
    (0: none). Clip ids are the paths without suffix, so that equal names in two classes stay apart. Raises UsageError.
    """
    if not folder.is_dir():
        raise UsageError(f"--from-folders {folder}: no such folder")
    files = sorted(p.relative_to(folder) for p in _walk(folder) if p.suffix.lower() in VIDEO_SUFFIXES)
    if not files:
        raise UsageError(f"--from-folders {folder}: no video in it; expected {folder}/<class>/<clip>")
    has_splits = all(file.parts[0].lower() in SPLITS for file in files)
    depth = 2 if has_splits else 1
    too_flat = [file for file in files if len(file.parts) <= depth]
    if too_flat:
        expected = "<split>/<class>/<clip>" if has_splits else "<class>/<clip>"
        raise UsageError(f"--from-folders {folder}: {too_flat[0]} lies in no class folder; expected {expected}")
    for file in files:
        if not file.as_posix().isprintable():
            raise UsageError(f"--from-folders {folder}: {str(file)!a} has a name that is not UTF-8 or not printable; rename it")
    stems = Counter(file.with_suffix("") for file in files)
    seen: Counter[str] = Counter()
    rows = []
    for file in files:
        label = file.parts[depth - 1]
        seen[label] += 1
        split = "val" if val_every and seen[label] % val_every == 0 else "train"
        if has_splits:
            split = {"validation": "val"}.get(file.parts[0].lower(), file.parts[0].lower())
        name = file.with_suffix("") if stems[file.with_suffix("")] == 1 else file
        rows.append({"clip": name.as_posix(), "path": file.as_posix(), "label": label, "split": split})
    return check(str(folder), rows)


def _walk(folder: Path) -> Iterable[Path]:
    """All files below, through links to folders too (datasets are often linked in), hidden ones left out."""
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith("."):
            continue
        if entry.is_dir():
            yield from _walk(entry)
        elif entry.is_file():
            yield entry
