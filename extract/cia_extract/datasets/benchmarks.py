"""Built-in datasets: from an unpacked official download to a manifest. Definitions are data: data/manifests/NAME.toml.

definition  the TOMLs
disk        the files below a root
hmdb_ucf    UCF101 and HMDB51: class folders and split files
epic        EPIC-KITCHENS: segments of videos or of official frames
tables      their annotations, CSV or pickle
expected    what a reader read, and where it differs from the definition
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
    """A dataset's manifest, the number of its clips on disk, and its differences from the definition, one line each.

    `bad` describes the rows of the official files that name no clip and are left out, one line each.
    """

    manifest: Manifest
    on_disk: int
    mismatches: list[str]
    bad: list[str] = field(default_factory=list)

    def left_out(self) -> str:
        """The rows that are left out, as one line for the end of a command; empty if there are none."""
        if not self.bad:
            return ""
        return (
            f"{len(self.bad)} rows of the official files are left out: {'; '.join(self.bad[:3])}{'; …' if self.bad[3:] else ''}"
        )


def build(name: str, root: Path, annotations: Path | None = None) -> Built:
    """The manifest of a dataset of `names()`: clips below `root`, annotation files below `annotations` (or `root`).

    With `annotations`, `root` may be empty or absent: the manifest then says where the clips will be. Missing clips, files that
    are in no split and unofficial counts are mismatches, not errors. Rows of the official files that name no clip are left out
    and described in `bad`. Raises UsageError for an unknown name or a missing annotation file, DataError for files that cannot be
    read, or if more than half of a file's rows name no clip.
    """
    definition = load(name)
    if annotations is None and not root.is_dir():
        why = "is a file, not a folder" if root.is_file() else "no such folder"
        raise UsageError(f"--root {root}: {why}; for {name}, {definition.how_to_get()}")
    try:
        files = _annotation_files(definition, annotations or root, "--annotations" if annotations else "--root")
        read = epic.rows if definition.reader == "epic" else hmdb_ucf.rows
        listing = read(definition, files, root)
    except OSError as error:
        raise DataError(f"{error.filename or root}: {error.strerror or error}; make it readable") from error
    manifest, bad = select(name, listing.rows)
    if not len(manifest):
        raise DataError(bad[0])
    return Built(manifest, listing.on_disk, [*mismatches(definition, manifest), *listing.notes], [*listing.bad, *bad])


def _annotation_files(definition: Definition, folder: Path, flag: str) -> dict[str, Path]:
    """{file name: path} of a dataset's annotation files in the folder that `flag` gave. Raises UsageError if one is missing."""
    if not folder.is_dir():
        why = "is a file, not a folder" if folder.is_file() else "no such folder"
        raise UsageError(f"{flag} {folder}: {why}; for {definition.name}, {definition.how_to_get(clips=flag == '--root')}")
    # `{folder}` in a name stands for every class folder. If a part has several names, one of them is enough.
    parts = [
        [name.format(folder=class_folder) for name in part.files]
        for part in definition.annotations
        for class_folder in definition.folders or [""]
    ]
    files = disk.find_files(folder, (name for names in parts for name in names), epic.is_frames)
    missing = [names[-1] for names in parts if not any(name in files for name in names)]
    if missing:
        examples = disk.some(dict.fromkeys(missing))
        get = definition.how_to_get(clips=flag == "--root")
        raise UsageError(f"{flag} {folder}: no {examples} in it; for {definition.name}, {get}")
    return files
