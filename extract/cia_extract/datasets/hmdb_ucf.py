"""UCF101 and HMDB51 as they unpack, for UCF-HMDB (TA3N, Chen et al. 2019): class folders of clips, and official split 1.

Clips are matched to the split files by name without suffix; failing that, by the name without characters such as `& ( ) !`,
which some archivers and published lists drop.
"""

import re
from collections import Counter, defaultdict
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath

import cia_extract.datasets.disk as disk
from cia_extract.common import text_files
from cia_extract.common.errors import DataError
from cia_extract.datasets.definition import Definition
from cia_extract.datasets.expected import Listing, parse_each
from cia_extract.datasets.manifest import VIDEO_SUFFIXES


@dataclass(frozen=True)
class Listed:
    """One line of a split file. `split` is empty for a clip that the split leaves out."""

    folder: str
    clip: str
    split: str


def rows(definition: Definition, files: dict[str, Path], root: Path) -> Listing:
    """The manifest rows of a dataset; `files` are its split files by name. Raises DataError."""
    read = _read_ucf101 if definition.reader == "ucf101" else _read_hmdb51
    bad: list[str] = []
    listed = read(definition, files, bad)
    on_disk = _class_folders(root, set(definition.folders))
    paths = _match(listed, on_disk)
    clips = [
        {
            "clip": entry.clip,
            "path": str(paths.get(entry) or definition.path.format(folder=entry.folder, clip=entry.clip)),
            "label": definition.folders[entry.folder],
            "split": entry.split,
            "group": _group(entry),
        }
        for entry in listed
        if entry.split
    ]
    missing = [entry.clip for entry in listed if entry.split and entry not in paths]
    notes = []
    if missing:
        notes.append(f"{len(missing)} of {len(clips)} clips of the split files are not below {root}: {disk.some(missing)}")
    strays = sorted({str(path) for folder in on_disk.values() for path in folder.values()} - set(map(str, paths.values())))
    if strays:
        notes.append(f"{len(strays)} clips below {root} are in no split file and are left out: {disk.some(strays)}")
    return Listing(clips, len(clips) - len(missing), notes, bad)


def _read_ucf101(definition: Definition, files: dict[str, Path], bad: list[str]) -> list[Listed]:
    """trainlist01.txt and testlist01.txt: lines `Class/v_Class_g01_c01.avi`, with the class's number after it in the former."""

    def parse(path: Path, split: str, numbered: tuple[int, str]) -> Listed | None:
        number, line = numbered
        folder, slash, name = line.split()[0].partition("/")
        if not slash or not name or "/" in name:
            raise DataError(f"{path}, line {number}: {_shown(line)} is not <Class>/<clip>.avi; download the split files again")
        return Listed(folder, name.removesuffix(".avi"), split) if folder in definition.folders else None

    listed = []
    for part in definition.annotations:
        for path in (files[name] for name in part.files):
            listed += parse_each(path, _lines(path), partial(parse, path, part.split), bad)
    return listed


def _read_hmdb51(definition: Definition, files: dict[str, Path], bad: list[str]) -> list[Listed]:
    """<class>_test_split1.txt: lines `<clip>.avi 1`; the number is the part of the split (the definition's `codes`)."""

    def parse(path: Path, folder: str, numbered: tuple[int, str]) -> Listed:
        number, line = numbered
        name, _, code = line.rpartition(" ")
        if not name.strip() or code not in definition.codes:
            raise DataError(f"{path}, line {number}: {_shown(line)} is not <clip>.avi and 0, 1 or 2; download the files again")
        return Listed(folder, name.strip().removesuffix(".avi"), definition.codes[code])

    listed = []
    for part in definition.annotations:
        for folder in definition.folders:
            path = files[part.files[0].format(folder=folder)]
            listed += parse_each(path, _lines(path), partial(parse, path, folder), bad)
    return listed


def _lines(path: Path) -> list[tuple[int, str]]:
    text = text_files.read_text(path, "UTF-8 text", "download the split files again")
    return [(number, line.strip()) for number, line in enumerate(text.splitlines(), start=1) if line.strip()]


def _shown(line: str) -> str:
    return f"'{line[:60]}'" if line.isprintable() else ascii(line[:60])


def _class_folders(root: Path, names: set[str]) -> dict[str, dict[str, PurePosixPath]]:
    """{class folder: {clip: path relative to the root}} for the folders in `names`, anywhere below `root`.

    The first of two clips with one name counts.
    """
    on_disk: dict[str, dict[str, PurePosixPath]] = defaultdict(dict)
    if root.is_dir():
        for folder in disk.folders(root):
            name = folder.relative.name
            for file in folder.files if name in names else []:
                path = folder.relative / file
                if path.suffix.lower() in VIDEO_SUFFIXES:
                    on_disk[name].setdefault(path.stem, path)
    return on_disk


def _match(listed: list[Listed], on_disk: dict[str, dict[str, PurePosixPath]]) -> dict[Listed, PurePosixPath]:
    """{listed clip: its file} for clips on disk: matched by name, else by name without special characters."""
    paths = {entry: on_disk[entry.folder][entry.clip] for entry in listed if entry.clip in on_disk[entry.folder]}
    taken = set(paths.values())
    alike: dict[tuple[str, str], list[PurePosixPath]] = defaultdict(list)
    for folder, clips in on_disk.items():
        for clip, path in clips.items():
            if path not in taken:
                alike[folder, _plain(clip)].append(path)
    left = [entry for entry in listed if entry not in paths]
    claims = Counter((entry.folder, _plain(entry.clip)) for entry in left)
    for entry in left:
        key = (entry.folder, _plain(entry.clip))
        if len(alike[key]) == claims[key] == 1:
            paths[entry] = alike[key][0]
    return paths


def _plain(name: str) -> str:
    return re.sub(r"[^A-Za-z0-9_]", "", name)


def _group(entry: Listed) -> str:
    """The video that a clip was cut from: UCF101 numbers the videos of a class, HMDB51's names begin with the film's name.

    >>> _group(Listed("Biking", "v_Biking_g07_c02", "val")), _group(Listed("walk", "Tron_walk_f_cm_np1_ba_med_3", "val"))
    ('Biking_g07', 'Tron')
    """
    ucf101 = re.fullmatch(r"v_(.+_g\d+)_c\d+", entry.clip)
    # film_class_body part_camera motion_people_viewpoint_quality_number (HMDB51's README)
    hmdb51 = re.fullmatch(rf"(.+)_{re.escape(entry.folder)}_[fhlu]_[cn]m_np\d+_(?:fr|le|ri|ba)_(?:goo|med|bad)_\d+", entry.clip)
    match = ucf101 or hmdb51
    return match.group(1) if match else entry.clip
