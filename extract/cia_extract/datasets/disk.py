"""The files below a dataset's root: each folder is listed once, no clip is looked up by itself."""

import os
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

# EPIC's deepest layout, frames_rgb_flow/flow/train/P08/P08_01, with a few of the user's folders around it.
DEEPEST: Final = 9


@dataclass(frozen=True)
class Folder:
    """A folder: its path, its path relative to the root, and the names of its files (none for a leaf, which is not listed)."""

    path: Path
    relative: PurePosixPath
    files: list[str]
    leaf: bool = False


def folders(root: Path, is_leaf: Callable[[Path], bool] = lambda _: False) -> Iterator[Folder]:
    """Every folder below `root`, itself first, in the order of names, through links, without hidden ones.

    A folder for which `is_leaf` is true is not listed (a video's frames are 100 000 files). Raises OSError.
    """
    yield from _below(root, PurePosixPath(), is_leaf, set())


def _below(path: Path, relative: PurePosixPath, is_leaf: Callable[[Path], bool], seen: set[tuple[int, int]]) -> Iterator[Folder]:
    status = path.stat()
    if (status.st_dev, status.st_ino) in seen or len(relative.parts) > DEEPEST:
        return  # a link back to where we came from
    seen.add((status.st_dev, status.st_ino))
    with os.scandir(path) as listing:
        # A name that is not UTF-8 could not be written into a manifest.
        entries = sorted((e for e in listing if not e.name.startswith(".") and e.name.isprintable()), key=lambda e: e.name)
    yield Folder(path, relative, [entry.name for entry in entries if not entry.is_dir()])
    for entry in entries:
        if entry.is_dir():
            below, inner = Path(entry.path), relative / entry.name
            if is_leaf(below):
                yield Folder(below, inner, [], leaf=True)
            else:
                yield from _below(below, inner, is_leaf, seen)


def find_files(root: Path, names: Iterable[str], is_leaf: Callable[[Path], bool] = lambda _: False) -> dict[str, Path]:
    """{name: path} of the files anywhere below `root` that have one of `names`; the first of several. Raises OSError."""
    sought, paths = set(names), dict[str, Path]()
    for folder in folders(root, is_leaf):
        for name in sought.intersection(folder.files):
            paths.setdefault(name, folder.path / name)
    return paths


def some(names: Iterable[str], first: int = 3) -> str:
    """The first few of `names`, for a message: "a, b, c, …"."""
    listed = list(names)
    return ", ".join(listed[:first]) + (", …" if len(listed) > first else "")
