"""The maps of figures and report lie over the frames that the features describe, however the clip was read."""

import os
import signal
from pathlib import Path

import numpy as np
import pytest
from cia_adapt.results.figures import frames
from cia_extract import recipes
from cia_extract.clips import job, preparation
from cia_extract.common.errors import CiaError, DataError
from cia_extract.datasets import manifest
from cia_extract.features import writer
from cia_extract.features.reader import DatasetFeatures
from PIL import Image

from tests.conftest import RECIPE
from tests.extract.clips.test_video import encode


def frames_of(stored: DatasetFeatures, row: int, root: Path | None, indices: list[int]) -> list[np.ndarray]:
    """In this process, which is quicker; the last tests have the workers that figures and report use."""
    return list(frames.see(frames.job_of(stored, row, root, indices), lambda: None).windows["rgb"].images)


def dataset(root: Path, recipe: recipes.Recipe, **row: str) -> DatasetFeatures:
    """A feature file of one clip of this recipe, without features."""
    columns = {name: [value] for name, value in ({"clip": "c", "label": "x", "split": "val"} | row).items()}
    stored = RECIPE | {"frames": recipe.sampling.frames, "preprocessing": recipe.knobs(("rgb", "flow"))}
    return writer.begin_or_continue(root / "f.h5", "d", columns, stored, root, overwrite=False)


def greys(images: list[np.ndarray]) -> list[int]:
    """Frame t of `encode`'s videos has grey 8·t."""
    assert all(image.shape == (224, 224, 3) for image in images)
    return [round(float(image.mean()) / 8) for image in images]


def test_a_recipe_with_a_rate_shows_the_frames_of_that_rate(tmp_path):
    """At 5 a second, index k shows the last frame whose time rounds to k/5 s, as ffmpeg -r does: frame 5k + 2 of 25 a second."""
    encode(tmp_path / "a.mp4", 25)
    stored = dataset(tmp_path, recipes.load("kinetics", {"sampling.rate": 5.0}), path="a.mp4")
    assert greys(frames_of(stored, 0, None, [0, 2, 4, 3, 3])) == [2, 12, 22, 17, 17]


def test_a_manifests_rate_goes_before_the_recipes(tmp_path):
    encode(tmp_path / "a.mp4", 25)
    stored = dataset(tmp_path, recipes.load("kinetics", {"sampling.rate": 5.0}), path="a.mp4", rate="50")
    assert greys(frames_of(stored, 0, None, [0, 20, 48])) == [0, 10, 24]


def test_a_clip_cut_from_a_video_shows_its_own_frames(tmp_path):
    encode(tmp_path / "a.mp4", 25)
    stored = dataset(tmp_path, recipes.load("kinetics"), path="a.mp4", start="0.4", stop="0.8")
    assert greys(frames_of(stored, 0, None, [0, 9])) == [10, 19]
    with pytest.raises(CiaError, match=r"a\.mp4: is not the clip that was extracted: it has no frame 10"):
        frames_of(stored, 0, None, [0, 10])


@pytest.mark.parametrize("first", [0, 1])
def test_a_frame_folder_shows_its_pictures(tmp_path, first):
    (tmp_path / "P01_01").mkdir()
    for t in range(25):
        Image.new("RGB", (456, 256), (8 * t,) * 3).save(tmp_path / f"P01_01/frame_{t + first:010d}.png")
    stored = dataset(tmp_path, recipes.load("mmsada"), path="P01_01", start="0.4", stop="0.8", rate="25")
    assert greys(frames_of(stored, 0, None, [0, 9])) == [10, 19]


def test_a_video_of_another_short_side_is_cropped_as_the_network_saw_it(tmp_path):
    image = Image.fromarray(np.random.default_rng(0).integers(0, 255, (300, 400, 3), np.uint8))
    (tmp_path / "a").mkdir()
    image.save(tmp_path / "a/0.png")
    stored = dataset(tmp_path, recipes.load("transvae"), path="a")
    (seen,) = frames_of(stored, 0, None, [0])
    scaled = np.asarray(image.resize((298, 224), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(seen, scaled[:, 37:261])


@pytest.mark.parametrize("matrix", [(0, 1, -1, 0), (-1, 0, 0, 1)], ids=["turned", "mirrored"])
def test_turned_and_mirrored_videos_look_as_they_did_to_the_network(tmp_path, matrix):
    """Whatever becomes of a display matrix, extraction and report agree. TBN's windows are single frames."""
    path = encode(tmp_path / "a.mp4", 8)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # version 0: the matrix of the track, 16.16 fixed point
    for k, value in zip((0, 1, 3, 4), matrix, strict=True):
        content[place + 4 * k : place + 4 * k + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(content)
    recipe = recipes.load("tbn-epic55", {"sampling.frames": 4, "rgb.order": "rgb"})
    prepared = preparation.prepare_clip(job.ClipJob(path, ("rgb",), recipe))
    windows = prepared.windows["rgb"]
    seen = frames_of(dataset(tmp_path, recipe, path="a.mp4"), 0, None, prepared.centres.tolist())
    np.testing.assert_array_equal(np.stack(seen), windows.images[windows.rows[:, 0]])


@pytest.mark.parametrize("kind", ["another rate", "a frame folder", "a cut clip", "a cut at a rate"])
def test_the_frames_shown_are_those_in_the_middle_of_the_windows_that_the_network_saw(tmp_path, kind):
    """Pixel by pixel, at the indices that extraction writes into the feature file."""
    changes, row = {"sampling.frames": 6}, {"path": "a.mp4"}
    if kind == "a frame folder":
        (tmp_path / "a").mkdir()
        random = np.random.default_rng(0)
        for t in range(25):
            Image.fromarray(random.integers(0, 255, (256, 340, 3), np.uint8)).save(tmp_path / f"a/frame_{t + 1:010d}.png")
        row = {"path": "a", "start": "0.2", "stop": "0.8", "rate": "25"}
    else:
        encode(tmp_path / "a.mp4", 25)
    if "rate" in kind:
        changes["sampling.rate"] = 10.0
    if "cut" in kind:
        row |= {"start": "0.32", "stop": "0.84"}
    recipe = recipes.load("kinetics", changes)
    rows = manifest.check("m", [{"clip": "c", "label": "x", "split": "val"} | row])
    prepared = preparation.prepare_clip(preparation.job_of(rows, 0, tmp_path, recipe, ("rgb",)))
    windows = prepared.windows["rgb"]
    middle = -recipe.rgb.first // recipe.rgb.step
    seen = frames_of(dataset(tmp_path, recipe, **row), 0, None, prepared.centres.tolist())
    np.testing.assert_array_equal(np.stack(seen), windows.images[windows.rows[:, middle]])
    assert len(set(prepared.centres.tolist())) > 3


def test_another_root_goes_before_the_one_in_the_file(tmp_path):
    stored = dataset(tmp_path, recipes.load("kinetics"), path="a.mp4")
    with pytest.raises(CiaError, match=r"a\.mp4: no such file"):
        frames_of(stored, 0, None, [0])
    (tmp_path / "elsewhere").mkdir()
    encode(tmp_path / "elsewhere/a.mp4", 5)
    assert greys(frames_of(stored, 0, tmp_path / "elsewhere", [3])) == [3]


def test_a_file_that_does_not_say_how_its_clips_were_read_or_leaves_the_root_is_one_line(tmp_path):
    encode(tmp_path / "a.mp4", 5)
    stored = dataset(tmp_path, recipes.load("kinetics"), path="../a.mp4")
    with pytest.raises(DataError, match="leaves the root"):
        frames_of(stored, 0, None, [0])
    stored.provenance.pop("preprocessing")
    with pytest.raises(DataError, match=r"f\.h5: 'd': its recipe is damaged"):
        frames_of(stored, 0, None, [0])


class Crash(tuple):
    """Frames that end the process that looks for them, as a decoder that crashes."""

    def __iter__(self):
        os.kill(os.getpid(), signal.SIGSEGV)


def test_a_clip_that_crashes_the_decoder_costs_its_own_frames(tmp_path):
    encode(tmp_path / "a.mp4", 5)
    columns = {
        "clip": ["c", "d", "e", "f"],
        "label": ["x"] * 4,
        "split": ["val"] * 4,
        "path": ["a.mp4", "a.mp4", "b.mp4", "../a"],
    }
    recipe = recipes.load("kinetics")
    stored = RECIPE | {"frames": recipe.sampling.frames, "preprocessing": recipe.knobs(("rgb", "flow"))}
    several = writer.begin_or_continue(tmp_path / "f.h5", "d", columns, stored, tmp_path, overwrite=False)
    seen = frames.frames_of_each(several, None, {0: Crash([0]), 1: [3, 0], 2: [0], 3: [0]})
    assert greys(seen[1]) == [3, 0]
    words = {row: str(why) for row, why in seen.items() if isinstance(why, CiaError)}
    assert "a.mp4: decoding it crashed the worker process (exit -11)" in words[0]
    assert "b.mp4: no such file" in words[2] and "leaves the root" in words[3]
    with pytest.raises(CiaError, match="leaves the root"):
        frames.frames_of(several, 3, None, [0])
