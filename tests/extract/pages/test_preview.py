"""A preview shows what extraction reads: the same frames, windows, flow and sound."""

import base64
import io
import re
from pathlib import Path

import numpy as np
import pytest
from cia_extract import recipes
from cia_extract.cli import main
from cia_extract.clips import job_of, preparation, prepare_clip
from cia_extract.datasets import check
from cia_extract.pages import flow_picture, preview
from PIL import Image

from tests.command_line import in_this_process
from tests.extract.clips.test_audio import write_video
from tests.extract.clips.test_video import encode

QUICK = {"sampling.frames": 5, "flow.algorithm": "dis"}


def picture(source: str) -> np.ndarray:
    """The picture inside the source of an HTML image."""
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))))


def job(root: Path, modalities=("rgb", "flow"), knobs=(), **row: str):
    recipe = recipes.load("kinetics", QUICK | dict(knobs))
    return job_of(check("m", [{"clip": "c", "label": "x", "split": "val"} | row]), 0, root, recipe, modalities)


def moving(folder: Path, step: int, count: int = 20) -> Path:
    """Pictures of one texture that moves `step` px to the right from each to the next."""
    folder.mkdir()
    texture = np.asarray(Image.fromarray(np.random.default_rng(0).integers(0, 255, (32, 128, 3), np.uint8)).resize((1024, 256)))
    for t in range(count):
        Image.fromarray(texture[:, 400 - step * t : 740 - step * t]).save(folder / f"frame_{t:04d}.png")
    return folder


# {how a clip is read: (its row, knobs, from a frame's index to its number in the video, whose grey is 8 times that)}
READ = {
    "the whole video": ({"path": "a.mp4"}, {}, lambda i: i),
    "another rate": ({"path": "a.mp4"}, {"sampling.rate": 5.0}, lambda i: 5 * i + 2),
    "a cut": ({"path": "a.mp4", "start": "0.2", "stop": "0.8"}, {}, lambda i: i + 5),
    "frames of zeros": ({"path": "a.mp4"}, {"rgb.edge": "zero", "flow.edge": "zero"}, lambda i: i),
    "a frame folder": ({"path": "b", "start": "0.4", "stop": "0.8", "rate": "25"}, {}, lambda i: i + 10),
}


@pytest.mark.parametrize("how", READ)
def test_frames_and_windows_are_those_of_extraction(tmp_path, how):
    row, knobs, number = READ[how]
    encode(tmp_path / "a.mp4", 25)
    (tmp_path / "b").mkdir()
    for t in range(25):
        Image.new("RGB", (456, 256), (8 * t,) * 3).save(tmp_path / f"b/frame_{t + 1:010d}.png")
    read = job(tmp_path, knobs=knobs, **row)
    shown = preview.look("c", {}, read)
    prepared = prepare_clip(read)
    rgb = prepared.windows["rgb"]
    assert [frame.index for frame in shown.frames] == prepared.centres.tolist()
    for frame, window in zip(shown.frames, rgb.rows, strict=True):
        assert round(picture(frame.rgb).mean() / 8) == number(frame.index)
        inside = [round(rgb.images[place].mean() / 8) for place in window.tolist() if place >= 0]
        first, _, last = re.match(r"(\d+)(–(\d+))?", frame.window).groups()
        assert (number(int(first)), number(int(last))) == (min(inside), max(inside))
        again = sum(map(int, re.findall(r"again (\d+) times", frame.window)))
        zeros = sum(map(int, re.findall(r"(\d+) frames of zeros", frame.window)))
        assert int(last) - int(first) + 1 + again + zeros == len(window) and zeros == (window < 0).sum()


@pytest.mark.parametrize(("start", "seconds"), [("", ("0.00", "0.96")), ("0.2", ("0.20", "0.76"))])
def test_times_are_those_of_the_video(tmp_path, start, seconds):
    encode(tmp_path / "a.mp4", 25)
    cut = {"start": start, "stop": "0.8"} if start else {}
    shown = preview.look("c", {}, job(tmp_path, path="a.mp4", **cut))
    assert shown.facts["shown from"] == f"{seconds[0]} s to {seconds[1]} s"
    assert shown.frames[0].time == f"{float(start or 0) + shown.frames[0].index / 25:.2f} s"


def test_a_turned_video_is_shown_upright_as_the_network_sees_it(tmp_path):
    path = encode(tmp_path / "a.mp4", 12)
    content = bytearray(path.read_bytes())
    place = content.index(b"tkhd") + 4 + 40  # the track's display matrix, 16.16 fixed point
    for k, value in zip((0, 1, 3, 4), (0, 1, -1, 0), strict=True):
        content[place + 4 * k : place + 4 * k + 4] = (value * 65536).to_bytes(4, "big", signed=True)
    path.write_bytes(content)
    shown = preview.look("c", {}, job(tmp_path, path="a.mp4"))
    assert shown.facts["picture"] == "48 × 64 px"  # the file stores 64 × 48
    seen = preparation.seen_frames(job(tmp_path, path="a.mp4"), [frame.index for frame in shown.frames])
    for frame, expected in zip(shown.frames, seen, strict=True):
        np.testing.assert_allclose(picture(frame.rgb), expected, atol=3)  # JPEG


@pytest.mark.parametrize(("step", "leading"), [(4, 0), (-4, 180)], ids=["right", "left"])
def test_flow_has_the_length_and_the_colour_of_the_motion(tmp_path, step, leading):
    moving(tmp_path / "a", step)
    shown = preview.look("c", {}, job(tmp_path, path="a", rate="25"))
    assert float(re.match(r"mean ([\d.]+) px", shown.facts["flow"])[1]) == pytest.approx(4, rel=0.1)
    middle = picture(shown.frames[2].colours)[60:160, 60:160].astype(np.float32)
    expected = flow_picture.colours(np.array([[[step, 0.0]]], np.float32), shown.full_flow)[0, 0]
    np.testing.assert_allclose(middle.reshape(-1, 3).mean(0), expected, atol=25)
    red, rest = middle[..., 0].mean(), middle[..., 1:].mean()
    assert red > 2 * rest if leading == 0 else rest > 2 * red
    assert not shown.warnings


def test_arrows_point_where_things_go():
    grey = np.full((64, 64, 3), 100, np.uint8)
    drawn = flow_picture.arrows(grey, np.tile(np.array([3.0, 0.0], np.float32), (64, 64, 1)), 3.0)
    red = (drawn[..., 0].astype(int) - drawn[..., 1]) > 60
    rows, columns = np.nonzero(red[:16, :32])
    assert len(rows) and np.abs(rows - 8).max() <= 5  # one row of arrows, that of the grid's first cells
    assert columns.min() >= 7 and columns.max() >= 8 + flow_picture.LONGEST - 1  # from the cell's middle to the right
    still = flow_picture.arrows(grey, np.zeros((64, 64, 2), np.float32), 3.0)
    assert (still == still[0, 0]).all()


def test_a_still_picture_is_named(tmp_path):
    moving(tmp_path / "a", 0)
    shown = preview.look("c", {}, job(tmp_path, path="a", rate="25"))
    assert any(line.startswith("flow: nearly empty, 99 % below 0.00 px") for line in shown.warnings)


@pytest.mark.parametrize("cut", [{}, {"start": "1.0", "stop": "3.0"}], ids=["whole", "cut"])
def test_windows_of_sound_lie_where_the_recipe_says(tmp_path, cut):
    samples = 0.3 * np.sin(np.arange(5 * 24_000) * 0.3)
    write_video(tmp_path / "a.mkv", samples, seconds=5)
    read = job(tmp_path, ("rgb", "audio"), path="a.mkv", **cut)
    sound = preview.look("c", {}, read).sound
    centres = prepare_clip(read).centres
    half, first = read.recipe.audio.half_s, float(cut.get("start", 0))
    for window, centre in zip(sound.windows, centres.tolist(), strict=True):
        at = first + centre / 10  # the video has 10 frames a second
        start = min(max(at - half, 0), 5 - 2 * half)  # a window that would leave the recording is moved into it
        assert window.frame == centre and (window.start_s, window.stop_s) == pytest.approx((start, start + 2 * half), abs=2e-3)
        share = 100 * (window.start_s - sound.start_s) / (sound.stop_s - sound.start_s)
        assert window.left == pytest.approx(share, abs=0.1)
        assert window.width == pytest.approx(100 * 2 * half / (sound.stop_s - sound.start_s), abs=0.2)
    assert sound.windows[0].left == 0 and sound.windows[-1].left + sound.windows[-1].width == pytest.approx(100)


def test_a_dataset_shows_the_clips_asked_for_and_names_those_that_cannot_be_read(tmp_path):
    encode(tmp_path / "good.mp4", 12)
    (tmp_path / "bad.mp4").write_bytes(b"nothing")
    (tmp_path / "m.csv").write_text("clip,path,label,split\ngood,good.mp4,x,val\nbad,bad.mp4,y,val\n")
    words = ["preview", "mine", "--root", tmp_path, "--manifest", tmp_path / "m.csv", "--flow", "dis", "--frames", "3"]
    done = in_this_process(main, *words, "--out", tmp_path / "p.html")
    assert done.returncode == 3 and "1 of 2 clips cannot be read: bad: " in done.stderr
    page = (tmp_path / "p.html").read_text()
    assert page.count("<figure>") == 3 and "cannot be read: bad: " in page and "<h2>good</h2>" in page
    assert in_this_process(main, *words, "--clip", "good", "--out", tmp_path / "q.html").returncode == 0
    assert in_this_process(main, *words, "--clip", "bad", "--out", tmp_path / "r.html").returncode == 3
    assert not (tmp_path / "r.html").exists()


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["nothing.mp4"], "nothing.mp4: no such clip"),
        (["a.mp4", "--clip", "x"], "--clip names clips of a dataset"),
        (["mine", "--root", ".", "--manifest", "m.csv", "--clip", "goood"], "--clip goood: not in m.csv; did you mean good"),
        (["mine", "--root", ".", "--manifest", "m.csv", "--start", "1"], "--start and --stop cut one video"),
        (["a.mp4", "--start", "2", "--stop", "1"], "start"),
        (["a.mp4", "--out", "."], "--out .: is a folder"),
    ],
)
def test_a_wrong_request_is_one_line(tmp_path, words, said):
    encode(tmp_path / "a.mp4", 5)
    (tmp_path / "m.csv").write_text("clip,path,label,split\ngood,a.mp4,x,val\n")
    done = in_this_process(main, "preview", *words, cwd=tmp_path)
    assert done.returncode in (2, 3) and said in done.stderr and len(done.stderr.strip().splitlines()) == 1, done.stderr
