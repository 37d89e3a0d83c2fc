"""A run's files are what was written: one bit that flips is found by whatever reads the file, and by coreutils."""

import json
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cia_adapt.cli import main
from cia_adapt.experiments import runner
from cia_adapt.runs import files, load_run, state
from cia_extract.common.errors import CiaError, DataError
from safetensors.torch import save_file

from tests.adapt.runs.test_resume import folder_of, request
from tests.adapt.runs_of import copied
from tests.command_line import in_this_process

READERS: dict[str, Callable[[Path], Any]] = {
    "config.json": files.read_config,
    "result.json": files.read,
    "stamp.json": files.read_stamp,
    "metrics.jsonl": files.read_metrics,
    "predictions.csv": files.read_predictions,
    "scores.safetensors": files.load_scores,
    "last.safetensors": lambda run: files.load_model(run, "last"),
    "selected.safetensors": lambda run: files.load_model(run, "selected"),
    "state.safetensors": lambda run: state.load(run / "state.safetensors"),
}


@pytest.fixture(scope="module")
def trained(small_file, tmp_path_factory) -> Path:
    root = tmp_path_factory.mktemp("trained")
    runner.run(request(small_file, root), print)
    return root


@pytest.fixture
def run(trained, tmp_path) -> Path:
    shutil.copytree(trained, tmp_path / "runs")
    return folder_of(tmp_path / "runs")


def flip(path: Path, at: int) -> None:
    content = bytearray(path.read_bytes())
    content[at] ^= 1
    path.write_bytes(content)


def test_all_files_of_a_run_have_a_reader_here(run):
    assert {path.name for path in run.iterdir()} == {*READERS, "done"}


@pytest.mark.parametrize("name", READERS)
@pytest.mark.parametrize("share", [0.5, 0.99])
def test_a_flipped_bit_is_found(run, name, share):
    READERS[name](run)
    flip(run / name, int(share * (run / name).stat().st_size))
    with pytest.raises(DataError, match=rf"{name}: .*(it was changed after it was written|not a state|damaged)"):
        READERS[name](run)


def test_a_digit_that_flips_in_a_result_is_found(run):
    """Its file is as good JSON as before: nothing but the checksum can tell."""
    path = run / "result.json"
    at = path.read_bytes().index(b'"seed": 0') + len('"seed": ')
    flip(path, at)
    shown = in_this_process(main, "table", run)
    assert shown.returncode == 3 and f"{path}: cannot be read (its SHA-256 is not the one in done" in shown.stderr


def test_coreutils_check_a_run(run):
    if shutil.which("sha256sum") is None:
        pytest.skip("no sha256sum here")
    check = ["sha256sum", "--check", "--quiet", "done"]
    assert subprocess.run(check, cwd=run).returncode == 0
    flip(run / "last.safetensors", -1)
    found = subprocess.run(check, cwd=run, capture_output=True, text=True)
    assert found.returncode == 1 and found.stdout == "last.safetensors: FAILED\n"


@pytest.mark.parametrize("list_of_sums", ["x\n", "\udcff", "0" * 100_000])
def test_a_damaged_list_of_checksums_is_one_line(run, list_of_sums):
    (run / "done").write_text(list_of_sums, errors="surrogateescape")
    with pytest.raises(CiaError) as error:
        load_run(run)
    assert error.value.exit_code == 3


def test_a_run_of_a_version_before_has_none(trained, tmp_path):
    run = folder_of(copied(trained, tmp_path / "runs"))
    before = (run / "last.safetensors").read_bytes()
    flip(run / "last.safetensors", -1)
    assert files.load_model(run, "last").keys() == files.load_model(folder_of(trained), "last").keys()
    assert (run / "last.safetensors").read_bytes() != before


def test_a_state_of_a_version_before_has_none(run):
    path = run / "state.safetensors"
    tensors, rest = state.load(path)
    save_file(tensors, path, metadata={"state": json.dumps(rest)})
    assert state.load(path)[1] == rest
