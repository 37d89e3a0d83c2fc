"""Damaged features stop a training instead of spoiling it, and `check` names them."""

import shutil
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from cia_adapt import cli
from cia_adapt.data import checking
from cia_adapt.data.domains import find_domains
from cia_adapt.data.guard import FeatureGuard, Guard
from cia_adapt.data.readers import Stores
from cia_extract import features
from cia_extract.common.errors import DataError

from tests.command_line import in_this_process

CLIP = 2  # a training clip of both domains


@pytest.fixture
def damaged(feature_file, tmp_path):
    """{array: a copy of the feature file with one bit turned in a training clip of `here`}."""

    def make(name: str, bit: int = 4) -> Path:
        path = tmp_path / "feats.h5"
        shutil.copyfile(feature_file, path)
        region = features.open_features(path)["here"].regions[name]
        with path.open("r+b") as file:
            file.seek(region.row_offset(CLIP) + 1001)
            byte = file.read(1)[0]
            file.seek(-1, 1)
            file.write(bytes([byte ^ bit]))
        return path

    return make


@pytest.mark.parametrize("tier", ["map", "ram"])
@pytest.mark.parametrize("name, method", [("rgb/maps", "max"), ("rgb/pooled", "concat")])
def test_a_flipped_bit_stops_training_with_the_clips_name(damaged, tmp_path, tier, name, method):
    """It used to train: a class loss of 4e34 and an ordinary table."""
    path = damaged(name)
    command = ["--features", path, "--setup", "demo", "--method", method, "--source", "here", "--target", "there"]
    command += ["--epochs", 1, "--batch", 6, "--tier", tier, "--runs", tmp_path / "runs"]
    done = in_this_process(cli.main, *command)
    assert done.returncode == 3
    assert f"{path}: here{CLIP}: rgb does not match its CRC32C; reset it with cia-extract verify --redo" in done.stderr


@pytest.mark.parametrize("name", ["rgb/maps", "flow/pooled"])
def test_check_names_the_clip_of_a_flipped_bit(damaged, name):
    findings = checking.check(damaged(name), [], [])
    faults = [f.message for f in findings if f.severity == "fault"]
    assert [f"{name[: name.index('/')]}: 1 clips do not match their checksums: here{CLIP}" in line for line in faults].count(
        True
    ) == 1


def test_a_row_is_checked_once(feature_file, monkeypatch):
    """The check costs as much as reading the row whole; epochs after the first do without."""
    dataset = features.open_features(feature_file)["here"]
    guard, read = FeatureGuard(dataset, "rgb/maps"), []
    real = features.DatasetFeatures.row
    monkeypatch.setattr(features.DatasetFeatures, "row", lambda self, row, *rest: read.append(row) or real(self, row, *rest))
    guard.check(np.array([3, 5]))
    guard.check(np.array([5, 3, 7]))
    assert read == [3, 5, 7]


def test_files_without_checksums_of_vectors_say_that_vectors_are_not_checked(feature_file, tmp_path):
    path = tmp_path / "old.h5"
    shutil.copyfile(feature_file, path)
    with h5py.File(path, "r+") as file:
        del file["here/vectors_crc32c"]
    stores = Stores(torch.device("cpu"), "map")
    for array in ("rgb/pooled", "rgb/maps"):
        stores.reader(features.open_features(path)["here"], array, np.arange(18))
    assert ["vectors have no checksums" in note for note in stores.notes] == [True, False]


@pytest.mark.parametrize("array", ["rgb/maps", "rgb/pooled"])
def test_a_file_that_became_shorter_while_it_is_read_is_an_error_and_not_a_crash(feature_file, tmp_path, array):
    """Reading a map behind its file's end is SIGBUS, which nothing catches."""
    path = tmp_path / "feats.h5"
    shutil.copyfile(feature_file, path)
    domain = find_domains(path)["here"]
    reader = Stores(torch.device("cpu"), "map").reader(domain.dataset, array, domain.rows)
    rows, frames = np.array([0, 1]), np.array([[0, 1], [2, 3]])
    out = torch.empty((4, *reader.blocks.shape[1:]), dtype=reader.blocks.dtype)
    reader.fill(out, rows, frames)
    with path.open("r+b") as file:
        file.truncate(5000)
    with pytest.raises(DataError, match="became shorter while it was read"):
        reader.fill(out, rows, frames)


def test_a_hundred_thousand_clips_of_which_two_share_an_id_are_checked_in_a_moment(tmp_path):
    """Counting each id among all took 4·10⁹ comparisons for E100's 65,345 clips."""
    path, count = tmp_path / "many.h5", 100_000
    with h5py.File(path, "w") as file:
        file["d/x"] = np.random.default_rng(0).normal(size=(count, 1)).astype(np.float32)
        file["d/clip"] = np.array([f"clip{i}" for i in range(count - 1)] + ["clip0"], "S")
        file["d/label"], file["d/split"] = np.full(count, b"run"), np.array([b"train", b"val"] * (count // 2))
    mapping = [f"d/{name}=d/{name.replace('rgb/pooled', 'x')}" for name in ("rgb/pooled", "clip", "label", "split")]
    domain = find_domains(path, mapping)["d"]
    messages = [finding.message for finding in checking._columns("d", domain)]
    assert messages == ["1 clip ids occur twice: clip0"]


@pytest.mark.parametrize("name", ["clips/indices", "clips/n_frames", "clips/fps"])
def test_check_names_a_clip_whose_frames_are_not_those_that_were_extracted(feature_file, tmp_path, name):
    """`verify` said so and `check` did not: the report would show other frames."""
    path = tmp_path / "feats.h5"
    shutil.copyfile(feature_file, path)
    with path.open("r+b") as file:
        file.seek(features.open_features(path)["here"].regions[name].row_offset(CLIP))
        file.write(b"\x07")
    faults = [f.message for f in checking.check(path, [], []) if f.severity == "fault"]
    assert faults and all(f"1 clips do not match their checksums: here{CLIP};" in line for line in faults)


def test_loading_into_memory_never_touches_a_map_of_a_file_that_became_shorter(feature_file, tmp_path, monkeypatch):
    """Loading takes seconds to minutes: cut meanwhile, a map ends the process with SIGBUS."""
    path = tmp_path / "feats.h5"
    shutil.copyfile(feature_file, path)
    dataset, real = features.open_features(path)["here"], Guard.check

    def cut_after_the_check(guard, rows):
        real(guard, rows)
        with path.open("r+b") as file:
            file.truncate(5000)

    monkeypatch.setattr(Guard, "check", cut_after_the_check)
    with pytest.raises(DataError, match=f"{path}: the file became shorter while it was read"):
        Stores(torch.device("cpu"), "ram").reader(dataset, "rgb/maps", np.arange(18))
