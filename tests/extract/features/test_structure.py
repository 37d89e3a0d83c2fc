"""Files that are not what schema 1 says are refused in one line, before anything in them is used."""

import json
import os
import subprocess
import sys
from pathlib import Path

import h5py
import numpy as np
import pytest
from cia_extract import features
from cia_extract.common.errors import CiaError, DataError
from cia_extract.common.outcomes import Outcome
from cia_extract.features import journal, structure

from tests import hostile
from tests.conftest import make_dataset
from tests.extract.cli.test_application import cia_extract


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("whole") / "f.h5"
    make_dataset(path, "d", seed=1, clips_per_class=1, frames=1, modalities=("rgb",))
    return path


@pytest.fixture
def file(whole, tmp_path):
    """A copy of a good feature file, to be spoiled."""
    path = tmp_path / "f.h5"
    path.write_bytes(whole.read_bytes())
    return path


def replace(group: h5py.Group, name: str, values, **options) -> None:
    del group[name]
    group.create_dataset(name, data=values, **options)


def recipe(group: h5py.Group, **fields) -> None:
    changed = json.loads(group.attrs["recipe"]) | fields
    group.attrs["recipe"], group.attrs["recipe_sha256"] = json.dumps(changed), features.provenance_sha256(changed)


# What is wrong → what spoils the group so, and what the message has to name.
FAULTS = {
    "status of one dimension": (lambda g: replace(g, "status", np.zeros(3, np.uint8)), "d/status has the shape"),
    "status of floats": (lambda g: replace(g, "status", np.zeros((3, 1))), "d/status is float64"),
    "status missing": (lambda g: g.__delitem__("status"), "d/status is missing"),
    "a checksum missing": (lambda g: g.__delitem__("crc32c"), "d/crc32c is missing"),
    "a ledger without outcomes": (lambda g: g.__delitem__("outcome"), "d/outcome is missing; schema 1"),
    "outcomes without messages": (lambda g: g.__delitem__("message"), "d/message is missing; schema 1 has it beside outcome"),
    "a checksum of no rates": (lambda g: g.__delitem__("clips/fps"), "d/clips/fps is missing; schema 1"),
    "status that is a group": (lambda g: (g.__delitem__("status"), g.create_group("status")), "d/status is a group"),
    "no manifest": (lambda g: g.__delitem__("clips"), "d/clips is missing"),
    "no labels": (lambda g: g.__delitem__("clips/label"), "no column label"),
    "labels for other clips": (lambda g: replace(g, "clips/label", np.array([b"x"] * 5)), "d/clips/label has the shape (5,)"),
    "labels of two axes": (lambda g: replace(g, "clips/label", np.array([[b"x"]] * 3)), "d/clips/label has the shape (3, 1)"),
    "labels in another encoding": (lambda g: replace(g, "clips/label", np.array([b"caf\xe9"] * 3)), "d/clips/label is not UTF-8"),
    "labels that were changed": (lambda g: replace(g, "clips/label", np.array([b"run"] * 3)), "label does not match"),
    "indices for other frames": (lambda g: replace(g, "clips/indices", np.zeros((3, 9), "i4")), "d/clips/indices has the shape"),
    "whole numbers for vectors": (lambda g: replace(g, "rgb/pooled", np.ones((3, 1, 1024), np.int8)), "d/rgb/pooled is int8"),
    "records for vectors": (lambda g: replace(g, "rgb/pooled", np.zeros((3, 1, 1024), "f4,f4")), "d/rgb/pooled is"),
    "maps of one dimension": (lambda g: replace(g, "rgb/maps", np.zeros(3, np.float16)), "d/rgb/maps has the shape (3,)"),
    "maps of other channels": (
        lambda g: replace(g, "rgb/maps", np.zeros((3, 1, 8, 7, 7), np.float16)),
        "d/rgb/pooled has the shape (3, 1, 1024); by its clips, frames and modalities it is (3, 1, 8)",
    ),
    "chunked maps": (lambda g: replace(g, "rgb/maps", g["rgb/maps"][:], chunks=(1, 1, 1024, 7, 7)), "d/rgb/maps is chunked"),
    "no features at all": (lambda g: (g.__delitem__("rgb/maps"), g.__delitem__("rgb/pooled")), "d/rgb holds neither"),
    "a modality missing": (lambda g: recipe(g, modalities=["rgb", "flow"]), "d/flow is missing"),
    "a modality nobody knows": (lambda g: recipe(g, modalities=["rgb", "smell"]), "recipe has modalities"),
    "a modality twice": (lambda g: recipe(g, modalities=["rgb", "rgb"]), "recipe has modalities"),
    "modalities that are a text": (lambda g: recipe(g, modalities="rgb"), "recipe has modalities"),
    "frames that are a text": (lambda g: recipe(g, frames="1"), "recipe has frames"),
    "frames that are true": (lambda g: recipe(g, frames=True), "recipe has frames"),
    "frames without end": (lambda g: recipe(g, frames=10**30), "recipe has frames"),
    "a recipe that is a list": (lambda g: g.attrs.__setitem__("recipe", "[1]"), "recipe is a list"),
    "a recipe nested without end": (lambda g: g.attrs.__setitem__("recipe", "[" * 60_000), "recipe is damaged (not JSON"),
    "a recipe that is a number": (lambda g: g.attrs.__setitem__("recipe", 7), "recipe is no text"),
    "a recipe of bytes": (lambda g: g.attrs.__setitem__("recipe", np.void(b"\xff\0\xfe")), "recipe is no text"),
    "an engine that is a list": (lambda g: recipe(g, engine=[1]), "recipe has engine [1]; it is a table"),
    "flow computed by nobody": (lambda g: recipe(g, engine={"flow_by": []}), "engine.flow_by"),
    "weights that are a text": (lambda g: recipe(g, weights="kinetics"), "recipe has weights"),
    "no recipe": (lambda g: g.attrs.__delitem__("recipe"), "recipe is no text"),
    "a soft link": (lambda g: (g.__delitem__("rgb"), g.__setitem__("rgb", h5py.SoftLink("/elsewhere"))), "d/rgb is a link"),
    "an array by soft link": (
        lambda g: (g.move("crc32c", "other"), g.__setitem__("crc32c", h5py.SoftLink("/d/other"))),
        "d/crc32c is a link",
    ),
    "damaged checksums of columns": (
        lambda g: g.attrs.__setitem__("columns_crc32c", "[" * 10),
        "columns_crc32c is damaged (not JSON",
    ),
}  # fmt: skip


@pytest.mark.parametrize("fault", FAULTS)
def test_a_malformed_file_is_named_and_not_used(file, fault):
    spoil, message = FAULTS[fault]
    with h5py.File(file, "r+") as opened:
        spoil(opened["d"])
    with pytest.raises(DataError) as raised:
        features.open_features(file)
    assert message in str(raised.value) and "\n" not in str(raised.value)


def test_features_in_another_file_are_not_taken_from_this_one(file, whole, tmp_path):
    """An external link's offsets are the other file's: reading, or `verify --redo`, would touch other bytes of this one."""
    with h5py.File(file, "r+") as opened:
        del opened["d/rgb/maps"]
        opened["d/rgb/maps"] = h5py.ExternalLink(str(whole), "/d/rgb/maps")
    with pytest.raises(DataError, match="d/rgb/maps is a link to another place"):
        features.open_features(file)
    with h5py.File(file, "r+") as opened:
        del opened["d"]
        opened["d"] = h5py.ExternalLink(str(whole), "/d")
    with pytest.raises(DataError, match="/d is a link to another place"):
        features.open_features(file)


def test_arrays_kept_outside_the_file_are_refused(file, tmp_path):
    with h5py.File(file, "r+") as opened:
        group = opened["d/rgb"]
        del group["pooled"]
        group.create_dataset("pooled", (3, 1, 1024), np.float32, external=[(str(tmp_path / "raw"), 0, h5py.h5f.UNLIMITED)])
    with pytest.raises(DataError, match="d/rgb/pooled is chunked, virtual or in another file"):
        features.open_features(file)
    with h5py.File(file, "r+") as opened:
        group = opened["d/rgb"]
        del group["pooled"]
        layout = h5py.VirtualLayout((3, 1, 1024), np.float32)
        layout[:] = h5py.VirtualSource(str(tmp_path / "other.h5"), "x", (3, 1, 1024))
        group.create_virtual_dataset("pooled", layout)
    with pytest.raises(DataError, match="d/rgb/pooled is chunked, virtual or in another file"):
        features.open_features(file)


READ_ALL = """
import json, sys
from pathlib import Path
from cia_adapt.data.foreign import open_any
from cia_extract import features
from cia_extract.common.errors import DataError
told = []
for path in sorted(Path(sys.argv[1]).glob("case*.h5")):
    for read in (features.open_features, open_any):
        try:
            told.append(f"read: {list(read(path))}")
        except DataError as error:
            told.append(str(error))
print(json.dumps(told))
"""
ENDLESS = ("clips/clip", "clips/fps", "status", "rgb/maps", "rgb/pooled", "rgb/nobody's")


def test_an_endless_array_of_a_pipes_is_refused_before_the_library_opens_the_pipe(whole, tmp_path):
    """To be asked for its shape is enough: the library then waits for the pipe's other end, for ever."""
    os.mkfifo(tmp_path / "pipe.h5")
    for number, name in enumerate(ENDLESS):
        path = tmp_path / f"case{number}.h5"
        path.write_bytes(whole.read_bytes())
        with h5py.File(path, "r+") as opened:
            kind = opened["d"][name].dtype if name in opened["d"] else np.dtype("f4")
            if name in opened["d"]:
                del opened["d"][name]
            layout = h5py.VirtualLayout((3,), kind, maxshape=(None,))
            source = h5py.VirtualSource(tmp_path / "pipe.h5", "x", shape=(3,), dtype=kind, maxshape=(None,))
            layout[0 : h5py.h5s.UNLIMITED] = source[0 : h5py.h5s.UNLIMITED]
            opened["d"].create_virtual_dataset(name, layout)
    told = json.loads(hostile.in_its_own_process(READ_ALL, tmp_path, memory_gb=6))
    assert len(told) == 2 * len(ENDLESS)
    for name, lines in zip(ENDLESS, zip(told[::2], told[1::2], strict=True), strict=True):
        for line in lines:
            assert f"d/{name} is chunked, virtual or in another file" in line, (name, line)


def test_one_long_text_takes_no_more_room_than_it_has(tmp_path):
    """In numpy's arrays of text each value takes the room of the longest: 60,000 letters by 2,000 clips were 480 MB."""
    path, count = tmp_path / "f.h5", 2000
    columns = {name: [f"{name}{i}" for i in range(count)] for name in ("clip", "path")}
    columns |= {"label": ["é"] * count, "split": ["train"] * count, "note": ["", "long " * 12_000, *["short"] * (count - 2)]}
    with journal.transaction(path) as opened:
        features.lay_out(opened, "d", columns, {"modalities": ["rgb"], "frames": 1}, tmp_path)
    with h5py.File(path, "r+") as opened:
        assert opened["d/clips/note"].dtype.itemsize == 60_000
    read = features.open_features(path)["d"].columns
    assert {name: values.tolist() for name, values in read.items()} == columns
    assert sum(values.nbytes for values in read.values()) == 5 * count * 8


def test_checksums_of_texts_do_not_depend_on_what_holds_them():
    texts, known = ["a", "", "é", "日本"], {"x": 5550987}  # of b"a\\0\\0\\xc3…", by google_crc32c
    for held in (texts, np.array(texts), np.array(texts, dtype=object)):
        assert structure.columns_crc32c({"x": held}) == known


def sparse(group: h5py.Group, name: str, shape: tuple[int, ...], kind: str) -> None:
    """An array whose bytes are a hole in the file."""
    layout = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    layout.set_alloc_time(h5py.h5d.ALLOC_TIME_EARLY)
    layout.set_fill_time(h5py.h5d.FILL_TIME_NEVER)
    h5py.h5d.create(group.id, name.encode(), h5py.h5t.py_create(np.dtype(kind)), h5py.h5s.create_simple(shape), layout)


@pytest.fixture
def hollow(tmp_path):
    """A file of 1000 clips and little else."""
    path, count = tmp_path / "f.h5", 1000
    columns = {name: ["a"] * count for name in ("clip", "path", "label", "split")}
    with journal.transaction(path) as opened:
        features.lay_out(opened, "d", columns, {"modalities": ["rgb"], "frames": 1}, tmp_path)
    with h5py.File(path, "r+") as opened:
        del opened["d"].attrs["columns_crc32c"]
    return path


def test_columns_that_are_holes_are_refused_by_what_they_take_together(hollow):
    with h5py.File(hollow, "r+") as opened:
        for number in range(40):  # 13 MB each and 524 MB together, of 0.2 to 0.3 MB on the disk
            sparse(opened["d/clips"], f"note{number}", (1000,), "S13107")
    with pytest.raises(DataError, match=r"f\.h5: the columns have 5\d{8} bytes and the whole file takes \d+ on the disk"):
        features.open_features(hollow)


def test_two_columns_on_the_same_bytes_are_refused(file):
    """A column under a thousand names would be read a thousand times."""
    with h5py.File(file, "r+") as opened:
        opened["d/clips/more"] = opened["d/clips/label"]
    with pytest.raises(DataError, match=r"/d/clips/\w+ and /d/clips/\w+ lie over each other"):
        features.open_features(file)


def test_a_clip_that_would_fill_the_memory_is_refused(file):
    with h5py.File(file, "r+") as opened:
        del opened["d/rgb/maps"]
        sparse(opened["d/rgb"], "maps", (3, 1, 1024, 1024, 513), "f2")
    with pytest.raises(DataError, match=r"d/rgb/maps is \(3, 1, 1024, 1024, 513\); one clip would take 1\.1 GB\. Is the order"):
        features.open_features(file)


def test_a_file_of_more_rows_than_it_has_bytes_for_is_refused(tmp_path):
    path = tmp_path / "f.h5"
    with journal.transaction(path) as opened:
        columns = {"clip": ["a"], "path": ["a"], "label": ["a"], "split": ["train"]}
        features.lay_out(opened, "d", columns, {"modalities": ["rgb"], "frames": 1}, tmp_path)
    with h5py.File(path, "r+") as opened:
        group = opened["d"]
        for name in ("clip", "label", "split", "path"):
            del group[f"clips/{name}"]
            group.create_dataset(f"clips/{name}", (10**11,), "S8")
    with pytest.raises(DataError, match=r"never written|ends at byte|on the disk"):
        features.open_features(path)


@pytest.mark.parametrize("share", [0.02, 0.3, 0.6, 0.99])
def test_a_file_cut_off_is_refused_when_it_is_opened(file, share):
    """A memory map over what is not there would end the process."""
    with file.open("r+b") as opened:
        opened.truncate(int(file.stat().st_size * share))
    with pytest.raises(DataError):
        features.open_features(file)


@pytest.mark.parametrize("kind", ["folder", "pipe", "missing", "empty"])
def test_what_is_no_file_is_called_what_it_is(tmp_path, kind):
    path = tmp_path / "x.h5"
    {"folder": path.mkdir, "pipe": lambda: __import__("os").mkfifo(path), "missing": lambda: None, "empty": path.touch}[kind]()
    expected = {"folder": "is a folder", "pipe": "no regular file", "missing": "no such file", "empty": "interrupted"}[kind]
    with pytest.raises(DataError, match=expected):
        features.open_features(path)


def test_a_flipped_bit_in_a_column_is_noticed(file):
    """A changed label would train in silence."""
    with h5py.File(file, "r") as opened:
        offset = opened["d/clips/label"].id.get_offset()
    flip(file, offset)
    with pytest.raises(DataError, match="clips/label does not match its CRC32C"):
        features.open_features(file)


@pytest.mark.parametrize("name", ["rgb/maps", "rgb/pooled", "clips/indices", "clips/n_frames", "clips/fps"])
def test_a_flipped_bit_in_a_row_is_noticed(file, name):
    dataset = features.open_features(file)["d"]
    assert dataset.damaged_rows("rgb") == {}
    flip(file, dataset.regions[name].row_offset(1) + 2)
    assert list(dataset.damaged_rows("rgb")) == [1]


@pytest.mark.parametrize(("name", "byte"), [("status", 0), ("outcome", 0), ("message", 3), ("message", 99), ("ledger_crc32c", 1)])
@pytest.mark.parametrize("failed", [False, True])
def test_a_flipped_bit_in_the_ledger_is_found_by_verify_and_done_again(file, name, byte, failed):
    """In what is told of a clip: a failure taken for a success, or another reason."""
    from cia_extract.features import writer

    dataset = features.open_features(file)["d"]
    with writer.RowWriter(dataset) as rows:
        rows.write_row(1, "rgb", np.ones((1, 1024, 7, 7), np.float32), Outcome("short", "1 frame, 25 are described"))
        if failed:
            rows.fail(1, "rgb", Outcome("decode error", "d1.avi: cannot be decoded"))
    assert dataset.damaged_rows("rgb") == {}
    bit = 3 if name == "status" else 4  # 1 done and 2 failed become each other
    flip(file, dataset.regions[name].row_offset(1) + byte, bit)
    line = cia_extract("verify", file).stdout
    assert line.startswith("d: d1: rgb's status, outcome or message do not match their CRC32C")
    assert cia_extract("verify", file, "--redo").returncode == 0 and features.open_features(file)["d"].array("status")[1, 0] == 0
    assert cia_extract("verify", file).returncode == 0


def test_a_kill_between_the_note_on_a_row_and_its_mark_leaves_the_row_to_do(file, monkeypatch):
    """A retry that succeeds after a failure: never "failed" with the message of a success."""
    from cia_extract.features import writer

    dataset = features.open_features(file)["d"]
    with writer.RowWriter(dataset) as rows:
        rows.fail(1, "rgb", Outcome("decode error", "d1.avi: cannot be decoded"))
        put, killed = rows._put, RuntimeError("killed")

        def kill_before_the_mark(name, row, values, column=0):
            if name == "status" and values == features.DONE:
                raise killed
            put(name, row, values, column)

        monkeypatch.setattr(rows, "_put", kill_before_the_mark)
        with pytest.raises(RuntimeError, match="killed"):
            rows.write_row(1, "rgb", np.ones((1, 1024, 7, 7), np.float32))
    assert dataset.array("status")[1, 0] == 0 and dataset.damaged_rows("rgb") == {}


def test_files_from_before_checksums_of_columns_and_vectors_are_read_and_continued(file):
    with h5py.File(file, "r+") as opened:
        group = opened["d"]
        del group["vectors_crc32c"], group["clip_crc32c"], group["ledger_crc32c"], group.attrs["columns_crc32c"]
    from cia_extract.features import writer

    dataset = features.open_features(file)["d"]
    with writer.RowWriter(dataset) as rows:
        rows.write_clip(0, 9, 25.0, np.zeros(1, np.int32))
        rows.write_row(0, "rgb", np.ones((1, 1024, 7, 7), np.float32))
    assert features.open_features(file)["d"].done().all() and dataset.damaged_rows("rgb") == {}


def flip(path: Path, offset: int, bits: int = 4) -> None:
    """Turn one bit, or those of `bits`."""
    with path.open("r+b") as file:
        file.seek(offset)
        byte = file.read(1)[0]
        file.seek(offset)
        file.write(bytes([byte ^ bits]))


FUZZ = """
import resource, sys
import numpy as np
from pathlib import Path
from cia_extract import features
from cia_extract.common.errors import DataError

resource.setrlimit(resource.RLIMIT_AS, (4 << 30, 4 << 30))
path, begin, end = Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3])
raw = path.read_bytes()
spoiled = path.with_name("spoiled.h5")
outcomes = {"refused": 0, "opened": 0}
for seed in range(begin, end):
    random = np.random.default_rng(seed)
    data = bytearray(raw)
    metadata = [i for i in range(0, len(data)) if i < 6000 or i > len(data) - 6000]
    for _ in range(random.integers(1, 6)):
        place = int(random.choice(metadata))
        data[place] = int(random.integers(256))
    if seed % 5 == 0:
        del data[int(random.integers(len(data))):]
    spoiled.write_bytes(data)
    try:
        for dataset in features.open_features(spoiled).values():
            for modality in dataset.modalities:
                dataset.damaged_rows(modality)
            dataset.digest()
        outcomes["opened"] += 1
    except DataError:
        outcomes["refused"] += 1
    except BaseException as error:
        sys.exit(f"seed {seed}: {type(error).__name__}: {error}")
print(outcomes)
"""


def fuzz(path: Path, begin: int, end: int) -> str:
    done = subprocess.run(
        [sys.executable, "-c", FUZZ, str(path), str(begin), str(end)], capture_output=True, text=True, timeout=900
    )
    assert done.returncode == 0, f"{done.returncode}: {done.stderr[-500:]}"
    return done.stdout


def test_changed_bytes_end_in_a_line_and_never_in_a_crash(file):
    """In a process of its own: what libhdf5 does with damaged metadata must not take the run with it."""
    assert "refused" in fuzz(file, 0, 150)


@pytest.mark.slow
def test_many_changed_bytes_end_in_a_line_and_never_in_a_crash(file):
    assert "refused" in fuzz(file, 150, 4000)


def test_a_journal_of_unknown_origin_changes_nothing(file):
    before = file.read_bytes()
    random = np.random.default_rng(0)
    header = journal._HEADER
    hostile = [
        b"",
        b"CIAJRNL1",
        random.bytes(200),
        header.pack(b"CIAJRNL1", 1 << 60, 1, 0),
        journal_of(1 << 60, [(0, b"x")]),
        journal_of(len(before), [(1 << 61, b"x")]),
        journal_of(len(before), [(0, b"x" * 10)], count=1 << 40),
        journal_of(10, [(100, b"x")]),
    ]
    for content in hostile:
        journal.journal_path(file).write_bytes(content)
        with pytest.raises((CiaError, OSError)):
            journal.recover(file)
        assert file.read_bytes() == before
        journal.journal_path(file).unlink()


def journal_of(size: int, ranges: list[tuple[int, bytes]], count: int | None = None) -> bytes:
    import google_crc32c

    body = b"".join(journal._RANGE.pack(offset, len(content)) + content for offset, content in ranges)
    return journal._HEADER.pack(b"CIAJRNL1", size, len(ranges) if count is None else count, google_crc32c.value(body)) + body


def test_a_status_that_means_nothing_is_refused_and_the_message_says_which_one(file):
    """A row with it was neither done nor failed nor reported."""
    with h5py.File(file, "r+") as opened:
        opened["d/status"][1, 0] = 7
    with pytest.raises(DataError, match=r"/d/status is 7 in row 1, column 0; it knows 0 to do, 1 done, 2 failed"):
        features.open_features(file)


def test_two_datasets_on_the_same_bytes_are_refused(file):
    """`verify --redo`, or filling one, would change the other."""
    with h5py.File(file, "r+") as opened:
        opened["e"] = opened["d"]
    with pytest.raises(DataError, match=r"/d/.* and /e/.* lie over each other"):
        features.open_features(file)


def test_a_file_that_goes_or_shrinks_after_it_was_opened_is_a_data_error(file):
    dataset = features.open_features(file)["d"]
    with file.open("r+b") as opened:
        opened.truncate(2000)
    for read in (dataset.done, dataset.digest, lambda: dataset.damaged_rows("rgb")):
        with pytest.raises(DataError, match=f"{file}: was removed or became shorter"):
            read()
    with file.open("rb") as opened, pytest.raises(DataError, match=f"{file}: the file became shorter while it was read; get it"):
        dataset.row(1, "rgb", opened.fileno())
    file.unlink()
    with pytest.raises(DataError, match=f"{file}: was removed or became shorter"):
        dataset.done()


@pytest.mark.parametrize("name", ["x" * 300, "f.h5/inside.h5"])
def test_a_path_that_cannot_exist_is_one_line(file, name):
    with pytest.raises(DataError, match=r"File name too long|Not a directory"):
        features.open_features(file.parent / name)


@pytest.mark.parametrize("kind", ["pipe", "folder", "a terabyte of zeros", "a terabyte with a header"])
def test_a_journal_that_cannot_be_read_whole_is_refused_at_once(file, kind):
    place, before = journal.journal_path(file), file.read_bytes()
    if kind == "pipe":
        os.mkfifo(place)
    elif kind == "folder":
        place.mkdir()
    else:
        with place.open("wb") as opened:
            if kind == "a terabyte with a header":
                opened.write(journal._HEADER.pack(b"CIAJRNL1", len(before), 3, 0))
            opened.truncate(1 << 40)
    with pytest.raises(OSError, match=r"journal: damaged; the feature file beside it is as it was before, delete the journal"):
        journal.recover(file)
    assert file.read_bytes() == before
