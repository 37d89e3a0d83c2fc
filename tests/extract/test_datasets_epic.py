"""EPIC-KITCHENS by name: annotations, times, and the official layouts as roots of empty files."""

import csv
import os
import pickle
from pathlib import Path

import pytest
from cia_extract import datasets
from cia_extract.datasets import disk, epic, tables
from cia_extract.errors import DataError

from tests.extract.test_datasets import LISTS, of_split, touch


@pytest.fixture(scope="module")
def listed(shared):
    """Both datasets from their annotations alone."""
    return {name: datasets.build(name, Path("nowhere"), shared / "splits" / LISTS[name]) for name in ("e55", "e100")}


def test_epic_class_names_are_the_published_ones(shared):
    def keys(path: Path, column: str) -> list[str]:
        with path.open(encoding="utf-8") as file:
            return [row[column] for row in csv.DictReader(file)]

    splits = shared / "splits"
    assert datasets.load("e100").classes == keys(splits / "epic100_uda/EPIC_100_verb_classes.csv", "key")
    assert datasets.load("e100").nouns == keys(splits / "epic100_uda/EPIC_100_noun_classes.csv", "key")
    assert datasets.load("e55").classes == keys(splits / "epic55_annotations/EPIC_verb_classes.csv", "class_key")[:8]


def test_mmsada_verb_classes_are_those_of_epic55(listed, shared):
    """The published training annotations, matched by uid, name the same class for every clip of the three training parts."""
    with (shared / "splits/epic55_annotations/EPIC_train_action_labels.csv").open(encoding="utf-8") as file:
        classes = {row["uid"]: int(row["verb_class"]) for row in csv.DictReader(file)}
    ours = of_split(listed["e55"], "train")
    assert len(ours) == 1543 + 2495 + 3897
    assert ours == {uid: classes[uid] for uid in ours}


@pytest.mark.parametrize("name", ["e55", "e100"])
def test_times_give_the_annotated_frames_back(listed, name):
    columns = listed[name].manifest.columns
    rows = zip(*(columns[key] for key in ("start", "stop", "rate", "start_frame", "stop_frame", "group")), strict=True)
    for start, stop, rate, start_frame, stop_frame, video in rows:
        assert rate == ("50" if len(video.split("_")[1]) == 3 else "60")
        assert round(float(start) * int(rate)) == int(start_frame) - 1
        assert round(float(stop) * int(rate)) == int(stop_frame) - 2


def test_times_agree_with_the_annotated_timestamps(listed, shared):
    """start_timestamp is written in seconds, whatever frames are: an independent check of both rates, over all of E100."""
    starts = {}
    for path in (shared / "splits/epic100_uda/UDA_annotations").glob("*.csv"):
        with path.open(encoding="utf-8") as file:
            for row in csv.DictReader(file):
                hours, minutes, seconds = row["start_timestamp"].split(":")
                starts[row["narration_id"]] = 3600 * int(hours) + 60 * int(minutes) + float(seconds)
    columns = listed["e100"].manifest.columns
    ours = dict(zip(columns["narration_id"], map(float, columns["start"]), strict=True))
    assert ours.keys() == starts.keys()
    # Within the frame number's own step (it is rounded down and 1-based) and the timestamp's.
    assert max(abs(ours[clip] - starts[clip]) for clip in ours) < 2 / 50 + 0.01


def test_unpublished_labels_are_empty(listed):
    columns = listed["e100"].manifest.columns
    empty, rest = set(), set()
    for domain, split, *labels in zip(*(columns[key] for key in ("domain", "split", "label", "verb", "noun")), strict=True):
        assert len({bool(label) for label in labels}) == 1
        (rest if labels[0] else empty).add((domain, split))
    assert empty == {("target", "train"), ("source", "test"), ("target", "test")}
    assert rest == {("source", "train"), ("source", "val"), ("target", "val")}


def test_pickles_read_as_pandas_reads_them(shared):
    pandas = pytest.importorskip("pandas")
    for path in sorted((shared / "splits/epic55_mmsada").glob("*.pkl")):
        theirs = pandas.read_pickle(path).astype(str).to_dict("records")
        assert tables.read(path, ["uid", "verb_class"]) == theirs, path


class Evil:
    def __init__(self, marker: Path) -> None:
        self.marker = marker

    def __reduce__(self):
        return os.mkdir, (str(self.marker),)


def test_a_pickle_of_anything_else_is_refused_and_not_run(tmp_path, shared):
    good = (shared / "splits/epic55_mmsada/D1_test.pkl").read_bytes()
    for data, why in [
        (pickle.dumps(Evil(tmp_path / "run")), r"it names posix\.mkdir"),
        (pickle.dumps([1, 2]), "it holds no DataFrame"),
        (b"hello", "not a pickled table"),
        (good[:-200], "not a pickled table"),
        (good.replace(b"_reconstruct", b"fromfunction"), r"it names numpy\.core\.multiarray\.fromfunction"),
    ]:
        (tmp_path / "D1_train.pkl").write_bytes(data)
        with pytest.raises(DataError, match=f"D1_train.pkl: .*{why}.*; (take|download)"):
            tables.read(tmp_path / "D1_train.pkl", [])
    assert not (tmp_path / "run").exists()


def test_csv_of_the_same_columns_will_do(tmp_path, listed, shared):
    for path in (shared / "splits/epic55_mmsada").glob("*.pkl"):
        rows = tables.read(path, [])
        with (tmp_path / f"{path.stem}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    assert datasets.build("e55", Path("nowhere"), tmp_path).manifest.columns == listed["e55"].manifest.columns


VIDEOS = ["{p}/{v}.MP4", "{p}/videos/{v}.mp4", "videos/train/{p}/{v}.MP4", "EPIC-KITCHENS/{p}/videos/{v}.Mp4"]
FRAMES = [
    ("frames_rgb_flow/rgb/train/{p}/{v}", "frames_rgb_flow/flow/train/{p}/{v}"),
    ("frames_rgb_flow/rgb/train/D2/{v}", "frames_rgb_flow/flow/train/D2/{v}"),
    ("{p}/rgb_frames/{v}", "{p}/flow_frames/{v}"),
]


@pytest.mark.parametrize("layout", VIDEOS)
def test_epic_videos_in_every_official_layout(tmp_path, listed, shared, layout):
    videos = sorted(set(listed["e55"].manifest.columns["group"]))
    for video in videos[1:]:
        touch(tmp_path / layout.format(p=video[:3], v=video))
    touch(tmp_path / "P01/object_detection_images/P01_01/0000000001.jpg")  # same name, not the frames
    built = datasets.build("e55", tmp_path, shared / "splits/epic55_mmsada")
    columns = built.manifest.columns
    lost = columns["group"].count(videos[0])
    assert built.mismatches == [
        f"1 of {len(videos)} videos ({lost} of 10094 clips) have neither a video nor a folder of frames "
        f"below {tmp_path}: {videos[0]}"
    ]
    assert built.on_disk == 10094 - lost
    for path, video in set(zip(columns["path"], columns["group"], strict=True)):
        assert path == (layout if video != videos[0] else "{p}/videos/{v}.MP4").format(p=video[:3], v=video)
    assert "flow_path" not in columns


@pytest.mark.parametrize(("rgb", "flow"), FRAMES)
@pytest.mark.parametrize("name", ["e55", "e100"])
def test_epic_frame_folders_in_every_official_layout(tmp_path, listed, shared, name, rgb, flow):
    videos = sorted(set(listed[name].manifest.columns["group"]))
    for video in videos:
        touch(tmp_path / rgb.format(p=video[:3], v=video) / "frame_0000000001.jpg")
        touch(tmp_path / "videos" / f"{video}.MP4")  # frames go first
    for video in videos[:-1]:
        for component in "uv":
            touch(tmp_path / flow.format(p=video[:3], v=video) / component / "frame_0000000001.jpg")
    built = datasets.build(name, tmp_path, shared / "splits" / LISTS[name])
    assert built.mismatches == [] and built.on_disk == len(built.manifest)
    keys = ("group", "path", "flow_path", "flow_rate", "flow_bound")
    for video, *found in set(zip(*(built.manifest.columns[key] for key in keys), strict=True)):
        place = {"p": video[:3], "v": video}
        stored = [flow.format(**place), *(["50", "8"] if len(video) == 7 else ["30", "25"])] if video != videos[-1] else [""] * 3
        assert found == [rgb.format(**place), *stored]


def test_frame_folders_are_not_listed_and_links_back_end(tmp_path):
    for number in range(1, 40):
        touch(tmp_path / f"rgb/P01_01/frame_{number:010}.jpg")
        touch(tmp_path / f"flow/P01_01/u/frame_{number:010}.jpg")
    (tmp_path / "flow/P01_01/v").mkdir()
    (tmp_path / "rgb/again").symlink_to(tmp_path)
    seen = {str(folder.relative): folder for folder in disk.folders(tmp_path, epic.is_frames)}
    assert set(seen) == {".", "flow", "flow/P01_01", "rgb", "rgb/P01_01"}
    assert seen["rgb/P01_01"].leaf and seen["rgb/P01_01"].files == []
