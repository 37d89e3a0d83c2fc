"""An `--out` that cannot hold features is refused before anything is decoded, rendered or written."""

import os
from pathlib import Path

import pytest
from cia_extract.cli import main
from cia_extract.common.errors import UsageError
from cia_extract.features import writer

from tests.command_line import in_this_process
from tests.conftest import RECIPE
from tests.privileges import bound_by_permissions

DEMO = ["--dataset", "demo", "--backbone", "tbn", "--weights", "random", "--frames", 2]


@pytest.fixture
def places(tmp_path):
    """{what lies at --out: its path}."""
    (tmp_path / "clips").mkdir()
    (tmp_path / "notes.txt").write_text("mine")
    os.mkfifo(tmp_path / "pipe")
    return {
        "a folder": tmp_path / "clips",
        "a pipe": tmp_path / "pipe",
        "a device": "/dev/null",
        "below a file": tmp_path / "notes.txt" / "feats.h5",
        "a name too long": tmp_path / ("x" * 300),
    }


REASONS = {
    "a folder": "is a folder; name a file in it, for example",
    "a pipe": "is a pipe or a device",
    "a device": "is a pipe or a device",
    "below a file": "is a file, not a folder; choose another path",
    "a name too long": "File name too long; choose another path",
}


@pytest.mark.parametrize("dry_run", [True, False])
@pytest.mark.parametrize("kind", REASONS)
def test_an_out_that_holds_no_file_is_a_usage_error_before_clips_are_rendered(places, monkeypatch, kind, dry_run):
    """It was "no such file; make it with cia-extract --out clips", or a dry run that promised to work."""
    from cia_extract.datasets import sources

    monkeypatch.setattr(sources, "find", lambda *_, **__: pytest.fail("the demo was rendered for nothing"))
    done = in_this_process(main, *DEMO, "--out", places[kind], *(["--dry-run"] if dry_run else []))
    assert done.returncode == 2 and f"--out {places[kind]}: " in done.stderr and REASONS[kind] in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("kind", REASONS)
def test_prepare_refuses_it_too_and_leaves_it_as_it_was(places, tmp_path, kind):
    columns = {"clip": ["a"], "path": ["a"], "label": ["x"], "split": ["train"]}
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(UsageError, match=REASONS[kind]):
        writer.begin_or_continue(Path(places[kind]), "d", columns, RECIPE, tmp_path, overwrite=True)
    assert sorted(tmp_path.rglob("*")) == before and (tmp_path / "notes.txt").read_text() == "mine"


def test_new_folders_on_the_way_are_no_fault(tmp_path):
    writer.check_out(tmp_path / "new" / "folders" / "feats.h5")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("closed", ["folder", "file"])
def test_what_this_user_may_not_write_is_said_at_once(tmp_path, closed):
    path = tmp_path / "feats.h5"
    path.touch()
    (tmp_path if closed == "folder" else path).chmod(0o555 if closed == "folder" else 0o400)

    def refused() -> None:
        with pytest.raises(UsageError, match="no file can be made in" if closed == "folder" else "may not be read and written"):
            writer.check_out(path)

    try:
        bound_by_permissions(refused)
    finally:
        tmp_path.chmod(0o755)
