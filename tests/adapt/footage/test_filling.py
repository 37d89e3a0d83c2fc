"""The frame cache: nothing is decoded twice, nothing of another recipe is read, no row is torn."""

import os
import shutil
from dataclasses import replace

import numpy as np
import pytest
from cia_adapt.footage import filling, store
from cia_adapt.footage.dataset import Footage, opened
from cia_extract.common.errors import DataError, MismatchError, UsageError

from tests.adapt.clips_of import PICTURES


@pytest.fixture
def copy(tiny_clips, tmp_path):
    """The tiny clips' folder with its cache, to be changed."""
    shutil.copytree(tiny_clips.parent, tmp_path / "clips")
    return tmp_path / "clips" / tiny_clips.name


def cached(path, pictures=PICTURES, say=print, root=None):
    (dataset,) = opened(Footage((str(path),), root, path.parent / "cache", (), "dis", 1), pictures, say)
    return dataset


@pytest.fixture
def decoded(monkeypatch):
    """The rows whose clips were given to workers, in order."""
    rows = []

    def counting(jobs, workers):
        jobs = list(jobs)
        rows.extend((row, job.modalities) for row, job in jobs)
        return real(iter(jobs), workers)

    real = filling.prepared_clips
    monkeypatch.setattr(filling, "prepared_clips", counting)
    return rows


def test_what_is_cached_is_not_decoded_again(copy, decoded):
    before = cached(copy)
    assert decoded == [] and before.done().all()
    assert np.array(before.array("rgb/frames")).std() > 10 and before.array("flow/frames").shape == (24, 4, 2, 32, 40)


def test_only_rows_that_are_not_marked_are_decoded(copy, decoded):
    before = cached(copy)
    held = np.array(before.array("flow/frames"))
    marks = np.load(copy.parent / "cache/tiny/flow.state.npy", mmap_mode="r+")
    marks[3] = 0
    marks.flush()
    assert before.done().tolist() == [row != 3 for row in range(24)]
    again = cached(copy)
    assert decoded == [(3, ("flow",))] and again.done().all() and (np.array(again.array("flow/frames")) == held).all()


def test_a_row_that_was_being_written_is_not_marked(copy, monkeypatch):
    files = store.Store(copy.parent / "cache/tiny", "rgb")
    marks = np.load(files.marks, mmap_mode="r+")
    marks[:] = 0
    marks.flush()

    def killed(file):
        raise KeyboardInterrupt

    monkeypatch.setattr(os, "fsync", killed)
    with pytest.raises(KeyboardInterrupt), files.writer() as writer:
        writer.write(5, np.full(PICTURES.shape("rgb"), 7, np.uint8))
    assert (files.map()[5] == 7).all() and not files.states().any()


def test_a_cache_of_another_recipe_is_refused(copy):
    with pytest.raises(MismatchError, match=r"rgb\.npy: holds frames of another recipe \(width: 40 → 36\); delete that folder"):
        cached(copy, replace(PICTURES, width=36))
    with pytest.raises(MismatchError, match=r"flow\.npy.*recipe\.flow\.algorithm: dis → tvl1"):
        cached(copy, replace(PICTURES, flow="tvl1"))


def test_a_cache_of_other_clips_is_refused_and_labels_may_change(copy):
    digest = cached(copy).digest()
    text = copy.read_text()
    copy.write_text(text.replace(",down,", ",fall,"))
    assert cached(copy).digest() != digest
    copy.write_text(text.replace("day-down-0,day-down-0", "day-down-0,day-down-1"))
    with pytest.raises(MismatchError, match="holds the frames of other clips"):
        cached(copy)


def test_a_clip_that_cannot_be_read_is_left_out_and_tried_again(copy, decoded):
    shutil.rmtree(copy.parent / "cache")
    hidden = copy.parent / "day-down-1"
    hidden.rename(copy.parent / "away")
    said = []
    assert cached(copy, say=said.append).done().tolist() == [row != 1 for row in range(24)]
    assert len(said) == 1 and said[0].startswith("failed: day-down-1: ")
    (copy.parent / "away").rename(hidden)
    decoded.clear()
    assert cached(copy).done().all() and decoded == [(1, ("rgb", "flow"))]


def test_a_wrong_root_is_told(copy, tmp_path):
    shutil.rmtree(copy.parent / "cache")
    with pytest.raises(DataError, match=r"no clip of it can be read.*--root"):
        cached(copy, root=tmp_path / "nowhere")


def test_a_file_that_became_shorter_is_an_error(copy):
    os.truncate(copy.parent / "cache/tiny/rgb.npy", 10_000)
    with pytest.raises(DataError, match=r"rgb\.npy: is no array of frames, or was cut short"):
        cached(copy).array("rgb/frames")


def test_frames_without_room_are_refused_before_decoding(copy, monkeypatch, decoded):
    shutil.rmtree(copy.parent / "cache")
    monkeypatch.setattr(filling.shutil, "disk_usage", lambda folder: type("Usage", (), {"free": 1000}))
    with pytest.raises(UsageError, match=r"the frames need 0\.0 GB more, and 0\.0 GB are free"):
        cached(copy)
    assert not decoded
