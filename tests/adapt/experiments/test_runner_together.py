"""Two processes that torchrun starts, each with a disk of its own: both do as the first one's runs say, and none hangs."""

import shutil
import subprocess
import sys
from pathlib import Path

import h5py
import pytest
from cia_adapt.runs import files

LAUNCHER = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "--no-python"]
ON_OWN_DISK = ["sh", "-c", 'cd "$0$RANK" && exec "$@"']
COMMAND = [
    *(str(Path(sys.executable).with_name("cia-adapt")), "--features", "feats.h5", "--setup", "demo", "--method", "dann"),
    *("--source", "here", "--target", "there", "--device", "cpu"),
]
RUN = "runs/demo/dann/here-there/seed0"


@pytest.fixture(scope="module")
def begun(small_file, tmp_path_factory) -> Path:
    """A folder for each process with one feature file; the first has a finished run of two epochs."""
    folder = tmp_path_factory.mktemp("disks")
    for number in range(2):
        (folder / f"disk{number}").mkdir()
        shutil.copyfile(small_file, folder / f"disk{number}/feats.h5")
    done = subprocess.run([*COMMAND, "--epochs", "2"], cwd=folder / "disk0", capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.fixture
def disks(begun, tmp_path) -> Path:
    shutil.copytree(begun, tmp_path, dirs_exist_ok=True)
    return tmp_path


def on_two(disks: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    command = [*LAUNCHER, *ON_OWN_DISK, str(disks / "disk"), *COMMAND, *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300)


@pytest.mark.slow
def test_the_state_that_the_first_process_has_is_that_of_all(disks):
    before = files.read_metrics(disks / "disk0" / RUN)
    done = on_two(disks, "--epochs", "3", "--resume")
    assert done.returncode == 0 and done.stderr.count("goes on after epoch 2") == 1, done.stderr
    after = files.read_metrics(disks / "disk0" / RUN)
    assert len(before) == 2 and len(after) == 3 and after[:2] == before
    assert not (disks / "disk1/runs").exists()


@pytest.mark.slow
def test_a_run_that_the_first_process_has_finished_is_not_trained(disks):
    done = on_two(disks, "--epochs", "2")
    assert done.returncode == 0 and done.stderr.count("finished before, read") == 1, done.stderr
    assert not (disks / "disk1/runs").exists()


@pytest.mark.slow
def test_what_the_first_process_refuses_all_refuse(disks):
    done = on_two(disks, "--epochs", "2", "--lr", "0.5")
    assert done.returncode and done.stderr.count("holds a run with other settings (setup.lr: ") == 2, done.stderr


@pytest.mark.slow
def test_other_features_on_another_disk_are_refused_by_all(disks):
    with h5py.File(disks / "disk1/feats.h5", "r+") as file:
        labels = next(group for group in file.values())["clips/label"]
        labels[0] = labels[-1]
    done = on_two(disks, "--epochs", "2", "--overwrite")
    assert done.returncode and done.stderr.count("do not all read the same features, frames and first weights") == 2, done.stderr
