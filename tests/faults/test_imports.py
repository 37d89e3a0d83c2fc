"""Several imports into one file, and imports and merges that were killed: nothing that was reported as done is lost."""

import subprocess
import sys
import time

import numpy as np
import pytest
from cia_adapt.data import importing
from cia_extract import features
from cia_extract.common.errors import InWorkError

from tests.faults.jobs import finished_rows

LOCKED = """
import sys
import time
from pathlib import Path
from cia_extract.common import locks
with locks.alone(Path(sys.argv[1]), "busy"):
    print("locked", flush=True)
    sys.stdin.read()
"""
IMPORT = "from cia_adapt.cli import main; main()"
CLIPS = 300  # enough that two imports overlap


@pytest.fixture
def folder(tmp_path):
    lines = [f"c{index},c{index},{'ab'[index % 2]},train" for index in range(CLIPS)]
    (tmp_path / "m.csv").write_text("\n".join(["clip,path,label,split", *lines]) + "\n")
    np.savez(tmp_path / "v.npz", clip=np.array([f"c{index}" for index in range(CLIPS)]), rgb=np.ones((CLIPS, 64), np.float32))
    return tmp_path


def test_imports_into_one_file_at_one_time_lose_none(folder):
    """Each ends well and its dataset is there, or says that another is at work, in one line."""
    importing.import_features([folder / "v.npz"], folder / "m.csv", "first", None, None, folder / "o.h5")
    names = ["a", "b", "c"]
    words = [sys.executable, "-c", IMPORT, "import", "v.npz", "--manifest", "m.csv", "--out", "o.h5", "--dataset"]
    started = [subprocess.Popen([*words, name], cwd=folder, stderr=subprocess.PIPE, text=True) for name in names]
    told = {name: (one.communicate()[1], one.returncode) for name, one in zip(names, started, strict=True)}
    assert {code for _, code in told.values()} <= {0, 4} and 0 in {code for _, code in told.values()}, told
    there = set(features.open_features(folder / "o.h5"))
    assert there == {"first", *(name for name, (_, code) in told.items() if code == 0)}, told
    assert all("another process is importing into it" in said for said, code in told.values() if code), told
    assert not list(folder.glob(".*")), "neither lock nor part is left"


def test_an_import_beside_another_ends_and_says_so(folder):
    lock = folder / ".o.h5.lock"
    with subprocess.Popen(
        [sys.executable, "-c", LOCKED, lock], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "locked\n"
        with pytest.raises(InWorkError, match=r"o\.h5: another process is importing into it; run the same command again"):
            importing.import_features([folder / "v.npz"], folder / "m.csv", "late", None, None, folder / "o.h5")
        assert not (folder / "o.h5").exists()
        other.kill()
    (folder / ".o.h5.0a1b2c3d.part").write_bytes(b"left by a kill")
    (folder / ".o.h5.mine.part").write_bytes(b"somebody's own")
    importing.import_features([folder / "v.npz"], folder / "m.csv", "late", None, None, folder / "o.h5")
    assert list(features.open_features(folder / "o.h5")) == ["late"]
    assert [path.name for path in folder.glob(".*")] == [".o.h5.mine.part"]


@pytest.mark.parametrize("times", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_an_import_that_is_killed_leaves_the_datasets_that_were_there_and_the_same_one_ends(folder, launcher, chance, times):
    command = ["cia-adapt", "import", folder / "v.npz", "--manifest", folder / "m.csv", "--out", folder / "o.h5", "--dataset"]
    began = time.monotonic()
    assert launcher.run(*command, "first").wait() == 0
    took = time.monotonic() - began
    for turn in range(times):
        started = launcher.start(*command, f"d{turn}")
        time.sleep(chance.uniform(0, took))
        started.kill()
        there = features.open_features(folder / "o.h5")
        assert "first" in there and not any(dataset.damaged_rows("rgb") for dataset in there.values())
    last = launcher.run(*command, "last")
    assert last.wait() == 0, last.told
    assert {"first", "last"} <= set(features.open_features(folder / "o.h5"))
    assert not list(folder.glob(".*")), "what the killed ones left is gone"


@pytest.mark.parametrize("times", [2, pytest.param(12, marks=pytest.mark.slow)])
def test_a_merge_that_is_killed_goes_on_to_the_same_rows(whole, launcher, chance, tmp_path, times):
    command = ["cia-extract", "merge", whole[0].path, "--out", tmp_path / "m.h5"]
    began = time.monotonic()
    assert launcher.run(*command[:-1], tmp_path / "undisturbed.h5").wait() == 0
    took = time.monotonic() - began
    for _ in range(times):
        started = launcher.start(*command)
        time.sleep(chance.uniform(0, took))
        started.kill()
    last = launcher.run(*command)
    assert last.wait() == 0, last.told
    assert finished_rows(tmp_path / "m.h5", whole[0]) == finished_rows(tmp_path / "undisturbed.h5", whole[0])
    assert not list(tmp_path.glob(".m.h5*")), "no claim and no part is left"
