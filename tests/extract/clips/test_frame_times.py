"""When frames are shown, and whether a video is whole: recorders that drop frames, pauses, slow last frames."""

import contextlib
from fractions import Fraction

import av
import numpy as np
import pytest
from cia_extract import clips
from cia_extract.common.outcomes import ClipError
from PIL import Image

from tests.extract import avi_file


def numbers(frames) -> list[int]:
    return [round(float(frame.image.mean()) / 5) for frame in frames]


def slots(frames) -> list[int]:
    return [round(frame.time * 25) for frame in frames]


DROPPED = {
    "one": [0, 1, None, 3, 4, 5],
    "many": [0, 1, *[None] * 20, 22, 23],
    "at the start": [None, None, 2, 3, 4],
    "at the end": [0, 1, 2, *[None] * 30],
    "every second": [0, None, 2, None, 4, None, 6, None],
    "none": list(range(9)),
}


@pytest.mark.parametrize("index", [True, False])
@pytest.mark.parametrize("shown", DROPPED.values(), ids=DROPPED)
def test_times_of_an_avi_count_the_frames_that_its_recorder_dropped(tmp_path, shown, index):
    path = avi_file.write(tmp_path / "a.avi", shown, index=index or shown[-1] is None)
    frames = list(clips.decode(path))
    present = [t for t in shown if t is not None]
    assert numbers(frames) == present and slots(frames) == present
    assert numbers(clips.decode(path, 0.04, 0.16)) == [t for t in present if 1 <= t < 4]
    whole = numbers(clips.decode(path, rate=25.0))
    assert whole == [max((k for k in present if k <= t), default=None) for t in range(present[0], present[-1] + 1)]


@pytest.mark.parametrize(("codec", "b_frames"), [("mpeg4", 0), ("mpeg4", 2), ("libx264", 0), ("libx264", 3)])
def test_dropped_frames_are_counted_where_the_decoder_reorders(tmp_path, codec, b_frames):
    present = [t for t in range(60) if not 10 <= t < 13 and not 40 <= t < 52]
    with av.open(str(tmp_path / "a.avi"), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.max_b_frames = b_frames
        for t in present:
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 4 * t, np.uint8), format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, 25)
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    assert slots(clips.decode(tmp_path / "a.avi")) == present
    assert slots(clips.decode(tmp_path / "a.avi", 1.0, 2.2)) == [t for t in present if 25 <= t < 55]


def test_an_avi_shorter_than_its_header_says_is_refused(tmp_path):
    whole = avi_file.write(tmp_path / "a.avi", list(range(40))).read_bytes()
    (tmp_path / "a.avi").write_bytes(whole[: whole.index(avi_file.picture(24)) - 8])
    with pytest.raises(ClipError, match="truncated, 24/40 frames could be decoded"):
        list(clips.decode(tmp_path / "a.avi"))
    (tmp_path / "a.avi").write_bytes(b"RIFF" + whole[4:100])
    with pytest.raises(ClipError):
        list(clips.decode(tmp_path / "a.avi"))


def long_last(path, last: int, codec="libx264", frames=10):
    """The last frame is shown for `last` frame times of 40 ms."""
    with av.open(str(path), "w") as container:
        stream = container.add_stream(codec, rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.max_b_frames = 0
        packets = []
        for t in range(frames):
            frame = av.VideoFrame.from_ndarray(np.full((48, 64, 3), 20 * t, np.uint8), format="rgb24")
            frame.pts, frame.time_base = t, Fraction(1, 25)
            packets += stream.encode(frame)
        packets += stream.encode()
        for t, packet in enumerate(packets):
            packet.duration = last if t == frames - 1 else 1
            container.mux(packet)
    return path


@pytest.mark.parametrize("name", ["a.mp4", "a.mov", "a.mkv", "a.webm", "a.gif"])
def test_a_video_whose_last_frame_is_shown_long_is_whole(tmp_path, name):
    path = tmp_path / name
    if name.endswith("gif"):
        images = [Image.fromarray(np.full((48, 64, 3), 20 * t, np.uint8)) for t in range(10)]
        images[0].save(path, save_all=True, append_images=images[1:], duration=[40] * 9 + [3000])
    else:
        long_last(path, 75, "libvpx" if name.endswith("webm") else "libx264")
    frames = list(clips.decode(path))
    assert len(frames) == 10 and frames[-1].time == pytest.approx(0.36, abs=0.002)
    assert len(list(clips.decode(path, 0.2))) == 5


@pytest.mark.parametrize("name", ["a.mp4", "a.gif"])
def test_a_last_frame_that_is_shown_long_is_repeated_at_a_rate(tmp_path, name):
    path = tmp_path / name
    if name.endswith("gif"):
        images = [Image.fromarray(np.full((48, 64, 3), 20 * t, np.uint8)) for t in range(10)]
        images[0].save(path, save_all=True, append_images=images[1:], duration=[40] * 9 + [1000])
    else:
        long_last(path, 25)
    assert len(list(clips.decode(path, rate=25.0))) == 9 + 25
    assert len(list(clips.decode(path, 0.0, 1.0, rate=25.0))) == 25


@pytest.mark.parametrize("sound", [False, True])
@pytest.mark.parametrize("name", ["a.mkv", "a.mp4", "a.flv", "a.avi"])
def test_a_truncated_video_is_refused_and_a_whole_one_with_longer_sound_is_not(tmp_path, name, sound):
    path = tmp_path / name
    with av.open(str(path), "w", options={"movflags": "faststart"} if name.endswith("mp4") else {}) as container:
        stream = container.add_stream("flv" if name.endswith("flv") else "mpeg4", rate=25)
        stream.width, stream.height, stream.pix_fmt = 64, 48, "yuv420p"
        stream.codec_context.gop_size = 1
        track = container.add_stream("mp3", rate=44100) if sound else None
        for t in range(100):
            noise = np.random.default_rng(t).integers(0, 255, (48, 64, 3), np.uint8)
            container.mux(stream.encode(av.VideoFrame.from_ndarray(noise, format="rgb24")))
            if track is not None:
                tone = av.AudioFrame.from_ndarray(np.zeros((2, 44100 // 25 + 600), np.float32), "fltp", "stereo")  # 5.4 s
                tone.rate = 44100
                container.mux(track.encode(tone))
        container.mux(stream.encode())
        if track is not None:
            container.mux(track.encode())
    whole = path.read_bytes()
    assert len(list(clips.decode(path))) == 100
    for place in range(50, 70):  # until the cut breaks no frame, so that the decoder has nothing to complain of
        path.write_bytes(whole[: len(whole) * place // 100])
        with av.open(str(path)) as container, contextlib.suppress(av.FFmpegError):
            decoded = sum(1 for _ in container.decode(video=0))
            break
    count = f"{decoded}/100 frames could be" if path.suffix in {".mp4", ".avi"} else rf"end at {decoded / 25:.2f} s of"
    with pytest.raises(ClipError, match=count) as error:
        list(clips.decode(path))
    assert error.value.outcome.name == "partial decode" and 30 < decoded < 80
