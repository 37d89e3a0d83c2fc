"""Built-in datasets: from an official download, as it unpacks, to a manifest. Definitions are data: data/manifests/NAME.toml.

definition  the TOMLs
disk        what lies below a root
hmdb_ucf    UCF101 and HMDB51: class folders and split files
epic        EPIC-KITCHENS: segments of videos or of official frames
tables      their annotations, CSV or pickle
found       what was found against what is expected
"""

from dataclasses import dataclass, field
from pathlib import Path

import cia_extract.datasets.disk as disk
import cia_extract.datasets.epic as epic
import cia_extract.datasets.hmdb_ucf as hmdb_ucf
from cia_extract.common.errors import DataError, UsageError
from cia_extract.datasets.definition import Definition, load, names
from cia_extract.datasets.expected import mismatches
from cia_extract.datasets.manifest import Manifest, select

__all__ = ["Built", "Definition", "build", "load", "names"]


@dataclass(frozen=True)
class Built:
    """A dataset's manifest, how many of its clips are there, and where it differs from the definition, one line each.

    `bad` describes the rows of the official files that are left out, since no clip can be read from them.
    """

    manifest: Manifest
    on_disk: int
    mismatches: list[str]
    bad: list[str] = field(default_factory=list)

    def left_out(self) -> str:
        """The rows that are left out, as one line for the end of a command; empty where all were read."""
        if not self.bad:
            return ""
        return (
            f"{len(self.bad)} rows of the official files are left out: {'; '.join(self.bad[:3])}{'; …' if self.bad[3:] else ''}"
        )


def build(name: str, root: Path, annotations: Path | None = None) -> Built:
    """The manifest of a dataset of `names()`, of the clips below `root` and the annotation files below `annotations` (or `root`).

    With `annotations`, `root` may be empty or absent: the manifest then names where the clips will be. Clips that are not there,
    files that are in no split and counts other than the official ones are mismatches, not errors; rows of the official files that
    name no clip are left out and described in `bad`, unless they are more than every second one. Raises UsageError for an
    unknown name and where files are missing that are needed, DataError for files that cannot be read.
    """
    definition = load(name)
    if annotations is None and not root.is_dir():
        why = "is a file, not a folder" if root.is_file() else "no such folder"
        raise UsageError(f"--root {root}: {why}; for {name}, {definition.how_to_get()}")
    try:
        files = _annotation_files(definition, annotations or root, "--annotations" if annotations else "--root")
        read = epic.rows if definition.reader == "epic" else hmdb_ucf.rows
        found = read(definition, files, root)
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror or error}; make it readable") from error
    manifest, bad = select(name, found.rows)
    if not len(manifest):
        raise DataError(bad[0])
    return Built(manifest, found.on_disk, [*mismatches(definition, manifest), *found.notes], [*found.bad, *bad])


def _annotation_files(definition: Definition, folder: Path, flag: str) -> dict[str, Path]:
    """{file name: path} of all annotation files of a dataset. Raises UsageError if one is missing."""
    if not folder.is_dir():
        why = "is a file, not a folder" if folder.is_file() else "no such folder"
        raise UsageError(f"{flag} {folder}: {why}; for {definition.name}, {definition.how_to_get()}")
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
