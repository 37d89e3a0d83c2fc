import fcntl
import os
import subprocess
import sys

import google_crc32c
import h5py
import numpy as np
import pytest
from cia_extract.common.errors import DataError, MismatchError, UsageError
from cia_extract.features import journal, reader, schema, writer

from tests.conftest import RECIPE, make_dataset

COLUMNS = {"clip": ["a", "b"], "path": ["a.avi", "ü.avi"], "label": ["x", "y"], "split": ["train", "val"], "odd": ["1", ""]}
RGB = RECIPE | {"dataset": "d", "modalities": ["rgb"], "frames": 2}


def prepare(path, recipe=RGB, overwrite=False, datasets=None):
    return writer.begin_or_continue(path, "d", COLUMNS, recipe, path.parent, overwrite, datasets)


def test_layout_is_schema_1(tmp_path):
    dataset = make_dataset(tmp_path / "f.h5", "d", seed=0)
    with h5py.File(tmp_path / "f.h5") as file:
        assert file.attrs["schema"] == 1 and "created_by" in file.attrs
        group = file["d"]
        assert group["rgb/maps"].shape == (18, 5, 1024, 7, 7) and group["rgb/maps"].dtype == np.float16
        assert group["flow/pooled"].shape == (18, 5, 1024) and group["flow/pooled"].dtype == np.float32
        assert group["status"].dtype == np.uint8 and group["crc32c"].dtype == np.uint32
        assert group["clips/indices"].shape == (18, 5) and group["clips/indices"].dtype == np.int32
        assert group["clips/clip"].asstr()[3] == "d3"
        for name in ("rgb/maps", "rgb/pooled", "flow/maps", "status", "crc32c"):
            data = group[name]
            assert data.chunks is None and data.id.get_offset() is not None
            creation = data.id.get_create_plist()
            assert creation.get_alloc_time() == h5py.h5d.ALLOC_TIME_EARLY
            assert creation.get_fill_time() == h5py.h5d.FILL_TIME_NEVER
        assert (group["status"][:] == schema.DONE).all()
        for name in ("rgb/maps", "flow/pooled", "crc32c", "clips/indices"):  # the map shows what HDF5 shows
            np.testing.assert_array_equal(dataset.array(name), group[name][:])
        row = group["flow/maps"][4].tobytes() + group["flow/pooled"][4].tobytes()
        assert group["crc32c"][4, 1] == google_crc32c.value(row)


def test_pooled_is_the_mean_before_the_cast(tmp_path):
    dataset = prepare(tmp_path / "f.h5")
    maps = np.random.default_rng(0).uniform(0, 9, (2, 1024, 7, 7)).astype(np.float32)
    with writer.RowWriter(dataset) as rows:
        rows.write_row(0, "rgb", maps)
    np.testing.assert_allclose(dataset.array("rgb/pooled")[0], maps.astype(np.float64).mean((2, 3)), rtol=1e-6)


def test_a_row_is_done_only_after_its_bytes_each_on_the_disk_before_the_next(tmp_path, monkeypatch):
    dataset = prepare(tmp_path / "f.h5")
    offsets: list[int] = []
    real = os.pwrite
    monkeypatch.setattr(writer.os, "pwrite", lambda file, view, at: offsets.append(at) or real(file, view, at))
    with writer.RowWriter(dataset) as rows:
        assert fcntl.fcntl(rows.descriptor, fcntl.F_GETFL) & os.O_DSYNC == os.O_DSYNC
        rows.write_row(1, "rgb", np.ones((2, 1024, 7, 7), np.float32))
    status = dataset.regions["status"].row_offset(1)
    assert len(offsets) > 3 and offsets.index(status) == len(offsets) - 1


def test_unwritten_rows_are_to_do_and_unicode_survives(tmp_path):
    dataset = prepare(tmp_path / "f.h5")
    assert not dataset.done().any()
    assert dataset.columns["path"].tolist() == ["a.avi", "ü.avi"] and dataset.columns["odd"].tolist() == ["1", ""]


@pytest.mark.parametrize("value", [np.inf, np.nan, 70_000.0])
def test_values_that_float16_cannot_hold_are_refused(tmp_path, value):
    dataset = prepare(tmp_path / "f.h5")
    maps = np.zeros((2, 1024, 7, 7), np.float32)
    maps[1, 5, 3, 3] = value
    with writer.RowWriter(dataset) as rows, pytest.raises(DataError, match="not finite in float16"):
        rows.write_row(0, "rgb", maps)
    assert not dataset.done().any()


def test_same_recipe_continues_and_another_is_refused_with_its_differences(tmp_path):
    path = tmp_path / "f.h5"
    with writer.RowWriter(prepare(path)) as rows:
        rows.write_row(1, "rgb", np.ones((2, 1024, 7, 7), np.float32))
    assert prepare(path, RGB | {"code_version": "2"}).done().tolist() == [False, True]
    other = RGB | {"frames": 4, "weights": {"rgb": {"name": "random"}}}
    with pytest.raises(MismatchError, match=r"frames: 2 → 4; weights\.rgb: None → .*random.*--overwrite"):
        prepare(path, other)
    assert prepare(path, overwrite=True).done().tolist() == [False, False]


def test_what_two_provenances_have_twice_is_named_once():
    """`frames` is a knob of the preprocessing too. One that differs in another way, or has no copy, stays."""

    def made(frames: int, knob: int, crop: int) -> dict:
        return {"frames": frames, "preprocessing": {"sampling": {"frames": knob}, "picture": {"crop": crop}}}

    names = [
        [one.field for one in schema.differences(made(2, 2, 224), made(*new))] for new in ((3, 3, 224), (3, 4, 112), (2, 4, 224))
    ]
    assert names == [
        ["frames"],
        ["frames", "preprocessing.picture.crop", "preprocessing.sampling.frames"],
        ["preprocessing.sampling.frames"],
    ]


def test_a_second_dataset_leaves_the_first_as_it_was(tmp_path):
    path = tmp_path / "f.h5"
    first = make_dataset(path, "one", seed=1, clips_per_class=1)
    before = {name: np.array(first.array(name)) for name in first.regions}
    make_dataset(path, "two", seed=2, clips_per_class=1)
    datasets = reader.open_features(path)
    assert list(datasets) == ["one", "two"]
    for name, values in before.items():
        np.testing.assert_array_equal(datasets["one"].array(name), values)
    writer.begin_or_continue(path, "one", COLUMNS, RGB | {"dataset": "one"}, tmp_path, overwrite=True)
    assert not reader.open_features(path)["one"].done().any()
    assert not reader.open_features(path)["two"].damaged_rows("rgb")


def test_verify_finds_a_flipped_bit(tmp_path):
    dataset = make_dataset(tmp_path / "f.h5", "d", seed=0, clips_per_class=1)
    assert dataset.damaged_rows("rgb") == {}
    digest = dataset.digest()
    with open(dataset.path, "r+b") as file:
        file.seek(dataset.regions["rgb/maps"].row_offset(2) + 1234)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))
    assert dataset.damaged_rows("rgb") == {2: "d2: rgb does not match its CRC32C"}
    assert dataset.damaged_rows("flow") == {}
    assert dataset.digest() == digest, "the digest covers the recorded CRCs; verify covers the bytes"


def test_digest_follows_content_and_labels(tmp_path):
    digests = {
        make_dataset(tmp_path / f"{name}.h5", "d", seed=seed, clips_per_class=count).digest()
        for name, seed, count in (("a", 0, 1), ("b", 0, 1), ("c", 1, 1), ("d", 0, 2))
    }
    assert len(digests) == 3


@pytest.mark.parametrize("stage", ["_write_journal", "_replay"])
def test_a_kill_while_a_dataset_is_added_leaves_old_or_new(tmp_path, stage):
    """The process dies at the journal's two dangerous places: before it is complete, and half-way through copying it."""
    path = tmp_path / "f.h5"
    make_dataset(path, "one", seed=1, clips_per_class=1)
    script = f"""
import os, sys
sys.path.insert(0, {str(os.getcwd())!r})
from cia_extract.features import journal
real_pwrite, calls = os.pwrite, []
def pwrite(*arguments):
    calls.append(1)
    if len(calls) == 2: os._exit(9)
    return real_pwrite(*arguments)
if {stage!r} == "_replay": os.pwrite = pwrite
else: os.replace = lambda *a: os._exit(9)
from pathlib import Path
from tests.conftest import make_dataset
make_dataset(Path({str(path)!r}), "two", seed=2, clips_per_class=1)
"""
    assert subprocess.run([sys.executable, "-c", script]).returncode == 9
    if stage == "_replay":
        with pytest.raises(DataError, match="run the same cia-extract command"):
            reader.open_features(path)
    journal.recover(path)
    datasets = reader.open_features(path)
    assert list(datasets) == (["one", "two"] if stage == "_replay" else ["one"])
    assert datasets["one"].damaged_rows("rgb") == {} and datasets["one"].done().all()
    make_dataset(path, "three", seed=3, clips_per_class=1)
    assert reader.open_features(path)["three"].damaged_rows("flow") == {}
    assert sorted(p.name for p in tmp_path.iterdir()) == ["f.h5"]


def test_rows_written_while_a_dataset_is_added_stay(tmp_path):
    """Another process fills its rows between the moment the metadata are read and the moment they are put back."""
    path = tmp_path / "f.h5"
    one = prepare(path)
    wide = {key: [f"{key}{i}".ljust(100) for i in range(300)] for key in COLUMNS}
    maps = np.ones((2, 1024, 7, 7), np.float32)
    with writer.RowWriter(one) as rows, journal.transaction(path) as file:
        schema.lay_out(file, "two", wide, RGB | {"dataset": "two"}, tmp_path)
        file.flush()
        rows.write_row(0, "rgb", maps)
    with writer.RowWriter(one) as rows:
        rows.write_row(1, "rgb", maps)
    datasets = reader.open_features(path)
    assert datasets["d"].done().all() and not datasets["d"].damaged_rows("rgb")
    assert len(datasets["two"]) == 300 and not datasets["two"].done().any()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_second_start_that_waited_does_not_begin_anew(tmp_path, overwrite):
    """Two processes start at once on a new file: the later one finds, under the lock, what the first has made."""
    path = tmp_path / "f.h5"
    seen_by_the_later_one = writer.open_to_fill(path)
    with writer.RowWriter(prepare(path)) as rows:
        rows.write_row(0, "rgb", np.ones((2, 1024, 7, 7), np.float32))
    assert prepare(path, RGB, overwrite, seen_by_the_later_one).done().tolist() == [True, False]
    with pytest.raises(MismatchError, match="frames: 2 → 4"):
        prepare(path, RGB | {"frames": 4}, overwrite, seen_by_the_later_one)


def test_overwriting_does_not_grow_the_file(tmp_path):
    path = tmp_path / "f.h5"
    prepare(path)
    size = path.stat().st_size
    for _ in range(3):
        prepare(path, overwrite=True)
    assert path.stat().st_size <= size + 2**17


def test_disk_space_is_checked_before_anything_is_made(tmp_path, monkeypatch):
    monkeypatch.setattr(writer.shutil, "disk_usage", lambda _: type("Usage", (), {"free": 10_000})())
    with pytest.raises(UsageError, match=r"needs 0\.00 GB and 0\.00 GB are free"):
        prepare(tmp_path / "f.h5")
    assert not (tmp_path / "f.h5").exists()


@pytest.mark.parametrize("content", [b"", b"no HDF5 at all"])
def test_files_that_are_none(tmp_path, content):
    path = tmp_path / "f.h5"
    path.write_bytes(content)
    with pytest.raises(DataError, match=r"f\.h5"):
        reader.open_features(path)
    with pytest.raises(DataError, match="no such file"):
        reader.open_features(tmp_path / "none.h5")


def test_another_schema_is_refused(tmp_path):
    with h5py.File(tmp_path / "f.h5", "w") as file:
        file.attrs["schema"] = 2
    with pytest.raises(DataError, match="schema 2"):
        reader.open_features(tmp_path / "f.h5")


def test_reading_features_needs_neither_torch_nor_av():
    code = "import sys, cia_extract.features, cia_extract.datasets.manifest; "
    code += "sys.exit(bool({'torch', 'av', 'cv2'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0


@pytest.mark.parametrize(
    ("values", "said"),
    [
        (["é" * 32_769, "b"], r"column note has a value of 65538 bytes; 65536 are the most, shorten it"),
        (["y" * 60_000, *["b"] * 71_999], r"more than 4,294,967,296 bytes.*note has one of 60000 bytes: shorten it"),
    ],
)
def test_texts_that_no_reader_takes_are_refused_before_the_file_changes(tmp_path, values, said):
    """They were laid out, and then the whole file was refused, with all finished datasets in it."""
    there = make_dataset(tmp_path / "f.h5", "here", 1, clips_per_class=1)
    before = there.path.read_bytes()
    ids = [f"c{index}" for index in range(len(values))]
    columns = {"clip": ids, "path": ids, "label": ["x"] * len(ids), "split": ["train"] * len(ids), "note": values}
    with pytest.raises(DataError, match=said):
        writer.begin_or_continue(
            there.path, "new", columns, there.provenance | {"modalities": ["rgb"], "frames": 1}, tmp_path, False
        )
    assert there.path.read_bytes() == before and list(reader.open_features(there.path)) == ["here"]
