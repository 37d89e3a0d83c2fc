import shutil
from pathlib import Path

import av
import numpy as np
import pytest
from cia_extract import clips
from cia_extract.common.errors import DataError


def encode(path: Path, count: int, rate: int = 25, codec: str = "libx264", b_frames: int = 2, gop: int = 250) -> Path:
    """A clip whose frame t has grey level 8·t (mod 200), so that order and identity of decoded frames can be told."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=rate)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.max_b_frames = b_frames
        stream.codec_context.gop_size = gop
        for t in range(count):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 8 * t % 200, np.uint8), format="rgb24")
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path


def levels(frames) -> list[int]:
    return [round(float(frame.image.mean()) / 8) for frame in frames]


def test_frames_come_in_presentation_order_and_none_is_lost(tmp_path):
    """B frames are stored out of order and the last ones only come when the decoder is flushed."""
    path = encode(tmp_path / "clip.mp4", 24, b_frames=3)
    frames = list(clips.decode(path))
    assert levels(frames) == list(range(24))
    np.testing.assert_allclose([frame.time for frame in frames], np.arange(24) / 25, atol=1e-3)


@pytest.mark.parametrize(
    ("start", "stop", "expected"), [(0.4, 0.8, range(10, 20)), (0.8, None, range(20, 24)), (None, 0.12, range(3))]
)
def test_start_and_stop_cut_by_time(tmp_path, start, stop, expected):
    path = encode(tmp_path / "clip.mp4", 24)
    assert levels(clips.decode(path, start, stop)) == list(expected)


CONTAINERS = [
    ("mp4", "libx264"),
    ("mkv", "libx264"),
    ("ts", "libx264"),
    ("avi", "mpeg4"),
    ("mov", "mpeg4"),
    ("mpg", "mpeg2video"),
]


@pytest.mark.parametrize(("suffix", "codec"), CONTAINERS)
def test_cuts_equal_a_filtered_full_decode(tmp_path, suffix, codec):
    """Key frames every 12, two B frames: an index that leads behind the start must not cost frames. Tolerance 0.45 · 40 ms."""
    path = encode(tmp_path / f"clip.{suffix}", 120, codec=codec, gop=12)
    whole = list(clips.decode(path))
    assert len(whole) == 120
    times = [frame.time for frame in whole]
    assert times == sorted(times)
    for start in np.arange(0.1, 4.2, 0.31):
        stop = start + 0.2
        expected = [level for level, time in zip(levels(whole), times, strict=True) if start <= time + 0.018 < stop]
        assert levels(clips.decode(path, float(start), float(stop))) == expected, start


def test_times_of_a_real_avi_with_b_frames_rise(shared):
    path = next((shared / "clips/hmdb51/golf").glob("*.avi"))
    times = [frame.time for frame in clips.decode(path)]
    assert times == sorted(times) and len(set(times)) == 89


@pytest.mark.parametrize(("start", "stop"), [(None, 6.0), (2.0, 6.0), (5.0, 6.0)])
def test_a_cut_of_a_truncated_avi_is_refused(shared, tmp_path, start, stop):
    whole = (shared / "clips/ucf101/Archery/v_Archery_g02_c02.avi").read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match="truncated"):
        list(clips.decode(path, start, stop))
    assert len(list(clips.decode(path, 0.0, 2.0))) == 50, "what lies before the damage can be used"


def test_every_real_clip_decodes(shared):
    """Counts were taken once with a plain PyAV loop; HMDB headers promise one frame too many."""
    expected = {
        "ucf101/Archery/v_Archery_g02_c02.avi": 160,
        "ucf101/PushUps/v_PushUps_g01_c01.avi": 56,
        "hmdb51/wave/TrumanShow_wave_f_nm_np1_fr_med_26.avi": 48,
        "hmdb51/golf/Golf_Tips_-_Hit_The_Driver_300+_Yards!!!_golf_f_nm_np1_fr_med_0.avi": 89,
    }
    for name, count in expected.items():
        assert sum(1 for _ in clips.decode(shared / "clips" / name)) == count


def test_the_clip_with_broken_metadata_decodes(shared):
    """At least one HMDB clip makes a strict reader fail on its metadata."""
    failing = []
    for path in (shared / "clips/hmdb51").rglob("*.avi"):
        try:
            av.open(str(path), metadata_errors="strict").close()
        except UnicodeDecodeError:
            failing.append(path)
    assert failing, "the sample no longer holds a clip with broken metadata"
    for path in failing:
        assert sum(1 for _ in clips.decode(path)) > 20


@pytest.mark.parametrize("share", [0.05, 0.3, 0.5, 0.9])
def test_a_truncated_avi_is_refused(shared, tmp_path, share):
    """AVI decodes up to the cut without a complaint."""
    whole = (shared / "clips/ucf101/Archery/v_Archery_g02_c02.avi").read_bytes()
    path = tmp_path / "cut.avi"
    path.write_bytes(whole[: int(len(whole) * share)])
    with pytest.raises(DataError, match=r"cut\.avi"):
        list(clips.decode(path))


@pytest.mark.parametrize("content", [b"", b"not a video at all", bytes(1000)])
def test_a_file_that_is_no_video(tmp_path, content):
    path = tmp_path / "clip.mp4"
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be decoded"):
        list(clips.decode(path))


def test_a_missing_file(tmp_path):
    with pytest.raises(DataError, match="no such file"):
        list(clips.decode(tmp_path / "nothing.mp4"))


def test_sound_alone_is_no_clip(shared):
    with pytest.raises(DataError, match="no video stream"):
        list(clips.decode(shared / "clips/audio/mmaction2_test.wav"))


def test_frame_rate(tmp_path):
    assert clips.frame_rate(encode(tmp_path / "clip.mp4", 5, rate=30)) == 30


def test_names_with_odd_characters(tmp_path):
    path = encode(tmp_path / "a.mp4", 3)
    odd = tmp_path / "(HQ) clip [50%] ü ?&!.mp4"
    shutil.copy(path, odd)
    assert levels(clips.decode(odd)) == [0, 1, 2]
