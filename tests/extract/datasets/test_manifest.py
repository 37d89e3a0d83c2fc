import subprocess
import sys

import pytest
from cia_extract.common.errors import DataError, UsageError
from cia_extract.datasets import class_folders, manifest

GOOD = "clip,path,label,split,start,stop,weather\na,x/a.avi,run,train,,,sunny\nb,x/b.avi,jump,val,1.5,3,\n"


def write(tmp_path, text, encoding="utf-8"):
    path = tmp_path / "m.csv"
    path.write_bytes(text.encode(encoding))
    return path


def test_read_keeps_unknown_columns(tmp_path):
    read = manifest.read(write(tmp_path, GOOD))
    assert len(read) == 2
    assert read.columns["weather"] == ["sunny", ""]
    assert read.seconds(0) == (None, None) and read.seconds(1) == (1.5, 3.0)
    assert read.path(1, tmp_path) == tmp_path / "x/b.avi"


def test_round_trip_and_digest(tmp_path):
    read = manifest.read(write(tmp_path, GOOD))
    read.write(tmp_path / "copy.csv")
    assert manifest.read(tmp_path / "copy.csv").columns == read.columns
    assert manifest.read(tmp_path / "copy.csv").sha256() == read.sha256()
    assert manifest.read(write(tmp_path, GOOD.replace("jump", "run"))).sha256() != read.sha256()


def test_windows_line_ends_and_byte_order_mark_do_not_matter(tmp_path):
    plain = manifest.read(write(tmp_path, GOOD)).sha256()
    assert manifest.read(write(tmp_path, GOOD.replace("\n", "\r\n"), "utf-8-sig")).sha256() == plain


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("a,y.avi,run,train,,,", r"m\.csv, line 4, column clip: 'a' is in line 2 already"),
        (",y.avi,run,train,,,", "line 4, column clip: empty"),
        ("c,../y.avi,run,train,,,", "line 4, column path: .* leaves the root"),
        ("c,/etc/passwd,run,train,,,", "line 4, column path: .* leaves the root"),
        ("c,x/../../y.avi,run,train,,,", "line 4, column path: .* leaves the root"),
        ("c,,run,train,,,", "line 4, column path: empty"),
        ("c,y.avi,run,,,,", "line 4, column split: empty"),
        ("c,y.avi,run,train,soon,,", "line 4, column start: 'soon' is not a number"),
        ("c,y.avi,run,train,-1,,", "line 4, column start"),
        ("c,y.avi,run,train,nan,,", "line 4, column start"),
        ("c,y.avi,run,train,3,2,", "line 4, column stop: 2 is not after start 3"),
        ("c,y.avi,run", "line 4: has 3 cells, but the header has 7 columns"),
    ],
)
def test_errors_name_file_line_and_column(tmp_path, line, message):
    with pytest.raises(DataError, match=message):
        manifest.read(write(tmp_path, GOOD + line + "\n"))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("clip,path,label\na,b,c\n", "line 1: column split is missing"),
        ("clip,path,label,split,label\na,b,c,d,e\n", "line 1, column 'label': appears twice"),
        ("clip,path,label,split,fps\na,b,c,d,e\n", "cannot be used"),
        ("clip,path,label,split\n", "no clips"),
        ("", "is missing"),
    ],
)
def test_errors_of_the_whole_file(tmp_path, text, message):
    with pytest.raises(DataError, match=message):
        manifest.read(write(tmp_path, text))


def test_a_manifest_that_is_missing_or_not_utf8(tmp_path):
    with pytest.raises(DataError, match="UTF-8"):
        manifest.read(write(tmp_path, GOOD.replace("sunny", "ü"), "latin-1"))
    with pytest.raises(DataError, match="no such manifest"):
        manifest.read(tmp_path / "none.csv")


def touch(root, *names):
    for name in names:
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).touch()


def test_from_class_folders(tmp_path):
    touch(tmp_path, "run/a.avi", "run/b.mp4", "jump/a.AVI", "jump/notes.txt", ".hidden/x.avi")
    rows = class_folders.read(tmp_path).manifest
    assert rows.columns["clip"] == ["jump/a", "run/a", "run/b"]  # equal stems in two classes stay apart
    assert rows.columns["label"] == ["jump", "run", "run"]
    assert set(rows.columns["split"]) == {"train"}


def test_from_split_and_class_folders(tmp_path):
    touch(tmp_path, "train/run/a.avi", "validation/run/b.avi", "test/jump/deep/c.avi")
    rows = class_folders.read(tmp_path).manifest
    assert dict(zip(rows.columns["path"], rows.columns["split"], strict=True)) == {
        "test/jump/deep/c.avi": "test", "train/run/a.avi": "train", "validation/run/b.avi": "val",
    }  # fmt: skip
    assert set(rows.columns["label"]) == {"run", "jump"}


def test_clips_that_differ_in_their_suffix_only_keep_it(tmp_path):
    touch(tmp_path, "run/a.avi", "run/a.mp4", "run/b.avi")
    assert class_folders.read(tmp_path).manifest.columns["clip"] == ["run/a.avi", "run/a.mp4", "run/b"]


def test_every_nth_clip_of_a_class_for_validation(tmp_path):
    touch(tmp_path, *(f"{c}/{i}.avi" for c in ("run", "jump") for i in range(6)))
    rows = class_folders.read(tmp_path, val_every=3).manifest
    assert [s for s, c in zip(rows.columns["split"], rows.columns["label"], strict=True) if c == "run"] == [
        "train", "train", "val", "train", "train", "val",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("files", "message"), [((), "no video"), (("a.avi",), "lies in no class folder"), (("x/notes.txt",), "no video")]
)
def test_folders_without_class_folders_are_refused(tmp_path, files, message):
    touch(tmp_path, *files)
    with pytest.raises(UsageError, match=message):
        class_folders.read(tmp_path)
    with pytest.raises(UsageError, match="no such folder"):
        class_folders.read(tmp_path / "nowhere")


PEAK = """
import sys
from pathlib import Path
from cia_extract.common.errors import DataError
from cia_extract.datasets import manifest
def peak_mb():
    return next(int(line.split()[1]) for line in open("/proc/self/status") if line.startswith("VmHWM")) / 1024
before = peak_mb()
try:
    print(len(manifest.read(Path(sys.argv[1]))), end=" ")
except DataError as error:
    print(str(error).count("more bad rows"), end=" ")
print(peak_mb() - before)
"""


@pytest.mark.parametrize(("columns", "rows", "expected"), [(1000, 4000, 4000), (4, 200_000, 1)])
def test_reading_takes_little_more_memory_than_the_cells(tmp_path, columns, rows, expected):
    """Empty columns, and rows that are all bad: each took more than 100 MB."""
    path = write(tmp_path, "")
    with path.open("w") as file:
        file.write(",".join(["clip", "path", "label", "split", *(f"c{i}" for i in range(columns - 4))]) + "\n")
        start = "{0},{0},a,train" if columns > 4 else "{0},,,"
        file.writelines(start.format(i) + "," * (columns - 4) + "\n" for i in range(rows))
    read, more_mb = subprocess.check_output([sys.executable, "-c", PEAK, path], text=True).split()
    assert int(read) == expected and float(more_mb) < 80, more_mb


def test_more_cells_than_the_memory_should_take_are_refused_at_their_line(tmp_path, monkeypatch):
    monkeypatch.setattr(manifest, "MOST_CELLS", 8)
    rows = ["clip,path,label,split\n", "a,a,x,train\n", "b,b,x,train\n", "c,c,x,train\n"]
    assert len(manifest.read(write(tmp_path, "".join(rows[:3])))) == 2
    with pytest.raises(DataError, match=r"line 4: more than 8 cells .* split it into several manifests"):
        manifest.read(write(tmp_path, "".join(rows)))
