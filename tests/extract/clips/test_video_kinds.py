"""Kinds of files that cameras and editors write: trimmed by an edit list, of ten bits, with transparency."""

import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from cia_extract import clips
from cia_extract.clips.audio import spectrograms

from tests.extract.clips.test_audio import noise
from tests.extract.clips.test_audio_files import with_tracks
from tests.extract.clips.test_video import encode, levels


def trimmed(path: Path, from_s: float, length_s: float) -> Path:
    """The same file, of which players show `length_s` seconds from `from_s` on: all tracks' edit lists are changed."""
    whole = bytearray(path.read_bytes())
    movie_scale = struct.unpack_from(">I", whole, whole.index(b"mvhd") + 16)[0]
    at = whole.find(b"elst")
    assert at > 0, "this build writes no edit lists"
    while at > 0:
        media_scale = struct.unpack_from(">I", whole, whole.index(b"mdhd", at) + 16)[0]
        assert struct.unpack_from(">I", whole, at + 8) == (1,)
        begin = struct.unpack_from(">i", whole, at + 16)[0]  # B frames put it after zero
        struct.pack_into(">Ii", whole, at + 12, round(length_s * movie_scale), begin + round(from_s * media_scale))
        at = whole.find(b"elst", at + 4)
    path.write_bytes(whole)
    return path


@pytest.mark.parametrize("b_frames", [0, 2])
def test_a_clip_trimmed_by_an_edit_list_begins_where_players_begin(tmp_path, b_frames):
    """Phones trim without encoding again: what is before the cut is still in the file."""
    path = trimmed(encode(tmp_path / "a.mp4", 24, b_frames=b_frames), 0.4, 0.56)
    frames = list(clips.decode(path))
    assert levels(frames) == list(range(10, 24))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(14) / 25, atol=1e-3)
    assert levels(clips.decode(path, 0.2, 0.4)) == list(range(15, 20))


def test_the_sound_of_a_trimmed_clip_is_trimmed_with_it(tmp_path):
    whole = with_tracks(tmp_path / "a.mov", [(noise(5), Disposition.default)])
    expected = spectrograms(whole, np.array([1.4, 2.4]))
    assert whole.read_bytes().count(b"elst") == 2
    sound = spectrograms(trimmed(whole, 0.4, 4.6), np.array([1.0, 2.0]))
    np.testing.assert_allclose(sound.images, expected.images, atol=1e-4)


SCENE = np.random.default_rng(0).integers(0, 256, (3, 4, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)  # [48, 64, 3]
MIDDLES = np.s_[8::16, 8::16]  # of the squares: chroma, of half the size, is mixed at their edges


def written(path: Path, codec: str, pixels: str, picture: np.ndarray, form: str, **options: str) -> Path:
    """Five frames of one picture. Skips where this build of ffmpeg lacks the encoder, or has it without such pixels."""
    try:
        encoder = av.Codec(codec, "w")
    except av.codec.codec.UnknownCodecError:
        pytest.skip(f"this build of ffmpeg has no encoder {codec}")
    if pixels not in {known.name for known in encoder.video_formats or ()}:
        pytest.skip(f"this build's {codec} has no {pixels}")
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25, options=options)
        stream.width, stream.height, stream.pix_fmt = 64, 48, pixels
        for t in range(5):
            frame = av.VideoFrame.from_ndarray(picture, format=form).reformat(format=pixels)
            frame.pts, frame.time_base = t, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


TEN_BITS = [("libx264", "yuv420p10le", {"qp": "1"}), ("libx265", "yuv420p10le", {"x265-params": "lossless=1:log-level=none"}),
            ("ffv1", "yuv420p10le", {}), ("prores_ks", "yuv422p10le", {})]  # fmt: skip


@pytest.mark.parametrize(("codec", "pixels", "options"), TEN_BITS)
def test_pixels_of_ten_bits_are_those_of_eight(tmp_path, codec, pixels, options):
    """Within 3 of 255, a level of YUV in RGB and the codec's loss: neither four times too dark nor cut off at white."""
    eight = written(tmp_path / "eight.mkv", "ffv1", "yuv420p", SCENE, "rgb24")
    ten = written(
        tmp_path / "ten.mov" if codec == "prores_ks" else tmp_path / "ten.mkv", codec, pixels, SCENE, "rgb24", **options
    )
    expected, frames = next(clips.decode(eight)).image, list(clips.decode(ten))
    assert len(frames) == 5 and all(frame.image.dtype == np.uint8 and frame.image.shape == (48, 64, 3) for frame in frames)
    for frame in frames:
        np.testing.assert_allclose(frame.image[MIDDLES].astype(int), expected[MIDDLES].astype(int), atol=3)


ALPHA = [("ffv1", "yuva420p", "mkv"), ("ffv1", "bgra", "mkv"), ("png", "rgba", "mov"), ("qtrle", "argb", "mov"),
         ("prores_ks", "yuva444p10le", "mov")]  # fmt: skip


@pytest.mark.parametrize(("codec", "pixels", "suffix"), ALPHA)
def test_pixels_of_a_clip_with_transparency_are_those_of_the_opaque_one(tmp_path, codec, pixels, suffix):
    """Transparency is left out, as OpenCV and decord do: within 3 of 255, as above, also where nothing would be seen."""
    alpha = np.repeat(np.linspace(0, 255, 64).astype(np.uint8)[None], 48, 0)[..., None]
    path = written(tmp_path / f"a.{suffix}", codec, pixels, np.concatenate([SCENE, alpha], 2), "rgba")
    (frame, *rest) = clips.decode(path)
    assert len(rest) == 4 and frame.image.shape == (48, 64, 3)
    np.testing.assert_allclose(frame.image[MIDDLES].astype(int), SCENE[MIDDLES].astype(int), atol=3)
