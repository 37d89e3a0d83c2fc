"""A manifest from folders: DIR/<class>/<clip>, or DIR/<split>/<class>/<clip>.

A folder is a split if it has a usual name (`SPLITS`) and its clips lie in class folders below it. Folders beside a training
split that are no split are left out with a note: an `unlabelled` must not become a class. Ambiguous folders are refused.
"""

from collections import Counter, defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import cia_extract.datasets.manifest as manifests
from cia_extract.common.errors import UsageError
from cia_extract.datasets.manifest import VIDEO_SUFFIXES, Manifest

SPLITS: Final = {
    "train": "train",
    "training": "train",
    "val": "val",
    "valid": "val",
    "validation": "val",
    "test": "test",
    "testing": "test",
}
_PICTURES: Final = frozenset([".jpg", ".jpeg", ".png"])
_SYSTEM_FOLDERS: Final = frozenset(["__MACOSX", "@eaDir", "$RECYCLE.BIN", "System Volume Information", "lost+found"])
_DEEPEST: Final = 9  # folders around a clip


@dataclass(frozen=True)
class Listing:
    """A manifest, and notes on it for the user, one line each."""

    manifest: Manifest
    notes: list[str]


def read(folder: Path, val_every: int = 0) -> Listing:
    """List the clips of class folders, or of split and class folders.

    Clip ids are the paths without suffix, so that equal names in two classes stay apart.

    Args:
        folder: DIR. Links are followed (datasets are often linked); hidden files and folders are left out.
        val_every: without split folders, every `val_every`-th clip of each class, in the order of names, is `val`, the others
            `train`; 0: all are `train`.

    Returns:
        The rows, and notes: folders left out or without clips, classes that a split lacks.

    Raises:
        UsageError: the folder is missing, has no videos or clips outside class folders, or can be read in two ways.
    """
    where = f"--from-folders {folder}"
    _check_folder(where, folder)
    try:
        files, pictures, folders = _listed(folder)
    except OSError as error:
        raise UsageError(f"{where}: {error.filename or folder} cannot be listed ({error.strerror}); make it readable") from error
    if not files:
        frames = (
            f" ({pictures[0]} looks like a frame: frame folders need a manifest whose `path` is the folder)" if pictures else ""
        )
        raise UsageError(f"{where}: no video in it; expected {folder}/<class>/<clip>{frames}")
    for file in files:
        if not file.as_posix().isprintable():
            raise UsageError(f"{where}: {str(file)!a} has a name that is not UTF-8 or not printable; rename it")
    splits, notes = _split_folders(where, files)
    if splits and val_every:
        raise UsageError(f"{where}: {', '.join(splits)} are splits already; leave --val-every out")
    listed = [file for file in files if not splits or file.parts[0] in splits or len(file.parts) == 1]
    rows = _rows(where, listed, splits, val_every)
    notes += _without_videos(files, folders)
    notes += _lacking(rows, val_every)
    return Listing(manifests.check(str(folder), rows), notes)


def _check_folder(where: str, folder: Path) -> None:
    try:
        if folder.is_dir():
            return
        why = "is a file; give the folder that holds the class folders" if folder.exists() else "no such folder"
    except (OSError, ValueError) as error:
        why = f"no such folder ({getattr(error, 'strerror', None) or error})"
    raise UsageError(f"{where}: {why}")


def _split_folders(where: str, files: Sequence[Path]) -> tuple[list[str], list[str]]:
    """(the folders that are splits, empty if all are classes; notes on that choice). Raises UsageError for ambiguous folders."""
    tops = list(dict.fromkeys(file.parts[0] for file in files if len(file.parts) > 1))
    named = [top for top in tops if top.casefold() in SPLITS]
    flat = {file.parts[0] for file in files if len(file.parts) == 2}
    rest = [top for top in tops if top not in named]
    if not named:
        return [], []
    if rest and all(top in flat for top in named):
        return [], [f"{_some(named)}: taken as a class, since clips lie directly in it, not in class folders"]
    mixed = [top for top in named if top in flat]
    if mixed:
        raise UsageError(f"{where}: clips in {mixed[0]} lie in no class folder; expected {mixed[0]}/<class>/<clip>")
    if not rest:
        return named, []
    if "train" not in {SPLITS[top.casefold()] for top in named}:
        raise UsageError(
            f"{where}: {_some(named)} is named like a split and {_some(rest)} like a class; move all classes into split folders, "
            f"or rename {_some(named)} if it is a class"
        )
    clips = Counter(file.parts[0] for file in files)
    return named, [f"{top}: left out with {clips[top]} clips, since it is no split like {_some(named)}" for top in rest]


def _rows(where: str, files: Sequence[Path], splits: Sequence[str], val_every: int) -> list[dict[str, str]]:
    depth = 2 if splits else 1
    for file in files:
        if len(file.parts) <= depth:
            expected = "<split>/<class>/<clip>" if splits else "<class>/<clip>"
            raise UsageError(f"{where}: {file} lies in no class folder; expected {expected}")
    stems = Counter(file.with_suffix("") for file in files)
    seen: Counter[str] = Counter()
    rows = []
    for file in files:
        label = file.parts[depth - 1]
        seen[label] += 1
        split = "val" if val_every and seen[label] % val_every == 0 else "train"
        if splits:
            split = SPLITS[file.parts[0].casefold()]
        name = file.with_suffix("") if stems[file.with_suffix("")] == 1 else file
        rows.append({"clip": name.as_posix(), "path": file.as_posix(), "label": label, "split": split})
    return rows


def _without_videos(files: Sequence[Path], folders: Sequence[Path]) -> list[str]:
    """A note on the folders that have no clip in or below them, naming the outermost ones; empty if there are none."""
    full = {parent for file in files for parent in file.parents}
    empty = set(folders) - full
    outer = [path for path in folders if path in empty and not empty.intersection(path.parents)]
    return [f"{_some(outer)}: left out, no video in {'it' if len(outer) == 1 else 'them'}"] if outer else []


def _lacking(rows: Sequence[dict[str, str]], val_every: int) -> list[str]:
    """Notes on the classes that a split lacks, and on labels that differ only in case."""
    labels = sorted({row["label"] for row in rows})
    by_split: dict[str, Counter[str]] = defaultdict(Counter)
    for row in rows:
        by_split[row["split"]][row["label"]] += 1
    notes = [] if val_every else [_without(split, counts, labels) for split, counts in by_split.items()]
    if val_every:
        notes = [_without_val(val_every, by_split["train"], [label for label in labels if not by_split["val"][label]])]
    forms = Counter(label.casefold().strip() for label in labels)
    alike = [label for label in labels if forms[label.casefold().strip()] > 1]
    return [
        *filter(None, notes),
        *([f"{_some(alike)}: kept as separate classes, although only case differs"] if alike else []),
    ]


def _without(split: str, counts: Counter[str], labels: Sequence[str]) -> str:
    lacking = [label for label in labels if not counts[label]]
    return f"{split} has no clip of {len(lacking)} of {len(labels)} classes: {_some(lacking)}" if lacking else ""


def _without_val(val_every: int, train: Counter[str], lacking: Sequence[str]) -> str:
    if val_every == 1:
        return "--val-every 1: every clip is val and none is left to train on; choose 2 or more"
    if not lacking:
        return ""
    least = min(train[label] for label in lacking)
    advice = f"choose {least} or less" if least > 1 else "which train needs"
    return f"--val-every {val_every}: no validation clip of {_some(lacking)}; the smallest of these classes has {least}, {advice}"


def _listed(folder: Path) -> tuple[list[Path], list[Path], list[Path]]:
    """(videos, pictures, folders), relative to the folder, in the order of names."""
    paths = sorted((path.relative_to(folder), is_folder) for path, is_folder in _walk(folder, ()))
    files = [path for path, is_folder in paths if not is_folder]
    videos = [path for path in files if path.suffix.lower() in VIDEO_SUFFIXES]
    pictures = [path for path in files if path.suffix.lower() in _PICTURES]
    return videos, pictures, [path for path, is_folder in paths if is_folder]


def _walk(folder: Path, above: tuple[tuple[int, int], ...]) -> Iterator[tuple[Path, bool]]:
    """(path, is it a folder) of all below `folder`, through links, without hidden ones; `above` identifies the folders around it.

    A link back to one of these is not followed. Raises UsageError for folders that are nested too deeply.
    """
    status = folder.stat()
    inode = (status.st_dev, status.st_ino)
    if inode in above:
        return
    if len(above) > _DEEPEST:
        raise UsageError(f"--from-folders: {folder} lies more than {_DEEPEST} folders deep; give the folder of the classes")
    for entry in sorted(folder.iterdir()):
        if entry.name.startswith(".") or entry.name in _SYSTEM_FOLDERS:
            continue
        if entry.is_dir():
            yield entry, True
            yield from _walk(entry, (*above, inode))
        elif entry.is_file():
            yield entry, False


def _some(names: Sequence[str | Path]) -> str:
    shown = [text if text.isprintable() else ascii(text) for text in map(str, names[:3])]
    return ", ".join(shown) + (", …" if len(names) > 3 else "")
