"""Datasets by name, against the lists that others published, on roots of empty files with the official names."""

import re
from collections import Counter
from pathlib import Path

import pytest
from cia_extract.common.errors import DataError, UsageError
from cia_extract.datasets import benchmarks, manifest, sources
from cia_extract.datasets import definition as datasets_definition

LISTS = {
    "ucf": "ucf101",
    "ucf-small": "ucf101",
    "hmdb": "hmdb51",
    "hmdb-small": "hmdb51",
    "e55": "epic55_mmsada",
    "e100": "epic100_uda",
}
SPLITS = {"train": "train", "val": "val"}
# The figures of docs/facts.md, not those of the definitions.
OFFICIAL = {
    "ucf": {("", "train"): 1438, ("", "val"): 571},
    "hmdb": {("", "train"): 840, ("", "val"): 360},
    "ucf-small": {("", "train"): 482, ("", "val"): 189},
    "hmdb-small": {("", "train"): 350, ("", "val"): 150},
    "e55": dict(
        zip([(d, s) for d in ("D1", "D2", "D3") for s in ("train", "test")], [1543, 435, 2495, 750, 3897, 974], strict=True)
    ),
    "e100": dict(
        zip(
            [(d, s) for d in ("source", "target") for s in ("train", "val", "test")],
            [16115, 5002, 4298, 26115, 7906, 5909],
            strict=True,
        )
    ),
}
CLASSES = ["climb", "fencing", "golf", "kick_ball", "pullup", "punch", "pushup", "ride_bike", "ride_horse", "shoot_ball"]
CLASSES += ["shoot_bow", "walk"]
UCF_TRAIN = [188, 77, 100, 96, 72, 332, 72, 96, 115, 99, 104, 87]
UCF_VAL = [75, 34, 39, 41, 28, 125, 30, 38, 49, 35, 41, 36]


@pytest.fixture(scope="module")
def listed(shared):
    """Every dataset from its annotations alone."""
    return {name: benchmarks.build(name, Path("nowhere"), shared / "splits" / folder) for name, folder in LISTS.items()}


def touch(path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()


def fill(root: Path, built: benchmarks.Built, rename=lambda path: path) -> None:
    for path in built.manifest.columns["path"]:
        touch(root / rename(path))


def test_names():
    assert set(datasets_definition.names()) == set(LISTS)


@pytest.mark.parametrize("name", LISTS)
def test_official_counts_from_annotations_alone(listed, name):
    built = listed[name]
    columns = built.manifest.columns
    domains = columns.get("domain", [""] * len(built.manifest))
    assert Counter(zip(domains, columns["split"], strict=True)) == OFFICIAL[name]
    assert built.on_disk == 0
    assert len(built.mismatches) == 1 and " below nowhere: " in built.mismatches[0]  # no count differs; nothing is on disk
    assert f"{len(built.manifest)} of {len(built.manifest)} clips" in built.mismatches[0]


def test_per_class_counts_of_ucf_hmdb(listed):
    for name, split, counts in [
        ("ucf", "train", UCF_TRAIN),
        ("ucf", "val", UCF_VAL),
        ("hmdb", "train", [70] * 12),
        ("hmdb", "val", [30] * 12),
    ]:
        columns = listed[name].manifest.columns
        clips = Counter(label for label, s in zip(columns["label"], columns["split"], strict=True) if s == split)
        assert clips == dict(zip(CLASSES, counts, strict=True))
        assert datasets_definition.load(name).classes == CLASSES


def published(path: Path) -> dict[str, int]:
    """{clip: class} of a list: `clip,class`, or `folder/clip frames class`."""
    classes = {}
    for line in path.read_text().split("\n"):
        if line.strip():
            name, number = line.rsplit(",", 1) if path.suffix == ".csv" else (line.rsplit(" ", 2)[0], line.rsplit(" ", 1)[1])
            classes[name.split("/")[-1]] = int(number)
    return classes


def of_split(built: benchmarks.Built, split: str) -> dict[str, int]:
    columns = built.manifest.columns
    classes = datasets_definition.load(built.manifest.source).classes
    rows = zip(columns["clip"], columns["label"], columns["split"], strict=True)
    return {clip: classes.index(label) for clip, label, s in rows if s == split}


@pytest.mark.parametrize("split", SPLITS)
def test_the_same_clips_and_classes_as_published_lists(listed, shared, split):
    full, small = shared / "splits/ucf_hmdb_full", shared / "splits/ucf_hmdb_small"
    lists = {
        "ucf": [*full.glob(f"TranSVAE/ucf101/list/*/list_{split}_*"), full / f"CoMix/ucf101_{split}_hmdb_ucf.csv"],
        "hmdb": [*full.glob(f"TranSVAE/hmdb51/list/*/list_{split}_*"), full / f"CoMix/hmdb51_{split}_hmdb_ucf.csv"],
        "ucf-small": [small / f"CleanAdapt/split_ucf101s_{split}.txt"],
        "hmdb-small": [small / f"CleanAdapt/split_hmdb51s_{split}.txt"],
    }
    lists["ucf"].append(full / f"video_da_baseline/ucf101/list_ucf101_{split}_hmdb51-feature.txt")
    lists["hmdb"].append(full / f"video_da_baseline/hmdb51/list_hmdb51_{split}_ucf101-feature.txt")
    for name, paths in lists.items():
        ours = of_split(listed[name], split)
        # The one true difference: the lists write HMDB51's names without ( ) &, all but CleanAdapt's of val.
        if name == "hmdb" or (name, split) == ("hmdb-small", "train"):
            ours = {re.sub("[()&]", "", clip): number for clip, number in ours.items()}
        assert len(paths) >= (1 if "small" in name else 4)
        for path in paths:
            theirs = published(path)
            if "CoMix/hmdb" in str(path):  # CoMix puts v_ before HMDB51's names, as if they were UCF101's
                theirs = {clip.removeprefix("v_"): number for clip, number in theirs.items()}
            assert ours == theirs, path


def test_class_maps_of_ta3n(shared):
    folder = shared / "splits/ucf_hmdb_full/TA3N/data"
    for name, file in [
        ("ucf", "ucf101_splits/class_list_hmdb_ucf.txt"),
        ("ucf-small", "ucf101_splits/class_list_hmdb_ucf_small.txt"),
        ("hmdb", "hmdb51_splits/class_list_hmdb_ucf.txt"),
        ("hmdb-small", "hmdb51_splits/class_list_hmdb_ucf_small.txt"),
    ]:
        definition = datasets_definition.load(name)
        theirs = {words[1]: int(words[0]) for words in map(str.split, (folder / file).read_text().splitlines()) if words}
        assert {folder: definition.classes.index(label) for folder, label in definition.folders.items()} == theirs


def test_groups_keep_train_and_val_apart(listed):
    columns = listed["ucf"].manifest.columns
    assert "Biking_g07" in columns["group"]
    groups = {split: {g for g, s in zip(columns["group"], columns["split"], strict=True) if s == split} for split in SPLITS}
    assert not groups["train"] & groups["val"]
    assert {g[-2:] for g in groups["val"]} == {f"{n:02}" for n in range(1, 8)}  # official split 1 tests groups 1 to 7
    hmdb = listed["hmdb"].manifest.columns
    assert all(group != clip and clip.startswith(group) for group, clip in zip(hmdb["group"], hmdb["clip"], strict=True))


@pytest.mark.parametrize("nested", ["", "downloads/"])
def test_ucf_as_it_unpacks(tmp_path, listed, shared, nested):
    root = tmp_path / "ucf"
    fill(root, listed["ucf"], lambda path: nested + path)
    touch(root / nested / "UCF-101/YoYo/v_YoYo_g01_c01.avi")  # of no class: no stray
    (root / nested / "ucfTrainTestlist").symlink_to(shared / "splits/ucf101/ucfTrainTestlist")
    built = benchmarks.build("ucf", root)
    assert built.mismatches == [] and built.on_disk == 2009
    for row in (0, 2008):
        assert built.manifest.path(row, root).is_file()
    small = benchmarks.build("ucf-small", root)
    assert small.mismatches == [] and small.on_disk == 671


def test_missing_and_extra_clips_are_named(tmp_path, listed, shared):
    fill(tmp_path, listed["ucf"])
    gone = sorted((tmp_path / "UCF-101/Punch").iterdir())[:4]
    for path in gone:
        path.unlink()
    touch(tmp_path / "UCF-101/Biking/v_Biking_g99_c01.avi")
    built = benchmarks.build("ucf", tmp_path, shared / "splits/ucf101")
    assert built.mismatches == [
        f"4 of 2009 clips of the split files are not below {tmp_path}: {', '.join(p.stem for p in gone[:3])}, …",
        f"1 clips below {tmp_path} are in no split file and are left out: UCF-101/Biking/v_Biking_g99_c01.avi",
    ]
    assert built.on_disk == 2005 and len(built.manifest) == 2009


def test_counts_that_differ_are_named(tmp_path, shared):
    lists = tmp_path / "lists"
    lists.mkdir()
    for name in ("trainlist01.txt", "testlist01.txt"):
        text = (shared / "splits/ucf101/ucfTrainTestlist" / name).read_text()
        (lists / name).write_text("\r\n".join(line for line in text.splitlines() if "v_Fencing_g08" not in line))
    built = benchmarks.build("ucf", tmp_path / "none", lists)
    lost = sum("Fencing/v_Fencing_g08" in line for line in (shared / "splits/ucf101/ucfTrainTestlist/trainlist01.txt").open())
    assert lost > 0
    assert built.mismatches[:2] == [
        f"ucf train: {1438 - lost} clips, expected 1438",
        f"ucf train, class fencing: {77 - lost} clips, expected 77",
    ]


@pytest.mark.parametrize("folder", ["", "hmdb51_org", "hmdb51_org/{label}"])
def test_hmdb_as_it_unpacks(tmp_path, listed, shared, folder):
    """Class folders at the top, in one folder, or doubled; clips of the class that split 1 leaves out are no strays."""
    for path in (shared / "splits/hmdb51").rglob("*_test_split1.txt"):
        label = path.name.removesuffix("_test_split1.txt")
        if label in CLASSES:
            for line in path.read_text().splitlines():
                touch(tmp_path / folder.format(label=label) / label / line.split()[0])
    (tmp_path / "testTrainMulti_7030_splits").symlink_to(shared / "splits/hmdb51/testTrainMulti_7030_splits")
    built = benchmarks.build("hmdb", tmp_path)
    assert built.mismatches == [] and built.on_disk == 1200
    assert built.manifest.columns["clip"] == listed["hmdb"].manifest.columns["clip"]


def test_hmdb_names_with_dropped_characters_are_matched(tmp_path, listed, shared):
    fill(tmp_path, listed["hmdb"], lambda path: re.sub(r"[()&!\[\];#]", "", path))
    built = benchmarks.build("hmdb", tmp_path, shared / "splits/hmdb51")
    assert built.mismatches == [] and built.on_disk == 1200
    columns = built.manifest.columns
    assert columns["clip"] == listed["hmdb"].manifest.columns["clip"]  # ids are the official names
    assert len(set(columns["path"])) == 1200 and not any("(" in path for path in columns["path"])


def test_manifests_survive_the_round_trip(tmp_path, listed):
    for name in ("hmdb", "e55"):
        listed[name].manifest.write(tmp_path / "m.csv")
        assert manifest.read(tmp_path / "m.csv").columns == listed[name].manifest.columns


def test_missing_downloads_are_named_in_one_line(tmp_path):
    for name in datasets_definition.names():
        for folder in (tmp_path, tmp_path / "none"):
            with pytest.raises(UsageError) as caught:
                benchmarks.build(name, folder)
            message = str(caught.value)
            assert "\n" not in message and str(folder) in message
            definition = datasets_definition.load(name)
            assert all(item["url"] in message for item in definition.get) and definition.layout in message
    with pytest.raises(UsageError, match=r"no D1_train\.pkl, D1_test\.pkl, D2_train\.pkl, … in it; .*MM-SADA"):
        benchmarks.build("e55", tmp_path)
    with pytest.raises(UsageError, match="not a built-in dataset; they are e100, e55, hmdb"):
        benchmarks.build("ucf102", tmp_path)


@pytest.mark.parametrize(
    ("name", "file", "line", "message"),
    [
        ("ucf", "trainlist01.txt", "v_Biking_g08_c01.avi 11", "trainlist01.txt, line 1: .* is not <Class>/<clip>.avi"),
        ("hmdb", "walk_test_split1.txt", "a_walk.avi 7", "walk_test_split1.txt, line 1: .* is not <clip>.avi and 0, 1 or 2"),
        ("e55", "D2_test.csv", "uid,video_id,start_frame\n1,P01_01,1\n", "D2_test.csv: column stop_frame is missing"),
        ("e55", "D2_test.csv", "uid,video_id,start_frame,stop_frame\n1,P01_01,1,9\n", "column verb_class is missing"),
        (
            "e55",
            "D2_test.csv",
            "uid,video_id,start_frame,stop_frame,verb_class\n7,P01_01,1,9,8\n",
            "uid 7: not the numbers of frames",
        ),
        (
            "e55",
            "D2_test.csv",
            "uid,video_id,start_frame,stop_frame,verb_class\n7,P01_01,1,9,-1\n",
            "uid 7: not the numbers of frames",
        ),
        ("e55", "D2_test.csv", "uid,video_id,start_frame,stop_frame,verb_class\n7,P01_01,8,9,1\n", "8 to 9 are no segment"),
        ("e55", "D2_test.csv", "uid,video_id,start_frame,stop_frame,verb_class\n7,P01_101,1,9,1\n", "'P01_101' is not .* of e55"),
        (
            "e55",
            "D2_test.csv",
            "uid,video_id,start_frame,stop_frame,verb_class\n7,P01_01\n",
            "row 2: has 2 cells",
        ),
    ],
)
def test_damaged_annotations_are_named(tmp_path, shared, name, file, line, message):
    for path in (shared / "splits" / LISTS[name]).rglob("*"):
        if path.is_file() and path.stem != Path(file).stem:
            (tmp_path / path.name).symlink_to(path)
    (tmp_path / file).write_text(line)
    with pytest.raises(DataError, match=message):
        benchmarks.build(name, tmp_path)


def find(dataset, root=None, annotations=None, csv_file=None):
    return sources.find(dataset, csv_file, root, 1, 0, 1, False, annotations)


def test_sources_of_built_in_names(tmp_path, listed, shared, monkeypatch):
    monkeypatch.setenv("CIA_DATA", str(tmp_path))
    fill(tmp_path / "ucf", listed["ucf-small"])
    lists = shared / "splits/ucf101"
    small, full = find("ucf-small", annotations=lists), find("ucf", annotations=lists)
    assert small.root == full.root == tmp_path / "ucf"  # one download for both
    assert small.notes == [] and len(small.manifest) == 671
    assert len(full.manifest) == 2009 and "1338 of 2009 clips of the split files are not below" in full.notes[0]
    # A manifest of one's own goes first, under any name.
    small.manifest.write(tmp_path / "own.csv")
    assert find("ucf", csv_file=tmp_path / "own.csv").manifest.columns == small.manifest.columns


def test_missing_sources_are_named(tmp_path, shared, monkeypatch):
    monkeypatch.setenv("CIA_DATA", str(tmp_path))
    lists = shared / "splits/ucf101"
    (tmp_path / "mine").mkdir()
    with pytest.raises(UsageError, match=r"--root .*/ucf: no such folder; for ucf, get UCF101\.rar \(https://www\.crcv") as error:
        find("ucf", annotations=lists)
    assert str(error.value).endswith("expected in it: UCF-101/<Class>/v_*.avi")  # the lists are at hand
    with pytest.raises(UsageError, match=r"--root .* get UCF101\.rar .* and the splits .*v_\*\.avi and ucfTrainTestlist/train"):
        find("ucf")
    with pytest.raises(UsageError, match=r"--annotations .*/mine: no trainlist01\.txt.*; for ucf, get the splits .*: ucfTrain"):
        find("ucf", root=lists, annotations=tmp_path / "mine")
    with pytest.raises(UsageError, match="no clip of ucf in it; get UCF101"):
        find("ucf", root=tmp_path / "mine", annotations=lists)
    with pytest.raises(UsageError, match=r"no .*/mine/manifest.csv; .* \(built-in names: demo, e100, e55, hmdb"):
        find("mine")
    with pytest.raises(UsageError, match=r"no such folder; .* \(built-in names: demo, e100"):
        find("ucf101")
    with pytest.raises(UsageError, match=r"--annotations .*: goes with a built-in dataset only"):
        find("mine", annotations=lists)
