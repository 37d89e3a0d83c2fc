"""EPIC-KITCHENS by name: annotations, times, and the official layouts as roots of empty files."""

import csv
import json
import os
import pickle
from pathlib import Path

import pytest
from cia_extract.common.errors import DataError
from cia_extract.datasets import benchmarks, definition, disk, epic, tables

from tests import hostile
from tests.extract.datasets.test_benchmarks import LISTS, of_split, touch


@pytest.fixture(scope="module")
def listed(shared):
    """Both datasets from their annotations alone."""
    return {name: benchmarks.build(name, Path("nowhere"), shared / "splits" / LISTS[name]) for name in ("e55", "e100")}


def test_epic_class_names_are_the_published_ones(shared):
    def keys(path: Path, column: str) -> list[str]:
        with path.open(encoding="utf-8") as file:
            return [row[column] for row in csv.DictReader(file)]

    splits = shared / "splits"
    assert definition.load("e100").classes == keys(splits / "epic100_uda/EPIC_100_verb_classes.csv", "key")
    assert definition.load("e100").nouns == keys(splits / "epic100_uda/EPIC_100_noun_classes.csv", "key")
    assert definition.load("e55").classes == keys(splits / "epic55_annotations/EPIC_verb_classes.csv", "class_key")[:8]


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


def test_a_csv_with_the_same_columns_is_read_alike(tmp_path, listed, shared):
    for path in (shared / "splits/epic55_mmsada").glob("*.pkl"):
        rows = tables.read(path, [])
        with (tmp_path / f"{path.stem}.csv").open("w", newline="") as file:
            writer = csv.DictWriter(file, rows[0])
            writer.writeheader()
            writer.writerows(rows)
    assert benchmarks.build("e55", Path("nowhere"), tmp_path).manifest.columns == listed["e55"].manifest.columns


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
    built = benchmarks.build("e55", tmp_path, shared / "splits/epic55_mmsada")
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
    built = benchmarks.build(name, tmp_path, shared / "splits" / LISTS[name])
    assert built.mismatches == [] and built.on_disk == len(built.manifest)
    keys = ("group", "path", "flow_path", "flow_rate", "flow_bound")
    for video, *columns in set(zip(*(built.manifest.columns[key] for key in keys), strict=True)):
        place = {"p": video[:3], "v": video}
        stored = [flow.format(**place), *(["50", "8"] if len(video) == 7 else ["30", "25"])] if video != videos[-1] else [""] * 3
        assert columns == [rgb.format(**place), *stored]


def test_frame_folders_are_not_listed_and_links_back_end(tmp_path):
    for number in range(1, 40):
        touch(tmp_path / f"rgb/P01_01/frame_{number:010}.jpg")
        touch(tmp_path / f"flow/P01_01/u/frame_{number:010}.jpg")
    (tmp_path / "flow/P01_01/v").mkdir()
    (tmp_path / "rgb/again").symlink_to(tmp_path)
    seen = {str(folder.relative): folder for folder in disk.folders(tmp_path, epic.is_frames)}
    assert set(seen) == {".", "flow", "flow/P01_01", "rgb", "rgb/P01_01"}
    assert seen["rgb/P01_01"].leaf and seen["rgb/P01_01"].files == []


def pickled_table(cells: list[list[str]], columns: list[str]) -> bytes:
    """A DataFrame of texts in the layout of MM-SADA's files, written by stand-ins of pandas' names."""
    shape = f"(I{len(cells)}\nI{len(cells[0])}\nt"
    texts = "(l" + "".join(f"V{cell}\na" for column in cells for cell in column)
    object_type = "cnumpy\ndtype\n(S'O8'\nI0\nI1\ntR(I3\nS'|'\nNNNI-1\nI-1\nI63\ntb"
    number_type = "cnumpy\ndtype\n(S'i8'\nI0\nI1\ntR(I3\nS'<'\nNNNI-1\nI-1\nI0\ntb"

    def array(shape: str, kind: str, data: str) -> str:
        return f"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(I0\ntS'b'\ntR(I1\n{shape}{kind}I00\n{data}tb"

    names = array(f"(I{len(columns)}\nt", object_type, "(l" + "".join(f"V{name}\na" for name in columns))
    index = f"cpandas.core.indexes.base\n_new_Index\n(cpandas.core.indexes.base\nIndex\n(dS'data'\n{names}stR"
    data = "".join(f"\\x{byte:02x}" for place in range(len(columns)) for byte in place.to_bytes(8, "little"))
    places = array(f"(I{len(columns)}\nt", number_type, f"S'{data}'\n")
    block = f"(dS'values'\n{array(shape, object_type, texts)}sS'mgr_locs'\n{places}s"
    state = f"(dS'axes'\n(l{index}asS'blocks'\n(l{block}as"
    manager = f"cpandas.core.internals.managers\nBlockManager\n(tR(NNN(dS'0.14.1'\n{state}stb"
    return f"cpandas.core.frame\nDataFrame\n(tR(dS'_data'\n{manager}sb.".encode()


def test_a_table_written_by_hand_is_read_cell_by_cell(tmp_path):
    (tmp_path / "x.pkl").write_bytes(pickled_table([["a", "b"], ["1", "2"]], ["uid", "frame"]))
    assert tables.read(tmp_path / "x.pkl", ["uid"]) == [{"uid": "a", "frame": "1"}, {"uid": "b", "frame": "2"}]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"Va\n", b"S'caf\\xe9'\n"),  # Python 2's text, whose encoding is not stated
        (b"Va\n", b"(l"),
        (b"(I2\nI2\nt", b"(I2\nI99999999\nt"),
        (b"(I2\nI2\nt", b"(I-2\nI-2\nt"),
        (b"I00\n", b"I01\n"),
        (b"S'O8'", b"S'f8'"),
        (b"\\x01", b"\\x09"),
    ],
)
def test_a_damaged_table_gives_one_line(tmp_path, old, new):
    (tmp_path / "x.pkl").write_bytes(pickled_table([["a", "b"], ["1", "2"]], ["uid", "frame"]).replace(old, new))
    with pytest.raises(DataError, match=r"x\.pkl: not .*download it again$") as error:
        tables.read(tmp_path / "x.pkl", [])
    assert str(error.value).isprintable()


@pytest.mark.parametrize("nested", [b"N" + b"\x85" * 1_000_000, b"N" + b"2\x86" * 60], ids=["deep", "doubling"])
@pytest.mark.parametrize("place", [b"S'|'\n", b"S'O8'\n", b"Va\n", b"Vuid\n", b"I00\n", b"(I2\nt"])
def test_a_table_nested_without_end_gives_one_line(tmp_path, nested, place):
    """In a process of its own: to hash or to print such values ends Python."""
    data = pickled_table([["a", "b"], ["1", "2"]], ["uid", "frame"])
    assert place in data
    (tmp_path / "x.pkl").write_bytes(data.replace(place, nested, 1))
    code = """if True:
        import sys
        from pathlib import Path
        from cia_extract.datasets import tables
        from tests import hostile
        print(hostile.attempts(lambda data: tables.read(Path(sys.argv[1]), []), [b""]))
    """
    assert "'refused': 1" in hostile.in_its_own_process(code, tmp_path / "x.pkl", memory_gb=3)


@pytest.mark.parametrize("encoding", ["latin1", "utf-16"])
def test_a_csv_in_another_encoding_gives_one_line(tmp_path, encoding):
    (tmp_path / "x.csv").write_bytes("uid,verb\n1,caf\xe9\n".encode(encoding))
    with pytest.raises(DataError, match=r"x\.csv: cannot be read as a UTF-8 CSV .*; download it again$") as error:
        tables.read(tmp_path / "x.csv", ["uid"])
    assert str(error.value).isprintable()


FUZZ = """
import json, random, sys
from pathlib import Path
from cia_extract.datasets import tables
from tests import hostile
chance, count, path = random.Random(5), int(sys.argv[1]), Path(sys.argv[2])
sound = path.read_bytes()
before = hostile.peak_mb()

def cases():
    for _ in range(count):
        yield hostile.mutated(sound, sound, chance)
        yield hostile.improvised(chance)

def read(data):
    path.write_bytes(data)
    for row in tables.read(path, []):
        assert all(isinstance(text, str) for text in row.values())

counts = hostile.attempts(read, cases())
print(json.dumps(counts | {"mb": hostile.peak_mb() - before}))
"""


def fuzz(count, path):
    path.write_bytes(pickled_table([["a", "b"], ["1", "2"]], ["uid", "frame"]))
    counts = json.loads(hostile.in_its_own_process(FUZZ, count, path, memory_gb=2, seconds=3000))
    assert counts["read"] + counts["refused"] == 2 * count
    assert counts["read"] > count / 600 and counts["refused"] > count / 2 and counts["mb"] < 200


def test_damaged_tables_give_text_or_one_line(tmp_path):
    fuzz(1000, tmp_path / "x.pkl")


@pytest.mark.slow
def test_many_damaged_tables_give_text_or_one_line(tmp_path):
    fuzz(100_000, tmp_path / "x.pkl")


def test_a_pickled_table_that_is_a_pipe_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "D1_train.pkl")
    with pytest.raises(DataError, match=r"D1_train\.pkl: .*it is no file.*; download it again"):
        tables.read(tmp_path / "D1_train.pkl", [])
