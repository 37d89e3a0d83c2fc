"""Clips as pictures: EPIC's official frames, their times and their flow."""

from pathlib import Path

import numpy as np
import pytest
from cia_extract import clips, features, recipes
from cia_extract.clips import flow, preparation
from cia_extract.clips import job as clips_job
from cia_extract.clips.frame_folder import FlowFolder
from cia_extract.common.outcomes import ClipError
from cia_extract.datasets import manifest
from cia_extract.extraction import pipeline
from cia_extract.extraction import settings as extraction_settings
from PIL import Image

from tests.extract.clips.test_video import encode


def pictures(folder: Path, numbers, mode: str = "RGB", name: str = "frame_{:010d}.png") -> Path:
    """Pictures of one grey each: its number."""
    folder.mkdir(parents=True, exist_ok=True)
    for number in numbers:
        Image.new(mode, (320, 256), number if mode == "L" else (number,) * 3).save(folder / name.format(number))
    return folder


def test_pictures_are_read_by_time(tmp_path):
    """EPIC: the annotation's start_frame 11 and stop_frame 21 at 60 a second are the files 11 … 19 (TBN: −1, −2)."""
    folder = pictures(tmp_path / "P01_01", range(1, 61))
    frames = list(clips.decode(folder, (11 - 1) / 60, (21 - 2) / 60, rate=60.0))
    assert [int(frame.image[0, 0, 0]) for frame in frames] == list(range(11, 20))
    assert [round(frame.time * 60) for frame in frames] == list(range(10, 19))
    assert len(list(clips.decode(folder))) == 60  # without times: all of them


def test_an_error_names_what_a_frame_folder_lacks(tmp_path):
    folder = pictures(tmp_path / "frames", [1, 2, 3, 5, 6])
    with pytest.raises(ClipError, match="picture number 4 is missing"):
        list(clips.decode(folder))
    with pytest.raises(ClipError, match="frame folders have no times; give the manifest a column `rate`"):
        list(clips.decode(folder, 0.1, 0.2))
    with pytest.raises(ClipError, match=r"cut: the clip ends at 0\.53 s, but stop is 1 s") as error:
        list(clips.decode(pictures(tmp_path / "cut", range(1, 33)), 0.5, 1.0, rate=60.0))
    assert error.value.outcome.name == "partial decode"
    (tmp_path / "empty").mkdir()
    with pytest.raises(ClipError, match="no numbered pictures"):
        list(clips.decode(tmp_path / "empty"))
    (folder / "frame_0000000002.png").write_bytes(b"\x89PNG and no more")
    with pytest.raises(ClipError, match=r"frame_0000000002\.png: cannot be read"):
        list(clips.decode(folder))


def test_two_pictures_of_one_number_are_refused(tmp_path):
    folder = pictures(tmp_path / "both", [1, 2])
    pictures(folder, [2], name="img_{:05d}.png")
    with pytest.raises(ClipError, match="have the same number"):
        list(clips.decode(folder))


@pytest.mark.parametrize("layout", ["u and v", "x_ and y_", "sample"])
def test_flow_folders_in_every_layout(tmp_path, layout):
    if layout == "u and v":
        pictures(tmp_path / "u", [1, 2, 3], "L")
        pictures(tmp_path / "v", [101, 102, 103], "L", "frame_{:010d}.png")
        (tmp_path / "v").rename(tmp_path / "w")
        (tmp_path / "v").mkdir()
        for number in (1, 2, 3):
            (tmp_path / "w" / f"frame_{100 + number:010d}.png").rename(tmp_path / "v" / f"frame_{number:010d}.png")
    else:
        names = ("x_{:05d}.png", "y_{:05d}.png") if layout == "x_ and y_" else ("P_flow_u_{:010d}.png", "P_flow_v_{:010d}.png")
        for name, offset in zip(names, (0, 100), strict=True):
            for number in (1, 2, 3):
                Image.new("L", (320, 256), number + offset).save(tmp_path / name.format(number))
    folder = FlowFolder(tmp_path)
    assert len(folder) == 3
    assert folder.read(0)[0, 0].tolist() == [1, 101] and folder.read(2)[5, 5].tolist() == [3, 103]


def stored_flow_job(tmp_path: Path, name: str, start: int, stop: int, **changes) -> clips_job.ClipJob:
    """RGB at 60 and flow at 30 a second, flow pictures numbered by grey; frames start … stop − 1 (0-based)."""
    pictures(tmp_path / "rgb", range(1, 121))
    for component in "uv":
        pictures(tmp_path / "flow" / component, range(1, 61), "L")
    stored = clips_job.StoredFlow(tmp_path / "flow", 30.0, changes.pop("bound", 25.0))
    recipe = recipes.load(name, {"sampling.frames": 3} | changes)
    return clips_job.ClipJob(tmp_path / "rgb", ("rgb", "flow"), recipe, start / 60, stop / 60, 60.0, stored)


def greys(prepared: clips_job.PreparedClip, modality: str) -> list[list[int]]:
    windows = prepared.windows[modality]
    return windows.images[windows.rows, 0, 0, 0].tolist()


def test_stored_flow_starts_at_half_the_frames_number(tmp_path):
    """TBN: flow index = ⌊start · 30/60⌋ + position; here start 41 → 20, and stacks of five by its own rule over N = 29.5."""
    prepared = preparation.prepare_clip(stored_flow_job(tmp_path, "tbn-epic55", 41, 100))
    assert greys(prepared, "rgb") == [[41 + 9 + 1], [41 + 29 + 1], [41 + 49 + 1]]
    tick = (29.5 - 4) / 3
    starts = [int(tick / 2 + tick * i) for i in range(3)]
    assert greys(prepared, "flow") == [[20 + s + k + 1 for k in range(5)] for s in starts]


def test_stacks_of_a_short_clip_repeat_its_last_flow(tmp_path):
    """Five frames are 2.5 flows: TBN's own rule would begin before the clip; here they begin with it."""
    prepared = preparation.prepare_clip(stored_flow_job(tmp_path, "tbn-epic55", 40, 45))
    assert greys(prepared, "flow") == [[21, 22, 23, 23, 23]] * 3
    assert prepared.outcomes["rgb"].name == "ok" and prepared.n_frames == 5


def test_i3d_rescales_stored_flow_to_its_own_bound(tmp_path):
    """EPIC's bytes mean ±25 px, I3D's ±20: 10 px is 178 in one and 191 in the other. TBN keeps the bytes."""
    unscaled = greys(preparation.prepare_clip(stored_flow_job(tmp_path, "tbn-epic55", 0, 60)), "flow")
    rescaled = preparation.prepare_clip(stored_flow_job(tmp_path, "kinetics", 0, 60))
    values = {int(v) for row in greys(rescaled, "flow") for v in row}
    px = flow.dequantise(np.arange(1, 31, dtype=np.uint8), 25.0)
    assert values <= set(flow.quantise(px, 20.0).tolist()) and unscaled[0][0] == 5
    centres = rescaled.centres // 2
    assert greys(rescaled, "flow")[1][8] == int(flow.quantise(flow.dequantise(np.uint8([centres[1] + 1]), 25.0), 20.0)[0])


def test_a_missing_flow_folder_fails_flow_alone(tmp_path):
    task = stored_flow_job(tmp_path, "tbn-epic55", 0, 60)
    gone = clips_job.StoredFlow(tmp_path / "nowhere", 30.0, 25.0)
    prepared = preparation.prepare_clip(
        clips_job.ClipJob(task.path, task.modalities, task.recipe, task.start, task.stop, task.rate, gone)
    )
    assert "rgb" in prepared.windows and "flow" not in prepared.windows
    assert "no such folder of flow frames" in str(prepared.errors["flow"])


@pytest.mark.parametrize("native", [25, 30, 50, 60, 90])
def test_videos_are_read_at_a_rate_as_ffmpeg_would(tmp_path, native):
    """Slot k of 60 a second shows the last frame whose time rounds to k or earlier: a slow loop over all frames' times."""
    path = encode(tmp_path / "clip.mp4", native, rate=native)
    plain = list(clips.decode(path))
    frames = list(clips.decode(path, 0.25, 0.75, rate=60.0))
    slots = [int(frame.time * 60 + 0.5) for frame in plain]
    assert len(frames) == 30
    for k, frame in zip(range(15, 45), frames, strict=True):
        shown = max(i for i, slot in enumerate(slots) if slot <= k)
        np.testing.assert_array_equal(frame.image, plain[shown].image)
        assert frame.time == pytest.approx(k / 60)


def test_the_last_frame_is_shown_as_long_as_the_others(tmp_path):
    assert len(list(clips.decode(encode(tmp_path / "half.mp4", 15, rate=30), rate=60.0))) == 30
    assert len(list(clips.decode(encode(tmp_path / "one.mp4", 1), rate=60.0))) == 2  # of 40 ms
    assert len(list(clips.decode(tmp_path / "half.mp4", 0.25, 0.55, rate=60.0))) == 15


@pytest.mark.parametrize(("backbone", "name"), [("tbn", "tbn-epic55"), pytest.param("i3d", "kinetics", marks=pytest.mark.slow)])
def test_the_epic_sample_extracts(shared, tmp_path, backbone, name):
    """100 official RGB frames and their flow, from the folders as they are, with both networks."""
    rows = []
    for index, (start, stop) in enumerate([(1, 61), (40, 96)]):
        rows.append(
            {
                "clip": f"P01_01_{index}", "path": "sample_rgb", "label": "open", "split": "train",
                "start": f"{(start - 1) / 60:.6f}", "stop": f"{(stop - 2) / 60:.6f}", "rate": "60",
                "flow_path": "sample_flow", "flow_rate": "60", "flow_bound": "25",
            }
        )  # fmt: skip
    settings = extraction_settings.Settings(
        dataset="epic",
        manifest=manifest.check("test", rows),
        root=shared / "clips/epic_frames/data",
        out=tmp_path / "f.h5",
        recipe=recipes.load(name, {"sampling.frames": 2}),
        weights=("random",) if backbone == "tbn" else ("kinetics",),
    )
    summary = pipeline.extract(settings, print)
    assert summary.done == 2 and not summary.failed
    dataset = features.open_features(tmp_path / "f.h5")["epic"]
    assert dataset.array("clips/n_frames").tolist() == [59, 55]
    for modality in ("rgb", "flow"):
        pooled = dataset.array(f"{modality}/pooled")
        assert dataset.array(f"{modality}/maps").shape == (2, 2, 1024, 7, 7) and pooled.max() > 0.1
        assert not np.allclose(pooled[0], pooled[1], rtol=0.05)


NAMES = {
    "u and v": ("u/frame_{:010d}.png", "v/frame_{:010d}.png"),
    "x and y": ("x/img_{:05d}.png", "y/img_{:05d}.png"),
    "denseflow": ("flow_x_{:05d}.png", "flow_y_{:05d}.png"),
    "EPIC": ("P01_01_flow_u_{:010d}.png", "P01_01_flow_v_{:010d}.png"),
}


def counted(root: Path, first: int, flow_first: int, naming: str, count: int = 50) -> clips_job.ClipJob:
    """A second of a clip that is cut from two, RGB and flow at 25 a second, counted from `first` and `flow_first`."""
    random = np.random.default_rng(0)
    for t, (grey, x, y) in enumerate(random.integers(0, 255, (count, 3))):
        for place, value, mode in (
            (root / f"rgb/img_{t + first:05d}.png", (int(grey),) * 3, "RGB"),
            (root / "flow" / NAMES[naming][0].format(t + flow_first), int(x), "L"),
            (root / "flow" / NAMES[naming][1].format(t + flow_first), int(y), "L"),
        ):
            place.parent.mkdir(parents=True, exist_ok=True)
            Image.new(mode, (320, 256), value).save(place)
    recipe = recipes.load("kinetics", {"sampling.frames": 3})
    return clips_job.ClipJob(
        root / "rgb", ("rgb", "flow"), recipe, 0.4, 1.4, 25.0, clips_job.StoredFlow(root / "flow", 25.0, 20.0)
    )


@pytest.mark.parametrize("naming", NAMES)
def test_a_folder_that_counts_from_0_gives_the_features_of_one_that_counts_from_1(tmp_path, naming):
    """The right value: frame i of the clip is the i-th picture, whatever it is called."""
    random = np.random.default_rng(0).integers(0, 255, (50, 3))
    for first, flow_first in ((0, 0), (1, 1), (0, 1), (1, 0)):
        prepared = preparation.prepare_clip(counted(tmp_path / f"{first}{flow_first}", first, flow_first, naming))
        assert not prepared.errors
        frames = np.clip(prepared.centres[:, None] + np.arange(-8, 8), 0, 24) + 10
        assert greys(prepared, "rgb") == random[frames, 0].tolist()
        windows = prepared.windows["flow"]
        assert windows.images[windows.rows, 0, 0].tolist() == random[np.clip(frames, 10, 34), 1:].tolist()
    whole = [frame.time for frame in clips.decode(tmp_path / "00/rgb", rate=25.0)]
    assert len(whole) == 50 and whole[0] == 0 and whole[-1] == pytest.approx(49 / 25)


@pytest.mark.parametrize("first", [2, 31])
def test_a_folder_that_begins_above_number_1_is_refused(tmp_path, first):
    job = counted(tmp_path, first, first, "denseflow")
    with pytest.raises(ClipError, match=rf"rgb: its pictures begin at number {first}, not at 0 or 1; unpack the frames again"):
        list(clips.decode(job.path, None, None, 25.0))
    whole = counted(tmp_path / "whole", 1, first, "denseflow")
    prepared = preparation.prepare_clip(
        clips_job.ClipJob(whole.path, ("rgb", "flow"), whole.recipe, None, None, 25.0, whole.stored_flow)
    )
    assert f"flow: its pictures begin at number {first}" in str(prepared.errors["flow"]) and "rgb" in prepared.windows


def test_a_part_of_epics_frames_keeps_the_numbers_of_the_whole_video(tmp_path):
    """Someone who unpacks only the seconds of one action has frames 61 … 120; the annotation counts from 1 in the whole."""
    folder = pictures(tmp_path / "P01_01", range(61, 121), name="frame_{:010d}.jpg")
    shown = list(clips.decode(folder, 1.0, 2.0, rate=60.0))
    assert [int(frame.image[0, 0, 0]) for frame in shown] == list(range(61, 121))
    with pytest.raises(ClipError, match="picture number 31 is missing"):
        list(clips.decode(folder, 0.5, 2.0, rate=60.0))


def test_flow_whose_components_begin_at_different_numbers_is_refused(tmp_path):
    pictures(tmp_path / "u", [0, 1, 2], "L")
    pictures(tmp_path / "v", [1, 2, 3], "L")
    with pytest.raises(ClipError, match="x begins at number 0 and y at 1"):
        FlowFolder(tmp_path)


def test_a_gap_in_the_flow_is_named_where_a_window_needs_it(tmp_path):
    for letter in "uv":
        pictures(tmp_path / letter, [0, 1, 3, 4], "L")
    folder = FlowFolder(tmp_path)
    assert len(folder) == 5 and folder.read(3)[0, 0].tolist() == [3, 3]
    with pytest.raises(ClipError, match="u: picture number 2 is missing"):
        folder.read(2)


def test_hidden_files_of_macos_are_not_read_as_pictures(tmp_path):
    for letter in "uv":
        pictures(tmp_path / f"flow/{letter}", [1, 2], "L")
        (tmp_path / f"flow/{letter}/._frame_0000000001.png").write_bytes(b"\0\5\26\7")
    folder = pictures(tmp_path / "rgb", [1, 2])
    (folder / "._frame_0000000001.png").write_bytes(b"\0\5\26\7")
    assert len(list(clips.decode(folder))) == 2 and len(FlowFolder(tmp_path / "flow")) == 2


@pytest.mark.parametrize(("start", "stop"), [(1e300, None), (None, 1e300), (1e307, 1e308)])
def test_absurd_times_give_one_line(tmp_path, start, stop):
    folder = pictures(tmp_path / "f", [1, 2, 3])
    with pytest.raises(ClipError):
        preparation.prepare_clip(clips_job.ClipJob(folder, ("rgb",), recipes.load("kinetics"), start, stop, 60.0))


def test_stored_flow_is_scaled_component_by_component(tmp_path):
    """x is not weighed by y, as grey would be by alpha: a flow of 128 px is scaled as two pictures are."""
    random = np.random.default_rng(3)
    planes = random.integers(0, 255, (2, 128, 170), np.uint8)
    for letter, plane in zip("xy", planes, strict=True):
        Image.fromarray(plane).save(tmp_path / f"{letter}_1.png")
    pictures(tmp_path / "rgb", [1])
    job = clips_job.ClipJob(
        tmp_path / "rgb", ("flow",), recipes.load("kinetics"), rate=25.0, stored_flow=clips_job.StoredFlow(tmp_path, 25.0, 20.0)
    )
    image = preparation.prepare_clip(job).windows["flow"].images[0]
    for channel, plane in enumerate(planes):
        scaled = np.asarray(Image.fromarray(plane).resize((340, 256), Image.Resampling.BILINEAR))
        np.testing.assert_array_equal(image[..., channel], scaled[16:240, 58:282])
