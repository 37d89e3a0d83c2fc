"""Manifests from folders: splits must not become classes, and what is left out is named."""

import pytest
from cia_extract.common.errors import UsageError
from cia_extract.datasets import class_folders

from tests.privileges import bound_by_permissions


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def rows(listing):
    columns = listing.manifest.columns
    return set(zip(columns["path"], columns["label"], columns["split"], strict=True))


@pytest.mark.parametrize("train", ["train", "training", "Train", "TRAINING"])
@pytest.mark.parametrize(
    ("other", "split"),
    [("val", "val"), ("valid", "val"), ("Validation", "val"), ("test", "test"), ("Testing", "test")],
)
def test_usual_names_of_splits_are_not_classes(tmp_path, train, other, split):
    touch(tmp_path, f"{train}/run/a.avi", f"{other}/run/b.avi")
    listing = class_folders.read(tmp_path)
    assert rows(listing) == {(f"{train}/run/a.avi", "run", "train"), (f"{other}/run/b.avi", "run", split)}
    assert listing.notes == []


@pytest.mark.parametrize("stray", ["unlabelled/a.avi", "extra/run/a.avi", "extra/run/deep/a.avi"])
def test_a_folder_beside_split_folders_is_left_out_and_named(tmp_path, stray):
    touch(tmp_path, "train/run/a.avi", "val/run/b.avi", stray)
    listing = class_folders.read(tmp_path)
    assert {(label, split) for _, label, split in rows(listing)} == {("run", "train"), ("run", "val")}
    assert listing.notes == [f"{stray.split('/')[0]}: left out with 1 clips, since it is no split like train, val"]


def test_a_class_that_is_called_test_keeps_its_clips_and_is_named(tmp_path):
    touch(tmp_path, "run/a.avi", "test/b.avi")
    listing = class_folders.read(tmp_path)
    assert {label for _, label, _ in rows(listing)} == {"run", "test"}
    assert len(listing.notes) == 1 and listing.notes[0].startswith("test: taken as a class")


@pytest.mark.parametrize(
    ("files", "message"),
    [
        (["test/one/a.avi", "run/one/b.avi"], "test is named like a split and run like a class"),
        (["train/a.avi", "test/b.avi"], "clips in test lie in no class folder"),
        (["train/run/a.avi", "train/b.avi", "val/run/c.avi"], "clips in train lie in no class folder"),
        (["train/run/a.avi", "b.avi"], "b.avi lies in no class folder; expected <split>"),
        (["run/frames/frame_0001.jpg"], "looks like a frame: frame folders need a manifest"),
    ],
)
def test_ambiguous_folders_are_refused(tmp_path, files, message):
    touch(tmp_path, *files)
    with pytest.raises(UsageError, match=message) as error:
        class_folders.read(tmp_path)
    assert "\n" not in str(error.value)


def test_folders_without_videos_and_classes_that_a_split_lacks_are_named(tmp_path):
    touch(tmp_path, "train/run/a.avi", "train/jump/b.avi", "val/run/c.avi", "train/run/frames/1.jpg")
    (tmp_path / "train" / "wave").mkdir()
    assert class_folders.read(tmp_path).notes == [
        "train/run/frames, train/wave: left out, no video in them",
        "val has no clip of 1 of 2 classes: jump",
    ]


def test_files_of_operating_systems_are_no_clips_and_no_classes(tmp_path):
    touch(tmp_path, "run/a.avi", "run/._a.avi", "run/.DS_Store", "run/Thumbs.db", "__MACOSX/run/._a.avi", "@eaDir/a.avi/x.jpg")
    listing = class_folders.read(tmp_path)
    assert rows(listing) == {("run/a.avi", "run", "train")} and listing.notes == []


def test_a_link_back_ends_and_a_linked_folder_serves_two_splits(tmp_path):
    touch(tmp_path, "clips/a.avi", "data/train/jump/b.avi")
    for split in ("train", "val"):
        (tmp_path / "data" / split).mkdir(exist_ok=True)
        (tmp_path / "data" / split / "run").symlink_to(tmp_path / "clips")
    (tmp_path / "clips" / "again").symlink_to(tmp_path / "data")
    labels = [(label, split) for path, label, split in rows(class_folders.read(tmp_path / "data")) if path.count("/") == 2]
    assert sorted(labels) == [("jump", "train"), ("run", "train"), ("run", "val")]


def test_classes_that_differ_in_case_are_named(tmp_path):
    touch(tmp_path, "train/Run/a.avi", "val/run/b.avi")
    assert "Run, run: kept as separate classes, although only case differs" in class_folders.read(tmp_path).notes


def test_val_every_says_which_classes_get_no_validation_clip(tmp_path):
    touch(tmp_path, *(f"{label}/{i}.avi" for label in ("run", "jump") for i in range(4)), *(f"wave/{i}.avi" for i in range(9)))
    assert class_folders.read(tmp_path, 9).notes == [
        "--val-every 9: no validation clip of jump, run; the smallest of these classes has 4, choose 4 or less"
    ]
    assert class_folders.read(tmp_path, 4).notes == []
    assert "none is left to train on" in class_folders.read(tmp_path, 1).notes[0]


def test_val_every_beside_split_folders_is_refused_not_ignored(tmp_path):
    touch(tmp_path, "train/run/a.avi", "test/run/b.avi")
    with pytest.raises(UsageError, match="test, train are splits already"):
        class_folders.read(tmp_path, 2)


def test_a_file_or_an_impossible_path_for_a_folder_gives_one_line(tmp_path):
    touch(tmp_path, "a.csv")
    for path, why in [
        (tmp_path / "a.csv", "is a file"),
        (tmp_path / ("x" * 300), "no such folder"),
        (tmp_path / "\0", "no such"),
    ]:
        with pytest.raises(UsageError, match=why):
            class_folders.read(path)


def test_a_folder_that_cannot_be_listed_gives_one_line(tmp_path):
    touch(tmp_path, "run/a.avi", "jump/b.avi")
    (tmp_path / "jump").chmod(0)

    def refused() -> None:
        with pytest.raises(UsageError, match="jump cannot be listed"):
            class_folders.read(tmp_path)

    bound_by_permissions(refused)
