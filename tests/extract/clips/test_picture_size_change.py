"""The picture size changes within a clip: one rule for RGB and every flow, for videos, frame folders and stored flow."""

from pathlib import Path

import av
import cv2
import numpy as np
import pytest
import torch
from cia_extract import recipes
from cia_extract.clips import flow, job, preparation
from cia_extract.common.outcomes import ClipError
from cia_extract.extraction.flow_batches import DeviceFlow
from PIL import Image

FLOWS = {
    "dis": ("dis", "opencv"),
    "tvl1 opencv": ("tvl1", "opencv"),
    "tvl1 torch": ("tvl1", "torch"),
    "device": ("tvl1", "device"),
}
KNOBS = {"sampling.frames": 2, "picture.short_side": 224, "sampling.rule": "tsn"}


def scene(t: int, width: int, height: int) -> np.ndarray:
    """A smooth texture that moves 1.5 % of its height right from frame to frame, seen at any resolution."""
    whole = cv2.GaussianBlur(np.random.default_rng(1).uniform(0, 255, (480, 900)), (0, 0), 12)
    whole = cv2.normalize(whole, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    seen = whole[:, 160 - 7 * t : 160 - 7 * t + 640]
    return np.repeat(cv2.resize(seen, (width, height), interpolation=cv2.INTER_AREA)[..., None], 3, 2)


def stream(path: Path, parts: list[tuple[int, int]], frames: int = 4) -> Path:
    """MPEG transport streams of each size, joined: `cat a.ts b.ts`."""
    content, t = b"", 0
    for number, (width, height) in enumerate(parts):
        part = path.with_name(f"part{number}.ts")
        with av.open(str(part), "w", format="mpegts") as container:
            video = container.add_stream("libx264", rate=25, options={"crf": "12"})
            video.width, video.height, video.pix_fmt = width, height, "yuv420p"
            for _ in range(frames):
                frame = av.VideoFrame.from_ndarray(scene(t, width, height), format="rgb24")
                frame.pts, t = t, t + 1
                container.mux(video.encode(frame))
            container.mux(video.encode())
        content += part.read_bytes()
    path.write_bytes(content)
    return path


def folder(path: Path, parts: list[tuple[int, int]], frames: int = 4) -> Path:
    path.mkdir()
    sizes = [size for size in parts for _ in range(frames)]
    for t, (width, height) in enumerate(sizes):
        Image.fromarray(scene(t, width, height)).save(path / f"img_{t:05d}.png")
    return path


def flow_of(path: Path, how: str) -> job.Windows:
    algorithm, by = FLOWS[how]
    recipe = recipes.load("kinetics", KNOBS | {"flow.algorithm": algorithm})
    prepared = preparation.prepare_clip(job.ClipJob(path, ("flow",), recipe, flow_by=by))
    if prepared.pairs is not None:
        device = DeviceFlow(recipe, torch.device("cpu"))
        ((_, _, windows),) = [*device.add(0, prepared.pairs), *device.flush()]
        return windows
    if "flow" in prepared.errors:
        raise prepared.errors["flow"]
    return prepared.windows["flow"]


@pytest.mark.parametrize("make", [stream, folder])
@pytest.mark.parametrize("how", FLOWS)
def test_a_change_of_shape_is_refused_alike_by_every_flow(tmp_path, make, how):
    path = make(tmp_path / "clip.ts", [(64, 48), (96, 48)])
    message = r"clip\.ts: picture size changes from 64x48 to 96x48 at frame 4 \(counted from 0\); cut the clip there$"
    with pytest.raises(ClipError, match=message) as error:
        flow_of(path, how)
    assert error.value.outcome.name == "decode error"


@pytest.mark.parametrize("make", [stream, folder])
@pytest.mark.parametrize("held", [2000, 3])
def test_rgb_windows_follow_the_same_rule(tmp_path, make, held, monkeypatch):
    monkeypatch.setattr(preparation, "HELD_FRAMES", held)  # 3: a clip too long to be held is read twice
    path = make(tmp_path / "clip.ts", [(64, 48), (48, 64)])
    with pytest.raises(ClipError, match="picture size changes from 64x48 to 48x64 at frame 4"):
        preparation.prepare_clip(job.ClipJob(path, ("rgb",), recipes.load("kinetics")))


@pytest.mark.parametrize("make", [stream, folder])
@pytest.mark.parametrize("how", FLOWS)
def test_another_resolution_of_the_same_picture_moves_as_if_nothing_had_changed(tmp_path, make, how):
    """Adaptive streams: 320×240 becomes 640×480. The motion is 1.5 % of the height, 3.3 px of 224, across the change too."""
    path = make(tmp_path / "clip.ts", [(320, 240), (640, 480)], 2)
    windows = flow_of(path, how)
    assert len(windows.images) == 3
    motion = flow.dequantise(windows.images)[:, 40:-40, 40:-40]
    assert np.abs(np.median(motion[..., 0], axis=(1, 2)) - 7 / 480 * 224).max() < 0.4
    assert np.abs(np.median(motion[..., 1], axis=(1, 2))).max() < 0.3


@pytest.mark.parametrize("sizes", [[(854, 480), (848, 480)], [(426, 240), (640, 360)], [(1920, 1080), (1920, 1088)]])
def test_ladders_that_round_their_widths_are_scaled_to_the_first_frames_size(tmp_path, sizes):
    path = folder(tmp_path / "clip", sizes, frames=2)
    prepared = preparation.prepare_clip(
        job.ClipJob(path, ("rgb", "flow"), recipes.load("kinetics", KNOBS | {"flow.algorithm": "dis"}))
    )
    assert not prepared.errors
    last = prepared.windows["rgb"].images[-1]
    width = sizes[0][0] * 224 // sizes[0][1] // 2 * 2
    expected = np.asarray(Image.fromarray(scene(3, *sizes[1])).resize((width, 224), Image.Resampling.BILINEAR))
    np.testing.assert_array_equal(last, expected[:, (width - 224) // 2 :][:, :224])


def test_audio_ignores_a_change_of_picture_size(tmp_path):
    path = stream(tmp_path / "clip.ts", [(64, 48), (96, 48)])
    prepared = preparation.prepare_clip(job.ClipJob(path, ("audio",), recipes.load("kinetics")))
    assert prepared.n_frames == 8 and prepared.outcomes["audio"].name == "no audio"


@pytest.mark.parametrize("second", [(640, 480), (64, 48)])
def test_stored_flow_may_not_change_its_size_since_its_px_would_change_too(tmp_path, second):
    folder(tmp_path / "rgb", [(320, 240)], 8)
    (tmp_path / "flow").mkdir()
    for t in range(8):
        for letter in "xy":
            Image.new("L", (320, 240) if t < 5 else second, 128).save(tmp_path / f"flow/flow_{letter}_{t:05d}.png")
    stored = job.StoredFlow(tmp_path / "flow", 25.0, 20.0)
    prepared = preparation.prepare_clip(
        job.ClipJob(tmp_path / "rgb", ("rgb", "flow"), recipes.load("kinetics", KNOBS), None, None, 25.0, stored)
    )
    assert f"picture size changes from 320x240 to {second[0]}x{second[1]} at frame 5" in str(prepared.errors["flow"])
    assert "rgb" in prepared.windows


def test_x_and_y_of_different_sizes_give_one_line(tmp_path):
    folder(tmp_path / "rgb", [(320, 240)], 2)
    for letter, size in (("x", (320, 240)), ("y", (240, 320))):
        for t in range(2):
            Image.new("L", size, 128).save(tmp_path / f"flow_{letter}_{t}.png")
    stored = job.StoredFlow(tmp_path, 25.0, 20.0)
    prepared = preparation.prepare_clip(
        job.ClipJob(tmp_path / "rgb", ("flow",), recipes.load("kinetics"), None, None, 25.0, stored)
    )
    assert "x and y of flow 0 have different sizes, 320x240 and 240x320" in str(prepared.errors["flow"])


def test_an_extremely_narrow_picture_is_refused_before_it_fills_memory(tmp_path):
    Image.new("RGB", (2, 60_000)).save(tmp_path / "1.png")
    with pytest.raises(ClipError, match="picture of 2x60000 is too long and narrow"):
        preparation.prepare_clip(job.ClipJob(tmp_path, ("rgb",), recipes.load("kinetics")))
