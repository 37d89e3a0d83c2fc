"""Full and read-only disks; files removed, cut, changed in a byte: one line, the right exit code, nothing lost.

A full disk is a small tmpfs where this user may mount one, which is root; else these tests are skipped, and say so.
"""

import contextlib
import os
import random
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from cia_adapt.runs import files, folder, state
from cia_extract import features
from cia_extract.common.errors import DataError

from tests.adapt import clips_of
from tests.adapt.cli.test_application import cia_adapt
from tests.conftest import make_dataset
from tests.extract.cli.test_application import cia_extract
from tests.extract.weight_files import save_tbn
from tests.faults.jobs import EVERY_EPOCH, RUN, assert_same, assert_same_run, extraction, finished_rows, training

FULL = "No space left on device"


class Disk:
    """A small file system of its own."""

    def __init__(self, place: Path, kilobytes: int) -> None:
        self.place = place
        place.mkdir()
        command = ["mount", "-t", "tmpfs", "-o", f"size={kilobytes}k", "tmpfs", str(place)]
        mounted = subprocess.run(command, capture_output=True, text=True)
        if mounted.returncode:
            pytest.skip(f"no small disk can be mounted here, which takes root: {mounted.stderr.strip()}")

    def fill(self) -> None:
        """Use what room is left."""
        with (self.place / "filler").open("wb", buffering=0) as file, contextlib.suppress(OSError):
            while file.write(bytes(4096)):
                pass

    def make_room(self) -> None:
        (self.place / "filler").unlink()

    def read_only(self) -> None:
        subprocess.run(["mount", "-o", "remount,ro", str(self.place)], check=True)

    def writable(self) -> None:
        subprocess.run(["mount", "-o", "remount,rw", str(self.place)], check=True)

    def names(self) -> list[str]:
        """What is in it, hidden files too."""
        return sorted(str(path.relative_to(self.place)) for path in self.place.rglob("*"))


SEARCHED = ["--setup", "demo", "--method", "concat", "--source", "here", "--epochs", 1, "--trials", 1, "--batch", 6]


@pytest.fixture
def disk(tmp_path) -> Iterator[Callable[[int], Disk]]:
    """Mounts a disk of so many kilobytes."""
    mounted: list[Disk] = []

    def mount(kilobytes: int) -> Disk:
        mounted.append(Disk(tmp_path / f"disk{len(mounted)}", kilobytes))
        return mounted[-1]

    yield mount
    for one in mounted:
        subprocess.run(["umount", "-l", str(one.place)], check=True)


def one_line(told: str, *words: str) -> None:
    """The last line has these words, and there is no traceback."""
    last = told.rstrip().splitlines()[-1]
    assert all(word in last for word in words) and "Traceback" not in told, told


def test_extraction_on_a_disk_that_fills_up_loses_nothing_and_goes_on_when_there_is_room(root, whole, launcher, disk):
    small = disk(4000)
    out = small.place / "f.h5"
    started = launcher.start(*extraction(root, out))
    assert started.until(lambda: finished_rows(out, whole[0]))
    small.fill()
    assert started.wait() == 2, started.told
    one_line(started.told, str(out), "the disk is full; finished clips are safe, make room and run the same command again")
    done = finished_rows(out, whole[0])
    again = launcher.run(*extraction(root, out))  # there is no room yet
    assert again.wait() == 2 and finished_rows(out, whole[0]) >= done
    small.make_room()
    last = launcher.run(*extraction(root, out))
    assert last.wait() == 0, last.told
    assert_same(out, whole[0])


LIMITED = "import resource; resource.setrlimit(resource.RLIMIT_FSIZE, ({size}, {size}))\n"


@pytest.mark.parametrize("size", [20_000, pytest.param(600_000, marks=pytest.mark.slow)])
def test_a_limit_on_the_size_of_files_is_one_line_and_the_same_command_goes_on_without_it(root, whole, launcher, tmp_path, size):
    """A quota, as it were: while the layout is written, and in the midst of rows."""
    out = tmp_path / "f.h5"
    stopped = launcher.run(*extraction(root, out), before=LIMITED.format(size=size))
    assert stopped.wait() == 2, stopped.told
    one_line(stopped.told, str(out), "File too large")
    again = launcher.run(*extraction(root, out))
    assert again.wait() == 0, again.told
    assert_same(out, whole[0])


def test_a_state_that_cannot_be_written_is_one_line_and_the_state_before_stays(tmp_path):
    script = """
import resource, sys, torch
from pathlib import Path
from cia_adapt.runs import state
from cia_extract.common import writes
from cia_extract.common.errors import UsageError
path = Path(sys.argv[1])
state.save(path, {"x": torch.ones(4)}, {"history": [1]})
resource.setrlimit(resource.RLIMIT_FSIZE, (20000, 20000))
try:
    with writes.translated("runs", "make room"):
        state.save(path, {"x": torch.ones(100000)}, {"history": [1, 2]})
except UsageError as error:
    print("one line:", error)
print([p.name for p in path.parent.iterdir()], state.load(path)[1])
"""
    path = tmp_path / "s/state.safetensors"
    path.parent.mkdir()
    done = subprocess.run([sys.executable, "-c", script, str(path)], capture_output=True, text=True)
    assert "one line: runs: " in done.stdout and "make room" in done.stdout, done
    assert "['state.safetensors'] {'history': [1]}" in done.stdout


def test_a_disk_without_room_for_the_features_is_said_before_anything_is_made(root, launcher, disk):
    small = disk(200)
    refused = launcher.run(*extraction(root, small.place / "f.h5"))
    assert refused.wait() == 2 and small.names() == []
    one_line(refused.told, "needs 0.00 GB and 0.00 GB are free; make room or choose another --out")


@pytest.mark.parametrize("fault", ["fill", "read_only"])
def test_a_flow_cache_that_cannot_be_written_costs_the_cache_alone(root, whole, launcher, disk, tmp_path, fault):
    cache = disk(100)
    getattr(cache, fault)()
    (tmp_path / "out").mkdir()
    run = launcher.run(*extraction(root, tmp_path / "out/f.h5"), "--flow-cache", cache.place)
    assert run.wait() == 0, run.told
    why = FULL if fault == "fill" else "Read-only file system"
    assert run.told.count(f"--flow-cache {cache.place}: {why}; the flow of this clip is not cached") == 1, run.told
    assert_same(tmp_path / "out/f.h5", whole[0])
    assert not [name for name in cache.names() if name.endswith(("part", "npz"))]


@pytest.mark.parametrize("how_much", ["some", pytest.param("all", marks=pytest.mark.slow)])
def test_everything_on_a_read_only_disk_is_read_and_nothing_can_be_written(
    root, whole, small_file, trained, launcher, disk, tmp_path, how_much
):
    data = disk(40_000)
    shutil.copytree(root, data.place / "clips")
    shutil.copytree(trained / "1", data.place / "runs")
    shutil.copy(small_file, data.place / "small.h5")
    feats = Path(shutil.copy(whole[0].path, data.place / "feats.h5"))
    data.read_only()
    before = data.names()
    read: list[list[object]] = [
        ["cia-extract", "merge", feats, "--out", tmp_path / "merged.h5"],
        ["cia-adapt", "table", data.place / "runs"],
        training(data.place / "small.h5", tmp_path / "runs", 1),
        ["cia-extract", "info", feats],
        ["cia-extract", "verify", feats],
        extraction(data.place / "clips", tmp_path / "other.h5"),
        ["cia-adapt", "report", data.place / "runs", "--out", tmp_path / "r.html"],
    ]
    for words in read[: None if how_much == "all" else 3]:
        run = launcher.run(*words)
        assert run.wait() == 0, run.told
    written: list[list[object]] = [
        [*extraction(root, data.place / "new.h5")],
        [*training(small_file, data.place / "runs", 2)],
        ["cia-extract", "merge", tmp_path / "merged.h5", "--out", data.place / "new.h5"],
        ["cia-adapt", "table", trained / "1", "--out", data.place / "t.md"],
        [*extraction(root, feats), "--overwrite"],
        ["cia-adapt", "report", trained / "1", "--out", data.place / "r.html"],
        ["cia-adapt", "predict", trained / "1" / RUN, "--out", data.place / "scores.csv"],
        ["cia-adapt", "figure", "tsne", trained / "1" / RUN, "--out", data.place / "tsne.png"],
        ["cia-adapt", "search", *SEARCHED, "--features", small_file, "--runs", data.place / "searches"],
    ]
    for words in written[: None if how_much == "all" else 4]:
        run = launcher.run(*words)
        assert run.wait() == 2, run.told
        one_line(run.told, str(data.place))
    assert data.names() == before


def test_training_on_a_disk_that_fills_up_keeps_what_was_saved_and_goes_on_when_there_is_room(
    small_file, trained, launcher, disk
):  # fmt: skip
    small = disk(60_000)
    runs = small.place / "runs"
    started = launcher.start(*training(small_file, runs, 8), before=EVERY_EPOCH)
    kept = folder.unfinished_folder(runs / RUN) / "state.safetensors"
    assert started.until(kept.exists)
    small.fill()
    assert started.wait() == 2, started.told
    assert started.told.count("note: training goes on, its state is not saved") == 1, started.told
    one_line(started.told, RUN, FULL, "make room or choose another --runs folder")
    history = state.load(kept)[1]["history"]
    assert history == files.read_metrics(trained / "8" / RUN)[: len(history)]
    assert not [name for name in small.names() if "part" in name], small.names()
    small.make_room()
    again = launcher.run(*training(small_file, runs, 8))
    assert again.wait() == 0 and "goes on after epoch" in again.told, again.told
    assert_same_run(runs, trained / "8")


def test_what_is_written_beside_runs_stays_as_it_was_on_a_full_disk(trained, whole, small_file, root, disk, tmp_path):
    """Reports, tables, merged features and searches."""
    small = disk(6000)
    commands = {
        "r.html": (cia_adapt, "report", trained / "1", "--out", small.place / "r.html"),
        "t.md": (cia_adapt, "table", trained / "1", "--format", "markdown", "--out", small.place / "t.md"),
    }
    for command, *words in commands.values():
        assert command(*words).returncode == 0
    commands |= {
        "merged.h5": (cia_extract, "merge", whole[0].path, "--out", small.place / "merged.h5"),
        "searches": (cia_adapt, "search", *SEARCHED, "--features", small_file, "--runs", small.place / "searches"),
    }
    before = {name: (small.place / name).read_bytes() for name in ("r.html", "t.md")}
    small.fill()
    for name, (command, *words) in commands.items():
        run = command(*words, cwd=tmp_path)
        assert run.returncode == 2, (name, run.stderr)
        one_line(run.stderr, str(small.place / name))
    sweep = [
        "sweep",
        "--features",
        small_file,
        "--setup",
        "demo",
        "--method",
        "concat",
        "--seeds",
        1,
        "--epochs",
        1,
        "--batch",
        6,
    ]
    swept = cia_adapt(*sweep, "--runs", small.place / "runs")
    assert swept.returncode == 2 and swept.stderr.count(FULL) == 2, swept.stderr
    assert {name: (small.place / name).read_bytes() for name in before} == before
    assert not [name for name in small.names() if "part" in name], small.names()
    small.make_room()
    for name, (command, *words) in commands.items():
        run = command(*words, cwd=tmp_path)
        assert run.returncode == 0, (name, run.stderr)
    assert cia_adapt(*sweep, "--runs", small.place / "runs").returncode == 0


@pytest.mark.parametrize(
    "name", ["scores.csv", *(pytest.param(n, marks=pytest.mark.slow) for n in ("scores.h5", "tsne.png", "gradcam.pdf"))]
)
def test_scores_and_figures_stay_as_they_were_on_a_full_disk(trained, small_file, launcher, disk, name):
    small = disk(6000)
    out, run = small.place / name, trained / "1" / RUN
    words = ["predict", run, "--features", small_file] if name.startswith("scores") else ["figure", Path(name).stem, run]
    command = ["cia-adapt", *words, "--out", out]
    first = launcher.run(*command)
    assert first.wait() == 0, first.told
    before, files_before = out.read_bytes(), small.names()
    small.fill()
    refused = launcher.run(*command)
    assert refused.wait() == 2, refused.told
    one_line(refused.told, f"--out {out}: {FULL}; choose another file")
    assert out.read_bytes() == before
    small.make_room()
    assert small.names() == files_before


@pytest.mark.parametrize("room", [0, 300])
def test_weights_on_a_full_disk_are_one_line_and_leave_no_part(launcher, disk, tmp_path, room):
    """Without any room, and where it ends in the midst of the copy."""
    source = save_tbn(tmp_path / "TBN-epic-kitchens-55.pth")
    small = disk(room or 100)
    if not room:
        small.fill()
    words = ["cia-extract", "weights", "get", "tbn-epic-55", "--from", source]
    refused = launcher.run(*words, environment={"CIA_CACHE": str(small.place)})
    assert refused.wait() == 2, refused.told
    one_line(refused.told, str(small.place), FULL)
    assert not [name for name in small.names() if name not in {"filler"} and not name.endswith(".lock")], small.names()


# The room is counted before the first clip is decoded; this lets another process take it after that.
TAKEN = """
import os
from cia_adapt.footage.store import Writer
write, written = Writer.write, []
def and_fill(self, row, pixels):
    written.append(row)
    if len(written) == 5:
        with open({filler!r}, "wb", buffering=0) as file:
            try:
                while file.write(bytes(4096)): pass
            except OSError: pass
    write(self, row, pixels)
Writer.write = and_fill
"""


@pytest.mark.parametrize("when", [pytest.param("before", marks=pytest.mark.slow), "meanwhile"])
def test_a_frame_cache_on_a_full_disk_is_one_line_and_goes_on_when_there_is_room(launcher, disk, tmp_path, when):
    clips = clips_of.render(tmp_path / "clips")
    small = disk(3000)
    cache = small.place / "cache"
    tiny = [word for name, value in clips_of.TINY.items() for word in (f"--{name.replace('_', '-')}", value)]
    words = ["cia-adapt", "--clips", clips, "--setup", "demo-i3d", "--method", "concat", "--source", "day", "--target", "night"]
    words += ["--flow", "dis", "--workers", 1, "--weights", "random", "--seeds", 1, *tiny]
    words += ["--frame-cache", cache, "--runs", tmp_path / "runs"]
    if when == "before":
        small.fill()
    hook = TAKEN.format(filler=str(small.place / "filler")) if when == "meanwhile" else ""
    stopped = launcher.run(*words, before=hook)
    assert stopped.wait() == 2, stopped.told
    one_line(stopped.told, str(cache), *([FULL] if when == "meanwhile" else []), "make room")
    small.make_room()
    again = launcher.run(*words)
    assert again.wait() == 0, again.told


@pytest.mark.parametrize("fault", ["removed", "cut", "replaced"])
def test_a_feature_file_that_changes_under_extraction_is_one_line(root, whole, launcher, tmp_path, fault):
    out = tmp_path / "f.h5"
    started = launcher.start(*extraction(root, out))
    assert started.until(lambda: finished_rows(out, whole[0]))
    if fault == "cut":
        os.truncate(out, 3000)
    elif fault == "removed":
        out.unlink()
    else:
        shutil.copy(whole[0].path, tmp_path / "other.h5")
        (tmp_path / "other.h5").rename(out)
    assert started.wait() == 3, (started.wait(), started.told)
    one_line(started.told, str(out))


BETWEEN_EPOCHS = """
import os
from cia_adapt.training import Trainer
epoch, begun = Trainer.epoch, []
def and_then(self):
    begun.append(1)
    if len(begun) == 3: {fault}
    return epoch(self)
Trainer.epoch = and_then
"""


@pytest.mark.parametrize(("fault", "tier"), [("cut", "map"), ("removed", "map"), ("cut", "ram")])
def test_a_feature_file_that_changes_under_training_is_one_line_or_no_matter(feature_file, launcher, tmp_path, fault, tier):
    """What is in memory, or open, is trained to its end; from a file that was cut nothing can be read any more."""
    file = Path(shutil.copy(feature_file, tmp_path / "f.h5"))
    change = f"os.truncate({str(file)!r}, 3000)" if fault == "cut" else f"os.unlink({str(file)!r})"
    words = ["cia-adapt", "--features", file, "--setup", "demo", "--method", "cia", "--source", "here", "--tier", tier]
    words += ["--batch", 6, "--epochs", 4, "--set", "sc.embedding=16", "--runs", tmp_path / "runs"]
    run = launcher.run(*words, before=BETWEEN_EPOCHS.format(fault=change))
    if (fault, tier) == ("cut", "map"):
        assert run.wait() == 3, run.told
        one_line(run.told, str(file), "became shorter")
    else:
        assert run.wait() == 0, run.told


@pytest.fixture(scope="module")
def two_domains(tmp_path_factory) -> Path:
    path = tmp_path_factory.mktemp("flipped") / "f.h5"
    for seed, name in enumerate(("here", "there")):
        make_dataset(path, name, seed, clips_per_class=3, frames=2)
    return path


CHECKED = ["rgb/maps", "flow/pooled", "crc32c", "vectors_crc32c", "clips/indices", "clips/n_frames", "clip_crc32c"]
CHECKED += ["outcome", "message", "ledger_crc32c"]


@pytest.mark.parametrize("name", CHECKED)
def test_one_flipped_byte_is_found_by_verify_and_before_it_trains(two_domains, tmp_path, name):
    file = Path(shutil.copy(two_domains, tmp_path / "f.h5"))
    region = features.open_features(file)["here"].regions[name]
    row, chance = 4, random.Random(name)
    _flip(file, region.row_offset(row) + chance.randrange(region.row_bytes), 1 << chance.randrange(8))
    run = cia_extract("verify", file)
    assert run.returncode == 3 and "here4: " in run.stdout and "CRC32C" in run.stdout, run
    one_line(run.stderr, str(file), "rows are damaged; add --redo, then run the command that made the file")
    if not name.startswith(("clip", "vectors", "outcome", "message", "ledger")):  # what training on maps reads
        words = [
            "--features",
            file,
            "--setup",
            "demo",
            "--method",
            "cia",
            "--set",
            "sc.embedding=16",
            "--epochs",
            1,
            "--batch",
            4,
        ]
        trained = cia_adapt(*words, "--runs", tmp_path / "runs")
        assert trained.returncode == 3, trained.stderr
        one_line(trained.stderr, str(file), "here4: ", "does not match its CRC32C; reset it with cia-extract verify --redo")
        checked = cia_adapt("check", file)
        assert checked.returncode == 3 and "here4" in checked.stdout, checked
    assert cia_extract("verify", file, "--redo").returncode == 0
    assert cia_extract("verify", file).returncode == 0


def test_an_import_onto_a_full_disk_is_one_line_and_leaves_what_was_there(launcher, disk, tmp_path):
    """Into a new file, and beside a dataset that was imported before; then there is room."""
    clips = [f"c{i}" for i in range(800)]
    rows = "".join(f"{clip},{'ab'[i % 2]},{'val' if i % 5 == 4 else 'train'}\n" for i, clip in enumerate(clips))
    (tmp_path / "m.csv").write_text(f"clip,label,split\n{rows}")
    np.savez(tmp_path / "v.npz", clip=np.array(clips), rgb=np.random.default_rng(0).random((len(clips), 1024), np.float32))
    small = disk(6000)  # kilobytes: room for 3.3 MB of vectors once, not twice
    out = small.place / "f.h5"
    words = ["cia-adapt", "import", tmp_path / "v.npz", "--manifest", tmp_path / "m.csv", "--out", out, "--dataset"]
    (small.place / "half").write_bytes(bytes(4_000_000))
    first = launcher.run(*words, "one")
    assert first.wait() == 2, first.told
    one_line(first.told, str(out), FULL, "make room or choose another --out")
    assert small.names() == ["half"]
    (small.place / "half").unlink()
    assert launcher.run(*words, "one").wait() == 0
    before = out.read_bytes()
    second = launcher.run(*words, "two")
    assert second.wait() == 2, second.told
    one_line(second.told, str(out), FULL)
    assert small.names() == ["f.h5"] and out.read_bytes() == before


def _flip(path: Path, at: int, bits: int) -> None:
    with path.open("r+b") as file:
        file.seek(at)
        byte = file.read(1)[0]
        file.seek(at)
        file.write(bytes([byte ^ bits]))


def test_a_flipped_byte_anywhere_changes_no_number_unseen(tmp_path):
    """Places all over a file: it is refused in one line, found by verify, or no row that is done reads otherwise than before."""
    file = tmp_path / "f.h5"
    for seed, name in enumerate(("here", "there")):
        make_dataset(file, name, seed, clips_per_class=1, frames=1)
    before = features.open_features(file)
    regions = {(name, array): region for name, d in before.items() for array, region in d.regions.items()}
    expected = {(name, array): np.array(before[name].array(array)) for name, array in regions}
    chance = random.Random(16)
    offsets = [region.offset + chance.randrange(region.end - region.offset) for region in regions.values() for _ in range(3)]
    first = min(region.offset for region in regions.values())
    offsets += [chance.randrange(first) for _ in range(40)]  # HDF5's own structures, and the columns
    unseen = []
    for at in offsets:
        bits = 1 << chance.randrange(8)
        _flip(file, at, bits)
        try:
            now = features.open_features(file)
            if not any(dataset.damaged_rows(modality) for dataset in now.values() for modality in dataset.modalities):
                unseen += [(at, *change) for change in _changed(now, before, expected)]
        except DataError as error:
            assert str(error).isprintable()
        _flip(file, at, bits)
    assert not unseen


def _changed(now, before, expected) -> Iterator[tuple[str, str]]:
    """(dataset, what) that reads otherwise in rows that are done."""
    for name, dataset in before.items():
        if name not in now:
            yield name, "gone"
            continue
        if features.differences(now[name].provenance, dataset.provenance):
            yield name, "provenance"
        for column, values in dataset.columns.items():
            if now[name].columns[column].tolist() != values.tolist():
                yield name, column
        done = now[name].done()
        for array in dataset.regions:
            read, held = now[name].array(array)[done], expected[name, array][done]
            if not np.array_equal(read, held, equal_nan=held.dtype.kind == "f"):
                yield name, array
