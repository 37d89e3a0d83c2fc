"""Every knob of a recipe changes what it says, computed here in another way. A knob without a check fails the last test."""

from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from cia_extract import recipes
from cia_extract.clips import job as clips_job
from cia_extract.clips import preparation
from cia_extract.common.errors import UsageError
from cia_extract.datasets import manifest
from cia_extract.extraction import pipeline
from cia_extract.extraction import settings as extraction_settings
from cia_extract.extraction.window_batches import scaling
from cia_extract.networks import engines, streams, weights
from PIL import Image
from torch import nn

from tests.extract.clips.test_audio import noise, read_wav, write_wav
from tests.extract.clips.test_video import encode

Recipe = recipes.Recipe
FRAMES = 40
EFFECTS: dict[str, tuple[object, Callable[[Recipe, Path], None]]] = {}


def knob(name: str, value: object):
    """Register the check of one knob at a value other than kinetics'."""

    def register(check: Callable[[Recipe, Path], None]) -> Callable[[Recipe, Path], None]:
        EFFECTS[name] = (value, check)
        return check

    return register


# What is read: frame t of the clip is grey t, flow i is grey 100 + i.


def numbered(tmp: Path, recipe: Recipe, modality: str) -> tuple[clips_job.PreparedClip, np.ndarray]:
    """A clip of FRAMES frames and as many stored flows of the recipe's bound, and the greys in its windows; −1 for zeros."""
    for t in range(FRAMES):
        for folder, grey, mode in (("rgb", t, "RGB"), ("x", 100 + t, "L"), ("y", 100 + t, "L")):
            (tmp / folder).mkdir(exist_ok=True)
            Image.new(mode, (256, 256), (grey,) * 3 if mode == "RGB" else grey).save(tmp / folder / f"{t}.png")
    stored = clips_job.StoredFlow(tmp, 25.0, recipe.flow.bound)
    prepared = preparation.prepare_clip(clips_job.ClipJob(tmp / "rgb", (modality,), recipe, rate=25.0, stored_flow=stored))
    windows = prepared.windows[modality]
    greys = np.concatenate([windows.images[:, 0, 0, 0].astype(int), [-1 if modality == "rgb" else 99]])
    return prepared, greys[windows.rows] - (0 if modality == "rgb" else 100)


def first_image(tmp: Path, recipe: Recipe, size=(640, 471)) -> tuple[np.ndarray, Image.Image]:
    """A picture of noise as the RGB network sees it, and the picture itself."""
    picture = Image.fromarray(np.random.default_rng(0).integers(0, 255, (size[1], size[0], 3), np.uint8))
    picture.save(tmp / "1.png")
    return preparation.prepare_clip(clips_job.ClipJob(tmp, ("rgb",), recipe)).windows["rgb"].images[0], picture


def middle(image: np.ndarray) -> np.ndarray:
    top, left = (image.shape[0] - 224) // 2, (image.shape[1] - 224) // 2
    return image[top : top + 224, left : left + 224]


@knob("sampling.frames", 3)
def _(recipe, tmp):
    assert numbered(tmp, recipe, "rgb")[0].centres.tolist() == [int(40 / 6), int(40 / 2), int(40 * 5 / 6)]


@knob("sampling.rule", "linspace")
def _(recipe, tmp):
    expected = np.floor(np.linspace(1, FRAMES - 1, 25) + 0.5).astype(int) - 1
    assert numbered(tmp, recipe, "rgb")[0].centres.tolist() == expected.tolist()


@knob("sampling.rate", 50.0)
def _(recipe, tmp):
    """Read at 50 a second, a second of video has 50 frames."""
    encode(tmp / "a.mp4", 25)
    rows = manifest.check("test", [{"clip": "a", "path": "a.mp4", "label": "x", "split": "train"}])
    assert preparation.prepare_clip(preparation.job_of(rows, 0, tmp, recipe, ("rgb",))).n_frames == 50


@knob("picture.short_side", 240)
def _(recipe, tmp):
    image, picture = first_image(tmp, recipe)
    np.testing.assert_array_equal(image, middle(np.asarray(picture.resize((326, 240), Image.Resampling.BILINEAR))))


@knob("picture.longer_side", "int")
def _(recipe, tmp):
    """640·256/471 = 347.9: 346 as an even number, 347 cut off."""
    image, picture = first_image(tmp, recipe)
    np.testing.assert_array_equal(image, middle(np.asarray(picture.resize((347, 256), Image.Resampling.BILINEAR))))


@knob("picture.resize", "opencv")
def _(recipe, tmp):
    image, picture = first_image(tmp, recipe)
    np.testing.assert_array_equal(image, middle(cv2.resize(np.asarray(picture), (346, 256), interpolation=cv2.INTER_LINEAR)))


@knob("picture.crop", 192)
def _(recipe, tmp):
    raise AssertionError("no other size is possible")  # see the test below


@knob("rgb.window", 12)
def _(recipe, tmp):
    assert numbered(tmp, recipe, "rgb")[1].shape == (25, 12)


@knob("rgb.first", -4)
def _(recipe, tmp):
    prepared, greys = numbered(tmp, recipe, "rgb")
    assert (greys == np.clip(prepared.centres[:, None] + np.arange(-4, 12), 0, 39)).all()


@knob("rgb.step", 2)
def _(recipe, tmp):
    prepared, greys = numbered(tmp, recipe, "rgb")
    assert (greys == np.clip(prepared.centres[:, None] + np.arange(-8, 24, 2), 0, 39)).all()


@knob("rgb.edge", "zero")
def _(recipe, tmp):
    prepared, greys = numbered(tmp, recipe, "rgb")
    frames = prepared.centres[:, None] + np.arange(-8, 8)
    assert (greys == np.where((frames < 0) | (frames > 39), -1, frames)).all() and (greys == -1).any()


@knob("rgb.order", "bgr")
def _(recipe, tmp):
    image, picture = first_image(tmp, recipe, (256, 256))
    np.testing.assert_array_equal(image, middle(np.asarray(picture))[..., ::-1])


@knob("rgb.mean", [10.0, 20.0, 30.0])
def _(recipe, tmp):
    scale, offset = scaling(recipe, "rgb")
    np.testing.assert_allclose(100 * scale + offset, (100 - np.array([10, 20, 30])) / 127.5, rtol=1e-6)


@knob("rgb.std", [1.0, 2.0, 3.0])
def _(recipe, tmp):
    scale, offset = scaling(recipe, "rgb")
    np.testing.assert_allclose(100 * scale + offset, (100 - 127.5) / np.array([1, 2, 3]), rtol=1e-6)


@knob("flow.window", 12)
def _(recipe, tmp):
    assert numbered(tmp, recipe, "flow")[1].shape == (25, 12)


@knob("flow.first", -4)
def _(recipe, tmp):
    prepared, greys = numbered(tmp, recipe, "flow")
    assert (greys == np.clip(prepared.centres[:, None] + np.arange(-4, 12), 0, 39)).all()


@knob("flow.step", 2)
def _(recipe, tmp):
    prepared, greys = numbered(tmp, recipe, "flow")
    assert (greys == np.clip(prepared.centres[:, None] + np.arange(-8, 24, 2), 0, 39)).all()


@knob("flow.edge", "zero")
def _(recipe, tmp):
    prepared, greys = numbered(tmp, recipe, "flow")
    frames = prepared.centres[:, None] + np.arange(-8, 8)
    assert (greys == np.where((frames < 0) | (frames > 39), -1, frames)).all() and (greys == -1).any()


@knob("flow.mean", [10.0, 20.0])
def _(recipe, tmp):
    scale, offset = scaling(recipe, "flow")
    np.testing.assert_allclose(100 * scale + offset, (100 - np.array([10, 20])) / 127.5, rtol=1e-6)


@knob("flow.std", [1.0, 2.0])
def _(recipe, tmp):
    scale, offset = scaling(recipe, "flow")
    np.testing.assert_allclose(100 * scale + offset, (100 - 127.5) / np.array([1, 2]), rtol=1e-6)


def moved(tmp: Path, recipe: Recipe) -> tuple[np.ndarray, tuple[np.ndarray, np.ndarray]]:
    """Flow of a moving texture as the network sees it, and the two grey frames of 256 px."""
    scene = cv2.GaussianBlur(np.random.default_rng(1).uniform(0, 255, (270, 280)), (0, 0), 4)
    scene = cv2.normalize(scene, None, 0, 255, cv2.NORM_MINMAX).astype(np.uint8)
    for t in range(2):
        Image.fromarray(scene[: 256 - 3 * t or None, 4 - 2 * t : 260 - 2 * t][:253]).save(tmp / f"{t}.png")
    frames = [np.asarray(Image.open(tmp / f"{t}.png").convert("L").resize((258, 256), 2)) for t in range(2)]
    image = preparation.prepare_clip(clips_job.ClipJob(tmp, ("flow",), recipe)).windows["flow"].images[0]
    return image, (frames[0], frames[1])


def floored(motion: np.ndarray, bound: float = 20.0) -> np.ndarray:
    return middle((np.clip((motion + bound) / (2 * bound), 0, 1) * 255).astype(np.uint8))


def dis(frames: tuple[np.ndarray, np.ndarray]) -> np.ndarray:
    return cv2.DISOpticalFlow.create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM).calc(*frames, None)


@knob("flow.algorithm", "dis")
def _(recipe, tmp):
    image, frames = moved(tmp, recipe)
    np.testing.assert_array_equal(image, floored(dis(frames)))


@knob("flow.median", 0)
def _(recipe, tmp):
    image, frames = moved(tmp, recipe)
    plain, filtered = cv2.optflow.createOptFlow_DualTVL1(), cv2.optflow.createOptFlow_DualTVL1()
    plain.setMedianFiltering(1)
    np.testing.assert_array_equal(image, floored(plain.calc(*frames, None)))
    assert (image != floored(filtered.calc(*frames, None))).any()


@knob("flow.bound", 1.0)
def _(recipe, tmp):
    recipe = replace(recipe, flow=replace(recipe.flow, algorithm="dis"))
    image, frames = moved(tmp, recipe)
    np.testing.assert_array_equal(image, floored(dis(frames), 1.0))


@knob("flow.quantiser", "round")
def _(recipe, tmp):
    recipe = replace(recipe, flow=replace(recipe.flow, algorithm="dis"))
    image, frames = moved(tmp, recipe)
    np.testing.assert_array_equal(image, middle(np.rint(np.clip((dis(frames) + 20) / 40, 0, 1) * 255).astype(np.uint8)))


def pairs_of(tmp: Path, recipe: Recipe) -> set[tuple[int, int]]:
    """The frames between which flow is computed."""
    for t in range(FRAMES):
        Image.new("L", (256, 256), t).save(tmp / f"{t}.png")
    pairs = preparation.prepare_clip(clips_job.ClipJob(tmp, ("flow",), recipe, flow_by="device")).pairs
    assert pairs is not None
    return {(int(a), int(b)) for a, b in pairs.grey[:, 0, 0][pairs.rows]}


@knob("flow.stride", 2)
def _(recipe, tmp):
    assert pairs_of(tmp, recipe) == {(t, t + 2) for t in range(0, FRAMES - 2, 2)}


@knob("flow.dilation", 3)
def _(recipe, tmp):
    assert pairs_of(tmp, recipe) == {(t, t + 3) for t in range(FRAMES - 3)}


@knob("flow.stored", "keep")
def _(recipe, tmp):
    """A byte of 100 means −5.4 px at a bound of 25, which is 93 at ±20; kept, it stays 100."""
    for folder in ("rgb", "x", "y"):
        (tmp / folder).mkdir()
        Image.new("L", (256, 256), 100).save(tmp / folder / "1.png")
    job = clips_job.ClipJob(tmp / "rgb", ("flow",), recipe, rate=25.0, stored_flow=clips_job.StoredFlow(tmp, 25.0, 25.0))
    rescaled = replace(job, recipe=recipes.load("kinetics"))
    values = [int(preparation.prepare_clip(each).windows["flow"].images[0, 0, 0, 0]) for each in (job, rescaled)]
    assert values == [100, int(((100 / 255 - 0.5) * 50 + 20) / 40 * 255)]


# Sound: every knob against librosa's formula, by torch, over the whole recording.


def sound(tmp: Path, recipe: Recipe, seconds: float = 6.0) -> None:
    rule, rate = recipe.audio, recipe.audio.rate
    path = write_wav(tmp / "v.wav", noise(seconds, rate=rate), rate)
    encode(tmp / "v.mp4", round(seconds * 25))
    prepared = preparation.prepare_clip(clips_job.ClipJob(tmp / "v.mp4", ("audio",), recipe))
    assert not prepared.errors and prepared.present is not None and prepared.present.all()
    samples = samples_of(path, rate)
    half = (rule.seconds - 0.001) / 2  # TBN's windows: 0.639 to either side, 1.279 at the ends
    images = prepared.windows["audio"].images[..., 0]
    columns = 1 + (round(2 * half * rate) + rule.n_fft // 2 * 2 - rule.n_fft) // rule.hop
    ends = 0
    for image, centre in zip(images, prepared.centres / 25, strict=True):
        if centre < half:
            part, ends = samples[: round(rule.seconds * rate)], ends + 1
        elif centre + half > len(samples) / rate:
            part, ends = samples[-round(rule.seconds * rate) :], ends + 1
        else:
            part = samples[round((centre - half) * rate) : round((centre + half) * rate)]
        window = torch.hann_window(rule.win, dtype=torch.float64)
        stft = torch.stft(
            torch.from_numpy(part), rule.n_fft, rule.hop, rule.win, window, center=True, pad_mode="constant", return_complex=True
        )
        expected = torch.log(stft.abs() ** 2 + rule.log_offset).numpy()[:, :columns]
        assert image.shape == expected.shape
        np.testing.assert_allclose(image, expected, rtol=0, atol=1e-5)
    assert 0 < ends < len(images)


def samples_of(path: Path, rate: int) -> np.ndarray:
    if rate == 24_000:
        return read_wav(path) / 32768
    import wave

    with wave.open(str(path), "rb") as file:
        assert file.getframerate() == rate
        return np.frombuffer(file.readframes(file.getnframes()), "<i2") / 32768


for _name, _value in {
    "rate": 16_000, "seconds": 2.0, "n_fft": 1023, "win": 480, "hop": 240, "log_offset": 1e-3,
}.items():  # fmt: skip
    knob(f"audio.{_name}", _value)(lambda recipe, tmp: sound(tmp, recipe))


@knob("network.bn_eps", 0.5)
def _(recipe, tmp):
    """Random weights have a variance of 1: each folded kernel is divided by √(1 + eps)."""
    made = weights.load("i3d", "rgb", "random", print)
    plain = made.tensors["Conv3d_1a_7x7/conv_3d/w"]
    settings = extraction_settings.Settings(
        dataset="d",
        manifest=manifest.check("t", [{"clip": "a", "path": "a", "label": "x", "split": "train"}]),
        root=tmp,
        out=tmp / "f.h5",
        modalities=("rgb",),
        recipe=recipe,
        weights=("random",),
        engine="eager",
    )
    extraction = pipeline.Extraction(settings, lambda line: None)
    image = torch.zeros(1, 3, 16, 224, 224)
    image[0, 0, 8, 112, 112] = 1.0  # an impulse: what comes out depends on all kernels
    built = weights.build("i3d", "rgb", made, eps=0.5).fold()
    folded = dict(built.named_parameters())["trunk.Conv3d_1a_7x7.conv.weight"].detach().numpy()
    np.testing.assert_allclose(folded, plain.transpose(4, 3, 0, 1, 2) / np.sqrt(1.5), rtol=1e-6)
    with torch.inference_mode():
        expected = built(image).mean(dim=2)
    torch.testing.assert_close(extraction.engines["rgb"].run(image), expected, rtol=1e-3, atol=1e-6)


@knob("network.reduce", "pairs")
def _(recipe, tmp):
    """The mean of the means of neighbouring time slices: the ends count half."""
    slices = torch.randn(1, 4, 3, 7, 7, generator=torch.Generator().manual_seed(0))
    run = engines.build(nn.Identity(), recipe, slices, torch.device("cpu"), "eager").run
    expected = ((slices[:, :, 0] + slices[:, :, 1]) / 2 + (slices[:, :, 1] + slices[:, :, 2]) / 2) / 2
    torch.testing.assert_close(run(slices), expected)


@pytest.mark.parametrize("name", [name for name in EFFECTS if name != "picture.crop"])
def test_a_knob_changes_what_it_says(tmp_path, name):
    value, check = EFFECTS[name]
    plain, changed = recipes.load("kinetics"), recipes.load("kinetics", {name: value})
    assert plain.sha256() != changed.sha256()
    if name in {"flow.median"}:  # the reference is OpenCV's own
        assert clips_job.ClipJob(tmp_path, (), changed).flow_by == "opencv"
    check(changed, tmp_path)


@pytest.mark.parametrize("name", [name for name in EFFECTS if not name.startswith(("audio", "picture.crop", "flow.median"))])
def test_the_check_of_a_knob_notices_when_nothing_changed(tmp_path, name):
    """Each check above fails for the recipe as it is, so none of them is empty."""
    with pytest.raises(AssertionError):
        EFFECTS[name][1](recipes.load("kinetics"), tmp_path)


def test_the_crop_cannot_be_another_since_maps_would_not_be_7x7():
    for name in recipes.NAMES:
        with pytest.raises(UsageError, match="7×7 from 224 px only"):
            recipes.load(name, {"picture.crop": 192})


def test_longer_sound_windows_mask_recordings_that_are_too_short(tmp_path):
    """Two seconds of sound fill a window of 1.279 s, not one of 2.5 s."""
    write_wav(tmp_path / "v.wav", noise(2.0))
    encode(tmp_path / "v.mp4", 50)
    for seconds, present in ((1.279, True), (2.5, False)):
        recipe = recipes.load("kinetics", {"audio.seconds": seconds})
        prepared = preparation.prepare_clip(clips_job.ClipJob(tmp_path / "v.mp4", ("audio",), recipe))
        assert prepared.present is not None and prepared.present.tolist() == [present] * 25


def test_networks_take_sound_of_another_length(tmp_path):
    recipe = recipes.load("tbn-epic55", {"audio.seconds": 2.0})
    assert recipe.audio.shape == tuple(streams.example(recipe, "audio").shape[2:]) == (256, 400)


def test_every_knob_has_its_check():
    """Whoever adds a knob says here what it changes."""
    sections = {s: knobs for s, knobs in asdict(recipes.load("kinetics")).items() if isinstance(knobs, dict)}
    assert set(EFFECTS) == {f"{section}.{name}" for section, knobs in sections.items() for name in knobs}
