"""Frames that come as files of unknown origin: what they show, or one line that says what is wrong."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from cia_extract import recipes
from cia_extract.clips import job, picture_file, preparation
from cia_extract.common.outcomes import ClipError
from PIL import Image, PngImagePlugin

SCENE = np.random.default_rng(0).integers(0, 255, (4, 5, 3), np.uint8).repeat(64, 0).repeat(64, 1)  # [256, 320, 3]


def raw_png(width: int, height: int, rows: bytes, depth: int = 8, colour: int = 2) -> bytes:
    """A PNG of these bytes, whatever they are."""

    def chunk(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def encoded(kind: str, image: Image.Image, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def test_alpha_is_dropped_and_the_colours_under_it_stay(tmp_path):
    rgba = np.concatenate([SCENE, np.zeros_like(SCENE[..., :1])], axis=2)
    (tmp_path / "1.png").write_bytes(encoded("PNG", Image.fromarray(rgba)))
    np.testing.assert_array_equal(picture_file.read(tmp_path / "1.png", "RGB"), SCENE)


@pytest.mark.parametrize("kind", ["grey", "RGB"])
def test_16_bit_pictures_keep_their_upper_8_bits_instead_of_turning_white(tmp_path, kind):
    values = np.random.default_rng(1).integers(0, 65536, (8, 9, 3), np.uint16)
    if kind == "grey":
        values = values[..., 0]
        content = encoded("PNG", Image.fromarray(values))
    else:
        content = raw_png(9, 8, b"".join(b"\0" + row.astype(">u2").tobytes() for row in values), depth=16)
    (tmp_path / "1.png").write_bytes(content)
    shown = picture_file.read(tmp_path / "1.png", "RGB")
    expected = (values >> 8).astype(np.uint8)
    np.testing.assert_array_equal(shown, np.repeat(expected[..., None], 3, 2) if kind == "grey" else expected)
    if kind == "grey":
        np.testing.assert_array_equal(picture_file.read(tmp_path / "1.png", "L"), expected)


def test_palettes_give_their_colours(tmp_path):
    image = Image.fromarray(SCENE).quantize(16)
    (tmp_path / "1.png").write_bytes(encoded("PNG", image))
    colours = np.asarray(image.getpalette(), np.uint8).reshape(-1, 3)[np.asarray(image)]
    np.testing.assert_array_equal(picture_file.read(tmp_path / "1.png", "RGB"), colours)


def test_a_cmyk_jpg_shows_its_colours(tmp_path):
    """cyan, magenta, yellow, key: R = (255 − C)(255 − K)/255. JPEG of one colour keeps it to a level or two."""
    (tmp_path / "1.jpg").write_bytes(encoded("JPEG", Image.new("CMYK", (64, 64), (200, 100, 50, 30)), quality=100))
    shown = picture_file.read(tmp_path / "1.jpg", "RGB")
    expected = (255 - np.array([200, 100, 50])) * (255 - 30) / 255
    assert np.abs(shown.astype(float) - expected).max() <= 3


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_phones_picture_is_turned_as_viewers_show_it(tmp_path, orientation):
    """EXIF's definition: the place of the stored row 0 and column 0 in what is shown."""
    shown = SCENE[::4, ::4]
    stored = {
        1: shown, 2: shown[:, ::-1], 3: shown[::-1, ::-1], 4: shown[::-1],
        5: shown.transpose(1, 0, 2), 6: np.rot90(shown), 7: shown[::-1, ::-1].transpose(1, 0, 2), 8: np.rot90(shown, -1),
    }[orientation]  # fmt: skip
    exif = Image.Exif()
    exif[0x0112] = orientation
    (tmp_path / "1.png").write_bytes(encoded("PNG", Image.fromarray(np.ascontiguousarray(stored)), exif=exif.tobytes()))
    np.testing.assert_array_equal(picture_file.read(tmp_path / "1.png", "RGB"), shown)
    grey = np.asarray(Image.fromarray(np.ascontiguousarray(stored)).convert("L"))
    np.testing.assert_array_equal(picture_file.read(tmp_path / "1.png", "L"), grey)  # stored flow is not turned


@pytest.mark.parametrize("exif", [b"Exif\0\0II*\0\xff\xff\xff\xff", b"Exif\0\0garbage", b"Exif\0\0", b"\xff" * 100])
def test_damaged_exif_costs_no_picture(tmp_path, exif):
    (tmp_path / "1.jpg").write_bytes(encoded("JPEG", Image.fromarray(SCENE), exif=exif))
    assert picture_file.read(tmp_path / "1.jpg", "RGB").shape == SCENE.shape


def text_bomb() -> bytes:
    info = PngImagePlugin.PngInfo()
    info.add_text("comment", "x" * 50_000_000, zip=True)
    return encoded("PNG", Image.new("RGB", (8, 8)), pnginfo=info)


JPG = encoded("JPEG", Image.fromarray(SCENE))
BROKEN = {
    "truncated.jpg": JPG[: len(JPG) // 2],
    "header.jpg": JPG[:30],
    "empty.jpg": b"",
    "text.jpg": b"this is no picture",
    "html.png": b"<html>404</html>",
    "bomb.png": raw_png(60_000, 60_000, b""),
    "warned.png": raw_png(10_000, 9_500, bytes(9_500)),  # Pillow warns only
    "large.png": raw_png(8_001, 8_001, bytes(100)),
    "text_bomb.png": text_bomb(),
    "no_pixels.png": raw_png(0, 0, b""),
    "cut.png": encoded("PNG", Image.fromarray(SCENE))[:100],
    "script.jpg": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\nshowpage\n",
    "lying.png": raw_png(320, 256, b"\0" * 100),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_broken_picture_is_one_line_about_its_file(tmp_path, name):
    (tmp_path / name).write_bytes(BROKEN[name])
    with pytest.raises(ClipError, match="cannot be read: it ") as error:
        picture_file.read(tmp_path / name, "RGB")
    text = str(error.value).removeprefix(str(tmp_path / name))
    assert "\n" not in text and error.value.outcome.name == "decode error"
    for raw in ("PIL", "image file", "Decompress", "Error", "cannot identify", "MAX_TEXT"):
        assert raw not in text


@pytest.mark.parametrize("kind", ["folder", "broken link", "pipe"])
def test_a_path_that_is_no_file_is_refused_without_hanging(tmp_path, kind):
    path = tmp_path / "img_00001.jpg"
    match kind:
        case "folder":
            path.mkdir()
        case "broken link":
            path.symlink_to(tmp_path / "gone.jpg")
        case "pipe":
            os.mkfifo(path)
    with pytest.raises(ClipError, match=r"img_00001\.jpg: cannot be read: it "):
        preparation.prepare_clip(job.ClipJob(tmp_path, ("rgb",), recipes.load("kinetics")))


def test_a_broken_frame_in_the_middle_costs_this_clip_one_line(tmp_path):
    for number in (1, 2, 3):
        (tmp_path / f"img_{number:05d}.jpg").write_bytes(JPG)
    (tmp_path / "img_00002.jpg").write_bytes(JPG[:500])
    with pytest.raises(ClipError, match=r"img_00002\.jpg: cannot be read: it is damaged or cut off; unpack the frames again$"):
        preparation.prepare_clip(job.ClipJob(tmp_path, ("rgb", "flow"), recipes.load("kinetics")))


def test_a_thousand_damaged_pictures_give_pixels_or_one_line(tmp_path):
    random = np.random.default_rng(7)
    for kind in ("JPEG", "PNG"):
        healthy = encoded(kind, Image.fromarray(SCENE[::8, ::8]))
        for _ in range(500):
            content = bytearray(healthy)
            for place in random.integers(0, len(content), random.integers(1, 8)):
                content[place] = random.integers(256)
            (tmp_path / "1.png").write_bytes(
                content[: random.integers(1, len(content) + 1)] if random.random() < 0.3 else content
            )
            try:
                assert picture_file.read(tmp_path / "1.png", "RGB").ndim == 3
            except ClipError as error:
                assert "\n" not in str(error)
