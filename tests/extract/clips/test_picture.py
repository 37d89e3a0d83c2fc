import numpy as np
import pytest
from cia_extract import recipes
from cia_extract.clips import picture

PICTURE = recipes.load("kinetics").picture


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [(240, 320, (256, 340)), (240, 560, (256, 596)), (256, 340, (256, 340)), (1080, 1920, (256, 454)), (480, 360, (340, 256))],
)
def test_shorter_side_becomes_256_and_the_other_even(height, width, expected):
    assert picture.scaled_size(height, width) == expected
    assert picture.resize(np.zeros((height, width, 3), np.uint8), PICTURE).shape == (*expected, 3)


def test_downscaling_averages_instead_of_dropping_pixels():
    """Columns 0, 255, 0, 255, … of a 1080p frame must become grey; plain bilinear keeps stripes or one of the two."""
    frame = np.zeros((1080, 1920, 3), np.uint8)
    frame[:, ::2] = 255
    assert picture.resize(frame, PICTURE)[:, 4:-4].std() < 12
    assert abs(picture.resize(frame, PICTURE).mean() - 127.5) < 2


def test_resize_keeps_a_linear_ramp():
    """An independent expectation: bilinear interpolation of a ramp is the ramp at the new pixel centres."""
    ramp = np.repeat(np.linspace(0, 255, 320).astype(np.uint8)[None, :, None], 240, axis=0).repeat(3, axis=2)
    scaled = picture.resize(ramp, PICTURE)[128, :, 0].astype(float)
    centres = (np.arange(340) + 0.5) * 320 / 340 - 0.5
    assert np.abs(scaled - np.interp(centres, np.arange(320), ramp[0, :, 0])).max() <= 1.0


def test_centre_crop():
    image = np.arange(256 * 340).reshape(256, 340)
    crop = picture.centre_crop(image)
    assert crop.shape == (224, 224)
    assert crop[0, 0] == 16 * 340 + 58


def test_other_recipes_resize_as_they_say():
    """OpenCV's plain bilinear drops pixels where Pillow's averages; the longer side is rounded in three ways."""
    frame = np.zeros((1080, 1920, 3), np.uint8)
    frame[:, ::2] = 255
    plain = picture.resize(frame, recipes.load("kinetics", {"picture.resize": "opencv"}).picture)
    assert plain.shape == (256, 454, 3) and plain.std() > 40
    small = np.zeros((240, 320, 3), np.uint8)
    assert picture.resize(small, recipes.load("video_features").picture).shape == (256, 341, 3)
    assert picture.resize(frame, recipes.load("tbn-epic55").picture).shape == (256, 456, 3)  # EPIC's own frames
    assert picture.resize(small, recipes.load("transvae").picture).shape == (224, 298, 3)


def test_grey_is_luma_of_rgb_not_bgr():
    red = np.zeros((4, 4, 3), np.uint8)
    red[..., 0] = 255
    assert picture.grey(red)[0, 0] == round(0.299 * 255)
