"""Cuts: start and stop as people write them, in every kind of clip."""

import itertools
from fractions import Fraction

import av
import numpy as np
import pytest
from cia_extract import clips
from cia_extract.clips.cuts import frame_number
from cia_extract.common.outcomes import ClipError
from PIL import Image

RATES = ["24000/1001", "25", "30000/1001", "30", "50", "60000/1001", "60"]
# Their clocks: 1/12800 s or the like, 1/1000, 1/90000, frames.
CONTAINERS = {"mp4": {}, "mkv": {}, "mov": {"video_track_timescale": "90000"}, "avi": {}}
COUNT = 40


def film(path, rate: Fraction, codec="libx264", times=None, count=COUNT, **options):
    """Frame t has grey level 5·t; `times` in ticks of 1/rate."""
    with av.open(str(path), "w", options=options) as container:
        stream = container.add_stream(codec, rate=rate, options={"qp": "0"} if codec == "libx264" else {})
        stream.width, stream.height, stream.pix_fmt = 32, 32, "yuv420p"
        for t in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 5 * t, np.uint8), format="rgb24")
            frame.pts, frame.time_base = (times[t] if times else t), 1 / rate
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def numbers(frames) -> list[int]:
    return [round(float(frame.image.mean()) / 5) for frame in frames]


@pytest.mark.parametrize("rate", RATES)
@pytest.mark.parametrize("suffix", CONTAINERS)
def test_consecutive_cuts_share_no_frame_and_lose_none_whatever_digits_are_written(tmp_path, suffix, rate):
    path = film(tmp_path / f"a.{suffix}", Fraction(rate), "ffv1" if suffix == "avi" else "libx264", **CONTAINERS[suffix])
    edges = [4, 5, 11, 17, 24, 30]
    for digits in (3, 4, 6):
        at = [float(f"{k / float(Fraction(rate)):.{digits}f}") for k in edges]
        cuts = [numbers(clips.decode(path, start, stop)) for start, stop in itertools.pairwise(at)]
        assert cuts == [list(range(a, b)) for a, b in itertools.pairwise(edges)], digits


@pytest.mark.parametrize("rate", ["25", "30000/1001", "60"])
def test_a_frame_folder_and_a_film_at_its_own_rate_are_cut_like_the_film(tmp_path, rate):
    """Edges anywhere between frames, half-way ones too: all kinds of clip give the same frames."""
    path = film(tmp_path / "a.mp4", Fraction(rate))
    folder = tmp_path / "frames"
    folder.mkdir()
    for t in range(COUNT):
        Image.new("RGB", (8, 8), (5 * t,) * 3).save(folder / f"frame_{t + 1:010d}.png")
    step = 1 / float(Fraction(rate))
    for start, stop in [(0.1, 0.3), (3.5 * step, 7.5 * step), (3.44 * step, 7.46 * step), (0.123, 0.456), (0.0, 0.2)]:
        plain = numbers(clips.decode(path, start, stop))
        assert numbers(clips.decode(folder, start, stop, float(Fraction(rate)))) == plain
        assert numbers(clips.decode(path, start, stop, float(Fraction(rate)))) == plain
        assert plain == list(range(frame_number(start, float(Fraction(rate))), frame_number(stop, float(Fraction(rate)))))


def test_a_frame_that_is_shown_long_is_not_taken_into_a_cut_far_before_it(tmp_path):
    """Variable rate: the tolerance is of the frame's own interval, not of the pause after it."""
    path = film(tmp_path / "a.mkv", Fraction(25), times=[*range(10), *range(60, 60 + COUNT - 10)])
    assert numbers(clips.decode(path, 0.0, 0.36)) == list(range(9))
    assert numbers(clips.decode(path, 0.36, 2.4)) == [9]
    assert numbers(clips.decode(path, 2.4, 2.48)) == [10, 11]


@pytest.mark.parametrize("kind", ["film", "film at a rate", "folder"])
def test_a_stop_far_past_the_end_is_refused_for_videos_and_folders(tmp_path, kind):
    rate = 0.0 if kind == "film" else 25.0
    if kind == "folder":
        path = tmp_path / "frames"
        path.mkdir()
        for t in range(COUNT):
            Image.new("RGB", (8, 8), (5 * t,) * 3).save(path / f"{t + 1}.png")
    else:
        path = film(tmp_path / "a.mp4", Fraction(25))
    for start, stop in [(1.0, 1.6), (1.0, 1.69), (None, 1.68)]:  # 1.6 s long; 0.1 s and 5 % are tolerated
        assert len(list(clips.decode(path, start, stop, rate))) == (40 if start is None else 15)
    for start, stop in [(1.0, 1.8), (None, 2.0), (1.0, 1e300)]:
        with pytest.raises(ClipError, match=r"the clip ends at 1\.60 s, but stop is") as error:
            list(clips.decode(path, start, stop, rate))
        assert error.value.outcome.name == "partial decode"
    for start, stop in [(1.6, 1.7), (9.0, None), (1e300, None)]:
        with pytest.raises(ClipError, match=r"the clip ends at 1\.60 s, but start is"):
            list(clips.decode(path, start, stop, rate))


def test_a_short_stream_without_an_index_can_be_cut(tmp_path):
    """Going to the start of a cut in a .ts led behind its only key frame, and nothing could be decoded."""
    path = film(tmp_path / "a.ts", Fraction(25), "libx264", count=24)
    assert numbers(clips.decode(path, 0.2, 0.6)) == list(range(5, 15))


def test_a_time_that_jumps_by_days_does_not_fill_the_memory(tmp_path):
    path = film(tmp_path / "a.mkv", Fraction(25), times=[*range(COUNT - 1), 25 * 3600 * 24])
    with pytest.raises(ClipError, match=r"times jump from 1\.52 to 86400\.00 s"):
        for count, _ in enumerate(clips.decode(path, rate=60.0)):
            assert count < 1000
