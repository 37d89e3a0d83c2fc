"""A frame cache that is damaged, or somebody else's: one line, and no wrong frame is trained on."""

import json
import os
import shutil

import numpy as np
import pytest
from cia_adapt.data import Stores
from cia_adapt.footage import Footage, opened
from cia_adapt.footage.store import Store
from cia_extract.common.errors import CiaError, DataError, UsageError

from tests.adapt.clips_of import PICTURES
from tests.adapt.runs_of import CPU


@pytest.fixture
def copy(tiny_clips, tmp_path):
    """The tiny clips' manifest, with their frames in the folder `cache/tiny` beside it, to be changed."""
    shutil.copytree(tiny_clips.parent, tmp_path / "clips")
    return tmp_path / "clips" / tiny_clips.name


def cached(path):
    (dataset,) = opened(Footage((str(path),), None, path.parent / "cache", (), "dis", 1), PICTURES, print)
    return dataset


def replaced(name, content):
    def change(folder):
        (folder / name).unlink()
        (folder / name).write_bytes(content)

    return change


def saved(name, array):
    def change(folder):
        (folder / name).unlink()
        np.save(folder / name, array(np.load(folder / name.replace("flow", "rgb"))), allow_pickle=True)

    return change


def about(**fields):
    def change(folder):
        path = folder / "rgb.json"
        path.write_text(json.dumps(json.loads(path.read_text()) | fields))

    return change


def piped(name):
    def change(folder):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


DAMAGE = {
    "a description that is no text": replaced("rgb.json", b"\xff\xfe\0"),
    "a description nested without end": replaced("rgb.json", b"[" * 60_000),
    "a description that is a list": replaced("rgb.json", b"[]"),
    "a recipe that is a number": about(pictures=3),
    "a recipe of nothing": about(pictures={"recipe": [1], "x\x1b[2J": {}}),
    "clips that are a list": about(clips=[1]),
    "no frames": replaced("rgb.npy", b""),
    "frames that are a zip": replaced("rgb.npy", b"PK\3\4" + bytes(100)),
    "frames behind a pipe": piped("rgb.npy"),
    "marks behind a pipe": piped("flow.state.npy"),
    "frames of fewer clips": saved("flow.npy", lambda a: a[:3]),
    "frames of another type": saved("flow.npy", lambda a: a[..., :2].astype(np.float32)),
    "frames in another order": saved("flow.npy", lambda a: np.asfortranarray(a[..., :2])),
    "frames that are objects": saved("flow.npy", lambda _: np.array([{}], object)),
    "marks of another type": saved("flow.state.npy", lambda a: a.astype(float)),
    "marks of two axes": saved("flow.state.npy", lambda a: a[:, None]),
    "a header of 2⁶² frames": replaced("rgb.npy", b"\x93NUMPY\1\0\x76\0" + (
        b"{'descr': '|u1', 'fortran_order': False, 'shape': (4611686018427387904, 4611686018427387904), }").ljust(0x76) + b"\n"),
}  # fmt: skip


@pytest.mark.parametrize("damage", DAMAGE)
def test_a_cache_that_is_not_what_it_should_be_is_one_line(copy, damage):
    DAMAGE[damage](copy.parent / "cache/tiny")
    with pytest.raises(CiaError, match=r"delete that folder, or give another --frame-cache$") as error:
        cached(copy)
    assert str(error.value).isprintable() and error.value.exit_code in (3, 4)


def test_a_description_that_is_a_pipe_or_a_broken_link_is_made_anew(copy):
    digest = cached(copy).digest()
    path = copy.parent / "cache/tiny/rgb.json"
    for make in (os.mkfifo, lambda path: path.symlink_to("nowhere")):
        path.unlink()
        make(path)
        assert cached(copy).digest() == digest and path.is_file() and not path.is_symlink()


def link(path, target):
    """Move what lies at `path` to `target`, and link to it from `path`."""
    path.rename(target)
    path.symlink_to(target)


@pytest.mark.parametrize("name", ["rgb.npy", "flow.state.npy"])
@pytest.mark.parametrize("described", [True, False])
def test_an_array_that_is_a_link_is_refused_and_what_it_leads_to_kept(copy, tmp_path, name, described):
    folder, mine = copy.parent / "cache/tiny", tmp_path / "mine.npy"
    marks = np.load(folder / "rgb.state.npy")
    np.save(folder / "rgb.state.npy", np.zeros_like(marks))  # every row is to do
    link(folder / name, mine)
    before = mine.read_bytes()
    if not described:
        (folder / "rgb.json").unlink()
    with pytest.raises(UsageError, match=rf"tiny/{name}: is a link; remove it, or give another --frame-cache$"):
        cached(copy)
    assert mine.read_bytes() == before and (folder / name).is_symlink()


def test_a_dataset_folder_that_is_a_link_is_refused_and_nothing_in_it_changed(copy, tmp_path):
    folder, mine = copy.parent / "cache/tiny", tmp_path / "mine"
    link(folder, mine)
    (mine / "rgb.json").unlink()  # an rgb.npy of somebody's own
    (mine / "lock").unlink(missing_ok=True)
    before = {path.name: path.read_bytes() for path in mine.iterdir()}
    with pytest.raises(UsageError, match=r"cache/tiny: is a link; remove it, or give another --frame-cache$"):
        cached(copy)
    assert {path.name: path.read_bytes() for path in mine.iterdir()} == before


def test_rows_are_not_written_through_an_array_that_has_become_a_link(copy, tmp_path):
    folder = copy.parent / "cache/tiny"
    link(folder / "rgb.npy", tmp_path / "mine.npy")
    with pytest.raises(OSError, match="symbolic links"), Store(folder, "rgb").writer():
        pass


@pytest.mark.parametrize("tier", ["map", "ram"])
def test_a_flipped_bit_in_a_frame_stops_training_with_the_clips_name(copy, tier):
    dataset, row = cached(copy), 5
    place = copy.parent / "cache/tiny/rgb.npy"
    with place.open("r+b") as file:
        file.seek(-1 - (len(dataset) - 1 - row) * dataset.array("rgb/frames")[0].size, os.SEEK_END)
        byte = file.read(1)[0]
        file.seek(-1, os.SEEK_CUR)
        file.write(bytes([byte ^ 4]))
    with pytest.raises(DataError, match=rf"rgb\.npy: {dataset.columns['clip'][row]}: does not match its CRC32C; delete .*tiny"):
        fill(dataset, tier)


def test_frames_that_become_fewer_during_training_are_one_line(copy):
    dataset = cached(copy)
    stores = Stores(CPU, "map")
    reader = stores.reader(dataset, "rgb/frames", np.arange(len(dataset)))
    os.truncate(copy.parent / "cache/tiny/rgb.npy", 5000)
    with pytest.raises(DataError, match=r"rgb\.npy: became shorter while it was read"):
        fill(dataset, "map", reader)


def fill(dataset, tier, reader=None):
    """Read two batches of all clips, as training does."""
    rows, frames = np.arange(len(dataset)), np.zeros((len(dataset), 1), np.int64)
    reader = reader or Stores(CPU, tier).reader(dataset, "rgb/frames", rows)
    import torch

    out = torch.empty(len(dataset), 32, 40, 3, dtype=torch.uint8)
    for _ in range(2):
        reader.fill(out, rows, frames)
    return out
