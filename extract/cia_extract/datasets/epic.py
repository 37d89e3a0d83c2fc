"""EPIC-KITCHENS: action segments of long videos, stored as videos or as the official folders of frames and flow.

Segments are given in frames counted at 60 (2018) or 50 (2020) a second, whatever the video's own rate is. Frame numbers are
1-based: a segment begins at index start_frame − 1 and has stop_frame − start_frame − 1 frames (the rule of TBN's video records).
"""

import itertools
import os
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Final

import cia_extract.datasets.disk as disk
import cia_extract.datasets.tables as tables
from cia_extract.common.errors import DataError
from cia_extract.datasets.definition import Annotations, Definition, Recording
from cia_extract.datasets.expected import Listing, parse_each
from cia_extract.datasets.manifest import VIDEO_SUFFIXES

LAST_FRAME: Final = 100_000_000  # 19 days at 60 frames a second


@dataclass
class Place:
    """Paths of a video relative to the root: its file, its folder of frames, its folder of flow. None: not on disk."""

    video: PurePosixPath | None = None
    frames: PurePosixPath | None = None
    flow: PurePosixPath | None = None


def rows(definition: Definition, files: dict[str, Path], root: Path) -> Listing:
    """The manifest rows of a dataset; `files` are its annotation files by name. Raises DataError.

    A folder of frames is preferred to a video, since the annotations count its frames.
    """
    bad: list[str] = []
    segments = [row for part in definition.annotations for row in _segments(definition, part, files, bad)]
    places = _places(root) if root.is_dir() else {}
    clips = Counter(row["group"] for row in segments)  # by video
    missing = sorted(video for video in clips if video not in places)
    with_flow = any(place.frames and place.flow for video, place in places.items() if video in clips)
    for row in segments:
        place = places.get(row["group"], Place())
        participant = row["group"].split("_")[0]
        row["path"] = str(place.frames or place.video or definition.path.format(participant=participant, video=row["group"]))
        if with_flow:
            row |= _flow_columns(place, _recording(definition, row["group"], row["clip"]))
    notes = []
    if missing:
        lost = sum(clips[video] for video in missing)
        notes.append(
            f"{len(missing)} of {len(clips)} videos ({lost} of {len(segments)} clips) have neither a video nor a folder "
            f"of frames below {root}: {disk.some(missing)}"
        )
    on_disk = sum(count for video, count in clips.items() if video in places)
    return Listing(segments, on_disk, notes, bad)


def _segments(definition: Definition, part: Annotations, files: dict[str, Path], bad: list[str]) -> list[dict[str, str]]:
    path = next(files[name] for name in part.files if name in files)
    table = tables.read(path, [definition.clip, "video_id", "start_frame", "stop_frame"], bad)
    if "verb_class" not in table[0] and not part.label_free:
        raise DataError(f"{path}: column verb_class is missing; take the file as published")
    return parse_each(path, table, lambda row: _segment(definition, part, path, row), bad)


def _segment(definition: Definition, part: Annotations, path: Path, row: tables.Row) -> dict[str, str]:
    clip = row[definition.clip]
    where = f"{path}, {definition.clip} {clip[:60] if clip.isprintable() else ascii(clip[:60])}"
    try:
        first, stop = int(row["start_frame"]) - 1, int(row["stop_frame"]) - 2
        verb = _class(definition.classes, row.get("verb_class", ""))
        noun = _class(definition.nouns, row.get("noun_class", "")) if definition.nouns else ""
    except (ValueError, IndexError) as error:
        why = str(error)[:100]
        raise DataError(f"{where}: not the numbers of frames or a class ({why}); take the file as published") from error
    if not 0 <= first < stop <= LAST_FRAME:
        raise DataError(
            f"{where}: frames {row['start_frame'][:20]} to {row['stop_frame'][:20]} are no segment; take the file as published"
        )
    rate = _recording(definition, row["video_id"], where).rate
    columns = {"clip": clip, "path": "", "label": verb, "split": part.split, "domain": part.domain, "group": row["video_id"]}
    columns |= {"start": repr(round(first / rate, 6)), "stop": repr(round(stop / rate, 6)), "rate": str(rate)}
    columns |= {"start_frame": row["start_frame"], "stop_frame": row["stop_frame"]}
    return columns | {"verb": verb, "noun": noun, "narration_id": clip} if definition.nouns else columns


def _class(names: list[str], number: str) -> str:
    """The name of class `number`; empty if the annotations have no labels. Raises ValueError or IndexError."""
    if number and int(number) < 0:
        raise IndexError(f"class {number}")
    return names[int(number)] if number else ""


def _recording(definition: Definition, video: str, where: str) -> Recording:
    match = re.fullmatch(r"P\d+_(\d+)", video)
    if match is None or len(match.group(1)) not in definition.recordings:
        raise DataError(f"{where}: {video[:60]!r} is not the name of a video of {definition.name}; take the file as published")
    return definition.recordings[len(match.group(1))]


def _flow_columns(place: Place, recording: Recording) -> dict[str, str]:
    if not (place.frames and place.flow):
        return dict.fromkeys(("flow_path", "flow_rate", "flow_bound"), "")
    return {"flow_path": str(place.flow), "flow_rate": str(recording.flow_rate), "flow_bound": str(recording.flow_bound)}


def _places(root: Path) -> dict[str, Place]:
    """{video: place} of all videos below the root, in any of the official layouts; the first of several."""
    places: dict[str, Place] = {}
    for folder in disk.folders(root, is_frames):
        if folder.leaf:
            place = places.setdefault(folder.path.name, Place())
            if _is_flow(folder.path):
                place.flow = place.flow or folder.relative
            else:
                place.frames = place.frames or folder.relative
        for name in folder.files:
            path = folder.relative / name
            if _is_video_id(path.stem) and path.suffix.lower() in VIDEO_SUFFIXES:
                place = places.setdefault(path.stem, Place())
                place.video = place.video or path
    return {video: place for video, place in places.items() if place.video or place.frames}


def is_frames(folder: Path) -> bool:
    """Whether a folder holds the official RGB frames (frame_0000000001.jpg) or flow (u and v) of the video it is named after.

    EPIC's object detection images lie in folders of the same names, as 0000000001.jpg.
    """
    if not _is_video_id(folder.name):
        return False
    if _is_flow(folder):
        return True
    with os.scandir(folder) as listing:
        return any(re.search(r"frame_\d+\.jpe?g$", entry.name, re.IGNORECASE) for entry in itertools.islice(listing, 16))


def _is_flow(folder: Path) -> bool:
    return (folder / "u").is_dir() and (folder / "v").is_dir()


def _is_video_id(name: str) -> bool:
    return re.fullmatch(r"P\d+_\d+", name) is not None
