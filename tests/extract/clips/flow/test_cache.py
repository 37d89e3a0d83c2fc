"""The flow cache: what was saved comes back; what is damaged, or somebody's trap, is computed anew."""

import os
import time
import zipfile
from pathlib import Path

import numpy as np
import pytest
from cia_extract import recipes
from cia_extract.clips import ClipJob
from cia_extract.clips.flow import cache

from tests.hostile import peak_mb

CROP = recipes.load("kinetics").picture.crop
FLOWS = np.arange(3 * CROP * CROP * 2, dtype=np.int64).astype(np.uint8).reshape(3, CROP, CROP, 2)


@pytest.fixture
def job(tmp_path) -> ClipJob:
    (tmp_path / "clip.avi").write_bytes(b"film")
    return ClipJob(tmp_path / "clip.avi", ("flow",), recipes.load("kinetics"), flow_cache=tmp_path / "cache")


def test_what_was_saved_comes_back(job):
    assert cache.load(job.flow_cache, job) == {}
    assert cache.save(job.flow_cache, job, dict(zip((4, 2, 9), FLOWS, strict=True))) == ""
    held = cache.load(job.flow_cache, job)
    assert list(held) == [2, 4, 9]
    np.testing.assert_array_equal(np.stack([held[4], held[2], held[9]]), FLOWS)


def test_what_killed_processes_left_goes_and_what_others_write_stays(job):
    cache.save(job.flow_cache, job, dict(enumerate(FLOWS)))
    (kept,) = job.flow_cache.rglob("*.npz")
    left, written, strange = (kept.with_name(name) for name in (f".{kept.name}.0a.part", f".{kept.name}.0b.part", ".other.part"))
    for file, age_s in ((left, 700), (written, 60), (strange, 700), (kept, 700)):
        file.touch()
        os.utime(file, times=(time.time() - age_s,) * 2)
    cache.tidy(job.flow_cache)
    assert sorted(kept.parent.iterdir()) == sorted([written, strange, kept])
    cache.tidy(job.flow_cache / "never made")


def saved(**arrays):
    return lambda path: np.savez(path.open("wb"), **arrays)


def packed(compression, flag=0):
    """A sound file under another compression, or with a bit of its entries' flags set: 1 says that a password is needed."""

    def write(path):
        saved(indices=np.arange(3, dtype=np.int32), flows=FLOWS)(path)
        contents = {info.filename: zipfile.ZipFile(path).read(info) for info in zipfile.ZipFile(path).infolist()}
        with zipfile.ZipFile(path, "w", compression) as archive:
            for name, content in contents.items():
                archive.writestr(name, content)
        data = bytearray(path.read_bytes())
        for mark, at in ((b"PK\3\4", 6), (b"PK\1\2", 8)):
            place = data.find(mark)
            while flag and place >= 0:
                data[place + at] |= flag
                place = data.find(mark, place + 1)
        path.write_bytes(data)

    return write


def bomb(path: Path) -> None:
    """8 GB of flow that does not move, as 8 MB."""
    count = 8 * (1 << 30) // (CROP * CROP * 2)
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        with archive.open("indices.npy", "w") as entry:
            np.lib.format.write_array(entry, np.arange(count, dtype=np.int32))
        with archive.open("flows.npy", "w", force_zip64=True) as entry:
            np.lib.format.write_array_header_1_0(entry, {"descr": "|u1", "fortran_order": False, "shape": (count, CROP, CROP, 2)})
            entry.write(bytes(1 << 20))
    data = path.read_bytes()  # the directory says that all is there
    size = (1 << 20) + 128
    path.write_bytes(data.replace(size.to_bytes(4, "little"), (0xFFFF0000).to_bytes(4, "little")))


TRAPS = {
    "an array in no archive": lambda path: np.save(path.open("wb"), FLOWS),
    "other arrays": saved(x=FLOWS),
    "flow of another size": saved(indices=np.arange(3, dtype=np.int32), flows=FLOWS[:, 1:]),
    "flow of another type": saved(indices=np.arange(3, dtype=np.int32), flows=FLOWS.astype(np.float32)),
    "fewer flows than numbers": saved(indices=np.arange(4, dtype=np.int32), flows=FLOWS),
    "numbers that are text": saved(indices=np.array(["a", "b", "c"]), flows=FLOWS),
    "numbers of two axes": saved(indices=np.zeros((3, 1), np.int32), flows=FLOWS),
    "objects": lambda path: np.savez(path.open("wb"), indices=np.array([{}], object), flows=FLOWS),
    "a password": packed(zipfile.ZIP_DEFLATED, flag=1),
    "a compression that numpy does not use": packed(zipfile.ZIP_LZMA),
    "8 GB in a few bytes": bomb,
    "a pipe": os.mkfifo,
    "a folder": Path.mkdir,
    "nothing": Path.touch,
}  # fmt: skip


@pytest.mark.parametrize("trap", TRAPS)
def test_a_file_that_is_none_of_ours_is_not_read(job, trap):
    path = cache.path_of(job.flow_cache, job)
    path.parent.mkdir(parents=True)
    TRAPS[trap](path)
    before = peak_mb()
    assert cache.load(job.flow_cache, job) == {}
    assert peak_mb() - before < 100
