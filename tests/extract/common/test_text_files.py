"""Manifests and official lists as other programs write them: decoded as they declare, else one line that names file and line."""

import csv
import gzip
import io
import os
import random
import time
from pathlib import Path

import pytest
from cia_extract import datasets
from cia_extract.cli import main
from cia_extract.common import text_files
from cia_extract.common.errors import CiaError, DataError
from cia_extract.datasets import expected, manifest

from tests.command_line import in_this_process

GOOD = "clip,path,label,split,start,stop\na,x/a.avi,café,train,,\nb,x/b.avi,jump,val,1.5,3\n"


def write(folder: Path, data: str | bytes) -> Path:
    path = folder / "m.csv"
    path.write_bytes(data if isinstance(data, bytes) else data.encode())
    return path


@pytest.mark.parametrize(
    "data",
    [
        GOOD.encode("utf-8-sig"),
        GOOD.encode("utf-16"),
        b"\xfe\xff" + GOOD.encode("utf-16-be"),
        GOOD.encode("utf-32"),
        GOOD.replace("\n", "\r\n").encode(),
        GOOD.replace("\n", "\r").encode(),
        GOOD.rstrip("\n").encode(),
        GOOD.replace(",", ";").encode(),
        GOOD.replace(",", "\t").encode("utf-16"),
        GOOD.replace("clip,path", ' "clip", path').replace(' "clip"', '"clip"').encode(),
        (GOOD + ",,,,,\n\n").encode(),
    ],
)
def test_a_manifest_of_another_program_keeps_every_label(tmp_path, data):
    columns = manifest.read(write(tmp_path, data)).columns
    assert columns["label"] == ["café", "jump"] and columns["stop"] == ["", "3"] and columns["clip"] == ["a", "b"]


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (GOOD.encode("latin1"), r"m\.csv: .*UTF-8 CSV \(line 2: byte 0xe9"),
        (GOOD.encode("utf-16-le"), "line 2: byte 0xe9"),
        (b"\xff\xfe" + GOOD.encode("utf-16-le")[:-1], "line "),
        (GOOD.replace("jump", "ju\0mp"), "line 3: .*NUL"),
        (GOOD.replace("jump", '"jump'), r"line 3: .*quotes"),
        (GOOD.replace("jump", '"ju\nmp"'), "line 4, column label: .*control"),
        (GOOD.replace("jump", "\x1b[31m"), "line 3, column label: .*control"),
        (GOOD.replace("jump", "j" * 200_000), r"line 3: .*limit"),
        (GOOD.replace("label,", "label,label,"), "line 1, column 'label': appears twice"),
        (GOOD.replace("label", "klass"), "line 1: column label is missing"),
        (GOOD.replace("clip,", "clip,,"), "line 1, column '': cannot"),
        (",".join(f"c{i}" for i in range(1_000_000)), "line 1: 1000000 columns"),
        (gzip.compress(GOOD.encode(), mtime=0), "compressed"),
        (b"PK\x03\x04" + b"x" * 100, "spreadsheet"),
        (bytes(range(256)) * 4, r"m\.csv"),
        ("", "missing"),
        (b"\xef\xbb\xbf", "missing"),
        (GOOD.replace("x/b", "x" * 300), "too long for a path"),
        (GOOD.replace("1.5", "1,5"), "line 3: has 7 cells, but the header has 6 columns"),
        (GOOD.replace(",", ";").replace("1.5", "1,5"), "line 3, column start: '1,5' is not a number of seconds, such as 1.5"),
        (GOOD.replace("1.5", "1e300").replace(",3\n", ",\n"), "line 3, column start: .*not a time"),
    ],
)
def test_an_unreadable_manifest_gives_one_line_that_names_its_line(tmp_path, data, message):
    with pytest.raises(DataError, match=message) as error:
        manifest.read(write(tmp_path, data))
    assert str(error.value).isprintable() and len(str(error.value)) < 500


@pytest.mark.parametrize("domain", ["../x", "/tmp/x", "a\x1b[0mb", "..", "x" * 300, "a\\b"])
def test_a_domain_that_would_name_a_folder_elsewhere_is_refused(tmp_path, domain):
    with pytest.raises(DataError, match="line 2, column domain"):
        manifest.read(write(tmp_path, f"clip,path,label,split,domain\na,a.avi,run,train,{domain}\n"))


def test_a_bad_row_of_ones_own_manifest_is_refused_and_the_others_counted(tmp_path):
    with pytest.raises(DataError, match=r"line 2, column split: empty; .* \(and 1 more bad rows\)$"):
        manifest.read(write(tmp_path, "clip,path,label,split\na,a.avi,run,\nb,b.avi,run,train\nc,,run,train\n"))


EPIC = "uid,video_id,start_frame,stop_frame,verb_class\n"
SEGMENTS = "".join(f"{i},P01_01,{60 * i + 1},{60 * i + 50},1\n" for i in range(1, 9))
E55 = [f"D{i}_{part}.csv" for i in (1, 2, 3) for part in ("train", "test")]


def epic(folder: Path, rows: str = "") -> Path:
    for name in E55:
        number = str(E55.index(name) + 1)
        text = EPIC + "".join(number + line for line in SEGMENTS.splitlines(keepends=True))
        (folder / name).write_text(text + (rows if name == "D2_test.csv" else ""))
    return folder


@pytest.mark.parametrize(
    "row",
    [
        "x,P01_01,300,200,1",
        "x,P01_01,300,300,1",
        "x,P01_01,nan,300,1",
        "x,P01_01,,300,1",
        "x,P01_01,-5,300,1",
        "x,P01_01,soon,300,1",
        "x,P01_01,1,1" + "0" * 400 + ",1",
        "x,,200,300,1",
        "x,P01_01,200,300,99",
        ",P01_01,200,300,1",
        "11,P01_01,200,300,1",
        "x,P01_01,200,300",
        "x,P01_01,200,300,1,1",
    ],
)
def test_one_bad_row_of_an_official_csv_leaves_the_other_clips(tmp_path, row):
    built = datasets.build("e55", Path("nowhere"), epic(tmp_path, row + "\n"))
    assert len(built.manifest) == 48 and len(built.bad) == 1
    assert built.left_out().startswith("1 rows of the official files are left out: ") and built.left_out().isprintable()


def test_a_list_whose_rows_are_mostly_bad_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"D2_test\.csv.*\(9 of 17 rows of D2_test\.csv are like that\)"):
        datasets.build("e55", Path("nowhere"), epic(tmp_path, "x,P01_01,9,8,1\n" * 9))


def test_the_command_writes_the_sound_rows_and_ends_with_code_3(tmp_path):
    line = ["manifest", "--dataset", "e55", "--annotations", epic(tmp_path, "bad,P01_01,9,8,1\n"), "--root", tmp_path]
    run = in_this_process(main, *line, "--out", tmp_path / "m.csv")
    assert run.returncode == 3 and "1 rows of the official files are left out: " in run.stderr and "uid bad" in run.stderr
    assert len(manifest.read(tmp_path / "m.csv")) == 48


def test_half_of_the_rows_may_be_bad_and_no_more():
    def parse(value: int) -> int:
        if value < 0:
            raise DataError("negative")
        return value

    bad: list[str] = []
    assert expected.parse_each(Path("x"), [1, -1, 2, -2], parse, bad) == [1, 2] and bad == ["negative"] * 2
    with pytest.raises(DataError, match="2 of 3"):
        expected.parse_each(Path("x"), [1, -1, -2], parse, bad)


PIECES = [
    b"\0",
    b"\xff",
    b'"',
    b",",
    b"\n",
    b"\r",
    b";",
    b"-1",
    b"nan",
    b"1e999",
    b"\xef\xbb\xbf",
    b"../",
    b"\x1b[2J",
    b"9" * 5000,
]


def mutated(data: bytes, chance: random.Random) -> bytes:
    """A file with a few bytes replaced, pieces put in, or parts cut out or doubled."""
    for _ in range(chance.randint(1, 4)):
        at, to = sorted(chance.choices(range(len(data) + 1), k=2))
        change = chance.randrange(4)
        to = min(to, at + 40) if change < 3 else to
        piece = chance.choice([*PIECES, bytes([chance.randrange(256)]), b""])
        data = data[:at] + (data[at:to] * 2 if change == 2 else piece) + data[(at if change == 1 else to) :]
    return data


def fuzz(folder: Path, count: int, seed: int) -> None:
    chance, began = random.Random(seed), time.monotonic()
    read, refused = 0, 0
    (folder / "ucf").mkdir()
    lists = {"trainlist01.txt": b"", "testlist01.txt": b""}
    for name in lists:
        lists[name] = "".join(f"Biking/v_Biking_g{i:02}_c01.avi {i}\n" for i in range(1, 9) if name[1] == "r" or i < 5).encode()
    lists["testlist01.txt"] = lists["testlist01.txt"].replace(b"c01", b"c02")
    epic(folder)
    for _ in range(count):
        part = chance.randrange(3)
        try:
            if part == 0:
                rows = manifest.read(write(folder, mutated(GOOD.encode(), chance)))
            elif part == 1:
                for name, data in lists.items():
                    (folder / "ucf" / name).write_bytes(mutated(data, chance))
                rows = datasets.build("ucf", Path("nowhere"), folder / "ucf").manifest
            else:
                name, content = E55[0], (folder / E55[1]).read_bytes().replace(b"\n2", b"\n1")
                (folder / name).write_bytes(mutated(content, chance))
                rows = datasets.build("e55", Path("nowhere"), folder).manifest
            assert all(clip.isprintable() or "\xa0" in clip or clip.strip() for clip in rows.columns["clip"])
            assert all(0 <= (rows.seconds(i)[0] or 0) < 1e7 for i in range(len(rows)))
            read += 1
        except CiaError as error:
            assert "\n" not in str(error) and len(str(error)) < 2000
            refused += 1
    assert read > count / 20 and refused > count / 20 and time.monotonic() - began < 10 + count / 20


def test_damaged_lists_and_manifests_give_rows_or_one_line(tmp_path):
    fuzz(tmp_path, 300, seed=11)


@pytest.mark.slow
def test_many_damaged_lists_and_manifests_give_rows_or_one_line(tmp_path):
    fuzz(tmp_path, 20_000, seed=12)


def test_a_file_that_says_it_is_empty_is_refused_before_it_fills_the_memory(monkeypatch):
    monkeypatch.setattr(text_files, "MOST_BYTES", 100)
    assert Path("/proc/self/status").stat().st_size == 0
    with pytest.raises(DataError, match="/proc/self/status: is larger than 1 GiB, so it is no manifest; write one"):
        text_files.read_text(Path("/proc/self/status"), "manifest", "write one")


def test_a_pipe_or_device_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "m.csv")  # as `<(…)` in a shell is one
    for path in (tmp_path / "m.csv", Path("/dev/zero")):
        with pytest.raises(DataError, match=rf"{path}: is a pipe or a device, not a file; write its text to a file, and name"):
            text_files.read_text(path, "manifest", "write one")


def test_a_line_of_commas_without_end_is_refused_before_its_cells_are_made(monkeypatch):
    monkeypatch.setattr(text_files, "LONGEST_LINE", 50)
    text = "clip,label\n" + "," * 51
    with pytest.raises(DataError, match=r"m\.csv, line 2: is longer than 50 characters, so it is no manifest; write one"):
        list(text_files.table(Path("m.csv"), text, "manifest", "write one"))


@pytest.mark.parametrize(
    "text", ["a,b\nc,d", "a,b\r\nc,d\r\n", "a,b\rc,d\r\r", '"a\r\nb",c\x0b\x85\u2028\nd,"e\nf\n"', "\n\na,b\n\r\n", ""]
)
def test_lines_end_where_those_of_a_text_file_do(text):
    expected = [
        (reader.line_num, cells) for reader in [csv.reader(io.StringIO(text, newline=""))] for cells in reader if any(cells)
    ]
    assert list(text_files.table(Path("m.csv"), text, "manifest", "write one")) == expected
