"""Built-in datasets: from an official download, as it unpacks, to a manifest. Definitions are data: data/manifests/NAME.toml.

definition  the TOMLs
disk        what lies below a root
hmdb_ucf    UCF101 and HMDB51: class folders and split files
epic        EPIC-KITCHENS: segments of videos or of official frames
tables      their annotations, CSV or pickle
found       what was found against what is expected
"""

from dataclasses import dataclass
from pathlib import Path

from cia_extract import manifest as manifests
from cia_extract.datasets import disk, epic, hmdb_ucf
from cia_extract.datasets.definition import Definition, load, names
from cia_extract.datasets.found import mismatches
from cia_extract.errors import DataError, UsageError
from cia_extract.manifest import Manifest

__all__ = ["Built", "Definition", "build", "load", "names"]


@dataclass(frozen=True)
class Built:
    """A dataset's manifest, how many of its clips are there, and where it differs from the definition, one line each."""

    manifest: Manifest
    on_disk: int
    mismatches: list[str]


def build(name: str, root: Path, annotations: Path | None = None) -> Built:
    """The manifest of a dataset of `names()`, of the clips below `root` and the annotation files below `annotations` (or `root`).

    With `annotations`, `root` may be empty or absent: the manifest then names where the clips will be. Clips that are not there,
    files that are in no split and counts other than the official ones are mismatches, not errors. Raises UsageError for an
    unknown name and where files are missing that are needed, DataError for files that cannot be read.
    """
    definition = load(name)
    if annotations is None and not root.is_dir():
        raise UsageError(f"--root {root}: no such folder; for {name}, {definition.how_to_get()}")
    try:
        files = _annotation_files(definition, annotations or root, "--annotations" if annotations else "--root")
        read = epic.rows if definition.reader == "epic" else hmdb_ucf.rows
        found = read(definition, files, root)
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror or error}; make it readable") from error
    return Built(manifests.check(name, found.rows), found.on_disk, [*mismatches(definition, found.rows), *found.notes])


def _annotation_files(definition: Definition, folder: Path, flag: str) -> dict[str, Path]:
    """{file name: path} of all annotation files of a dataset. Raises UsageError if one is missing."""
    if not folder.is_dir():
        raise UsageError(f"{flag} {folder}: no such folder; for {definition.name}, {definition.how_to_get()}")
    # `{folder}` in a name stands for every class folder; where a part has several names, one of them will do.
    parts = [
        [name.format(folder=class_folder) for name in part.files]
        for part in definition.annotations
        for class_folder in definition.folders or [""]
    ]
    files = disk.find_files(folder, (name for names in parts for name in names), epic.is_frames)
    missing = [names[-1] for names in parts if not any(name in files for name in names)]
    if missing:
        wanted = disk.some(dict.fromkeys(missing))
        raise UsageError(f"{flag} {folder}: no {wanted} in it; for {definition.name}, {definition.how_to_get()}")
    return files
