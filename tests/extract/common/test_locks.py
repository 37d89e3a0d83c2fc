"""Lock files that somebody else's folder holds: nothing that they lead to is emptied or made."""

import errno
import fcntl
import os
import subprocess
import sys

import pytest
from cia_adapt.footage import Footage, opened
from cia_adapt.runs import lock
from cia_extract.common import locks
from cia_extract.common.errors import UsageError
from cia_extract.features import open_features, to_fill
from cia_extract.features.claims import Claims

from tests.adapt.clips_of import PICTURES, render
from tests.conftest import make_dataset


def test_a_lock_file_keeps_what_it_holds(tmp_path):
    (tmp_path / "lock").write_text("dear")
    locks.opened(tmp_path / "lock").close()
    assert (tmp_path / "lock").read_text() == "dear"
    locks.opened(tmp_path / "new").close()
    assert (tmp_path / "new").read_bytes() == b""


def of_a_run(folder):
    (folder / ".seed0.unfinished").mkdir()
    return folder / ".seed0.unfinished/lock", lambda: lock.claimed(folder / "seed0").__enter__()


def of_an_unfinished_run(folder):
    (folder / "away").mkdir()
    return folder / ".seed0.unfinished", lambda: lock.claimed(folder / "seed0").__enter__()


def of_rows(folder):
    return folder / ".f.h5.d.rows", lambda: Claims(folder / "f.h5", "d")


def of_frames(folder):
    path = render(folder / "clips")
    (folder / "cache/tiny").mkdir(parents=True)
    footage = Footage((str(path),), None, folder / "cache", (), "dis", 1)
    return folder / "cache/tiny/lock", lambda: opened(footage, PICTURES, print)


@pytest.mark.parametrize("lead", [of_a_run, of_an_unfinished_run, of_rows, of_frames])
@pytest.mark.parametrize("target", ["dear", "missing", "away"])
def test_a_lock_that_is_a_link_is_refused_and_what_it_leads_to_stays(tmp_path, lead, target):
    (tmp_path / "dear").write_text("dear")
    link, claim = lead(tmp_path)
    link.symlink_to(tmp_path / target)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError) as error:
        claim()
    assert "\n" not in str(error.value)
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "dear").read_text() == "dear"


def test_windows_is_told_in_one_line_that_it_lacks_the_locks():
    code = "import sys; sys.platform = 'win32'; import cia_adapt"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert done.returncode == 1 and done.stderr.splitlines()[-1].endswith("on Windows install them in WSL 2")


@pytest.mark.parametrize("answer", [errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP])
def test_a_feature_file_where_there_are_no_locks_is_filled_with_a_warning(tmp_path, monkeypatch, answer):
    """As on Lustre that is mounted without flock, which cannot be had here: only the two calls answer as it does."""

    def refused(*_):
        raise OSError(answer, os.strerror(answer))

    monkeypatch.setattr(fcntl, "flock", refused)
    monkeypatch.setattr(fcntl, "lockf", refused)
    dataset = make_dataset(tmp_path / "f.h5", "d", 1, clips_per_class=1, frames=1)
    warnings: list[str] = []
    with to_fill(dataset, warnings.append) as (claims, _):
        assert claims.take(0) and claims.take(1)
    (said,) = warnings
    assert said == f"{tmp_path}: no file locks here ({os.strerror(answer)}); start one process at a time, or use --shard"
    assert open_features(tmp_path / "f.h5")["d"].done().all()
    with locks.alone(tmp_path / "lock", "busy"):
        pass
    assert not (tmp_path / "lock").exists()
