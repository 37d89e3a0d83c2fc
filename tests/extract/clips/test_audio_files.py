"""Sound in files as they come: several tracks, covers, and wavs that are damaged, of other formats, or none at all."""

import io
import resource
import struct
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from av.stream import Disposition
from cia_extract import recipes
from cia_extract.clips import job, preparation
from cia_extract.clips.audio import spectrograms
from cia_extract.common.outcomes import ClipError
from PIL import Image

from tests.extract.clips.test_audio import RATE, noise, write_video, write_wav
from tests.extract.clips.test_video import encode

CENTRES = np.array([1.0, 2.0])


def with_tracks(path: Path, tracks: list[tuple[np.ndarray, Disposition]]) -> Path:
    """A video of five seconds with these tracks of sound."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        streams = [container.add_stream("pcm_s16le", rate=RATE, layout="mono") for _ in tracks]
        for stream, (_, disposition) in zip(streams, tracks, strict=True):
            stream.disposition = disposition
        for i in range(50):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = i, Fraction(1, 10)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for stream, (samples, _) in zip(streams, tracks, strict=True):
            pcm = np.round(samples * 32767).astype("<i2")
            for start in range(0, len(pcm), 1024):
                frame = av.AudioFrame.from_ndarray(pcm[None, start : start + 1024], format="s16", layout="mono")
                frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), start
                container.mux(stream.encode(frame))
            container.mux(stream.encode(None))
    return path


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_sound_comes_from_the_track_that_players_choose(tmp_path, order):
    """A track for the hard of hearing beside the film's own, in either order."""
    kinds = [(noise(5, seed=1), Disposition.default), (noise(5, seed=2), Disposition.hearing_impaired)]
    path = with_tracks(tmp_path / "v.mkv", [kinds[k] for k in order])
    expected = spectrograms(write_wav(tmp_path / "alone.wav", kinds[0][0]), CENTRES)
    np.testing.assert_array_equal(spectrograms(path, CENTRES).images, expected.images)


def covered(path: Path) -> Path:
    """The MP4 with a cover picture before its film, as taggers write it: the picture becomes stream 0."""

    def box(name: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data) + 8) + name + data

    jpg = io.BytesIO()
    Image.new("RGB", (96, 96), (10, 200, 30)).save(jpg, "JPEG")
    tags = box(b"ilst", box(b"covr", box(b"data", struct.pack(">II", 13, 0) + jpg.getvalue())))
    udta = box(b"udta", box(b"meta", bytes(4) + box(b"hdlr", bytes(8) + b"mdirappl" + bytes(9)) + tags))
    content = path.read_bytes()
    begin = content.index(b"moov") - 4
    moov = content[begin + 8 :]
    first = struct.unpack(">I", moov[:4])[0]
    path.write_bytes(content[:begin] + box(b"moov", moov[:first] + udta + moov[first:]))
    return path


@pytest.mark.parametrize("starts", [0.0, 1.5])
def test_a_cover_does_not_move_the_sound(tmp_path, starts):
    """A click 2.5 s into the sound, seen from the frame that is shown then; the pictures may begin later than the sound."""
    samples = np.zeros(5 * RATE)
    samples[round(2.5 * RATE) : round(2.5 * RATE) + 24] = 0.5
    path = covered(write_video(tmp_path / "v.mp4", samples, video_starts=starts, codec="aac"))
    with av.open(str(path)) as container:
        assert [stream.type for stream in container.streams] == ["video", "video", "audio"]
    power = np.exp(spectrograms(path, np.array([2.5 - starts])).images[0]).sum(axis=0)
    assert abs(int(power.argmax()) - 128) <= 2


def wav(
    data: bytes, kind: int = 1, channels: int = 1, rate: int = RATE, bits: int = 16, fmt: int = 16, size: int | None = None
) -> bytes:
    """A wav of these bytes whose header says what it is told."""
    block = channels * bits // 8
    header = struct.pack("<HHIIHH", kind, channels, rate, rate * block & 0xFFFFFFFF, block, bits)
    length = len(data) if size is None else size
    body = b"WAVEfmt " + struct.pack("<I", fmt) + header + b"data" + struct.pack("<I", length) + data
    return b"RIFF" + struct.pack("<I", min(len(body), 0xFFFFFFFF)) + body


SAMPLES = noise(3)
PCM = np.round(SAMPLES * 32767).astype("<i2").tobytes()
HEARD = {
    "8 bits": (wav(np.round(SAMPLES * 128 + 128).clip(0, 255).astype(np.uint8).tobytes(), bits=8), 1.0),
    "24 bits": (wav(b"".join(struct.pack("<i", int(x * 2**31))[1:] for x in SAMPLES), bits=24), 0.01),
    "float": (wav(SAMPLES.astype("<f4").tobytes(), kind=3, bits=32), 0.01),
    "double": (wav(SAMPLES.astype("<f8").tobytes(), kind=3, bits=64), 0.01),
    "of a stream, its length unknown": (wav(PCM, size=0xFFFFFFFF), 0.01),
    "longer than it is": (wav(PCM, size=2_000_000_000), 0.01),
    "length left at 0": (wav(PCM, size=0), 0.01),
}
BROKEN = {
    "empty": b"",
    "header alone": wav(PCM)[:20],
    "text": b"this is no sound",
    "picture": b"\xff\xd8\xff\xe0" + bytes(100),
    "0 Hz": wav(PCM, rate=0),
    "1 Hz": wav(PCM, rate=1),
    "4 GHz": wav(PCM, rate=4_000_000_000),
    "no channel": wav(PCM, channels=0),
    "1000 channels": wav(PCM, channels=1000),
    "0 bits": wav(PCM, bits=0),
    "unknown codec": wav(PCM, kind=0x1234),
    "absurd header": wav(PCM, fmt=0x7FFFFFFF),
    "endless header": wav(PCM, fmt=0xFFFFFFFF),
}


@pytest.mark.parametrize("kind", HEARD)
def test_wavs_of_every_format_are_heard(tmp_path, kind):
    content, tolerance = HEARD[kind]
    (tmp_path / "v.wav").write_bytes(content)
    encode(tmp_path / "v.mp4", 75)
    expected = spectrograms(write_wav(tmp_path / "s.wav", SAMPLES), CENTRES).images
    sound = spectrograms(tmp_path / "v.mp4", CENTRES)
    assert sound.status == "ok" and np.median(np.abs(sound.images - expected)) < tolerance


@pytest.mark.parametrize("kind", BROKEN)
def test_a_broken_wav_fails_audio_alone_with_one_line(tmp_path, kind):
    (tmp_path / "v.wav").write_bytes(BROKEN[kind])
    encode(tmp_path / "v.mp4", 75)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    prepared = preparation.prepare_clip(
        job.ClipJob(tmp_path / "v.mp4", ("rgb", "audio"), recipes.load("kinetics", {"sampling.frames": 3}))
    )
    assert "rgb" in prepared.windows and "audio" not in prepared.windows
    error = prepared.errors["audio"]
    assert isinstance(error, ClipError) and error.outcome.name == "decode error"
    assert str(error).startswith(f"{tmp_path / 'v.wav'}: ") and "\n" not in str(error)
    assert not any(word in str(error) for word in ("Error:", "object has", "index out"))
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 200_000  # kB


def test_a_wav_that_stops_decoding_or_is_empty_is_no_audio(tmp_path):
    encode(tmp_path / "v.mp4", 75)
    for content, message in ((wav(b""), ""), (wav(PCM, kind=0x55), "cannot be decoded beyond 0.00 s")):
        (tmp_path / "v.wav").write_bytes(content)
        sound = spectrograms(tmp_path / "v.mp4", CENTRES)
        assert sound.status == "no audio" and not sound.present.any() and message in sound.message


def test_values_that_are_no_numbers_do_not_reach_the_features(tmp_path):
    for value in (np.nan, np.inf, -np.inf, 1e30):
        (tmp_path / "v.wav").write_bytes(wav(np.full(3 * RATE, value, "<f4").tobytes(), kind=3, bits=32))
        assert np.isfinite(spectrograms(tmp_path / "v.wav", CENTRES).images).all()


def test_damaged_wavs_give_sound_or_one_line(tmp_path):
    random = np.random.default_rng(11)
    healthy = wav(PCM[:40_000])
    for _ in range(300):
        content = bytearray(healthy)
        for place in random.integers(0, 60, random.integers(1, 6)):
            content[place] = random.integers(256)
        (tmp_path / "v.wav").write_bytes(content)
        try:
            sound = spectrograms(tmp_path / "v.wav", np.array([0.4]))
            assert np.isfinite(sound.images).all() and sound.images.shape == (1, 256, 256)
        except ClipError as error:
            assert "\n" not in str(error)


@pytest.mark.parametrize(("start", "stop", "clicks_at"), [(None, None, 4.5), (4.05, None, 4.8), (0.0, 4.45, 4.2)])
@pytest.mark.parametrize("name", ["v.mkv", "v.mp4"])
def test_sound_follows_the_times_of_frames_where_the_camera_paused(tmp_path, name, start, stop, clicks_at):
    """Frames of 0 … 0.9 s and 4 … 4.9 s: the sound at a frame after the pause is that of its time, not of its number."""
    path = tmp_path / name
    samples = np.zeros(7 * RATE)
    samples[round(clicks_at * RATE) : round(clicks_at * RATE) + 24] = 0.5
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        sound = container.add_stream("aac", rate=RATE, layout="mono")
        times = [i / 10 for i in (*range(10), *range(40, 50))]
        for time in times:
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), 100, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round(time * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        for begin in range(0, len(samples), 1024):
            part = samples[None, begin : begin + 1024].astype(np.float32)
            frame = av.AudioFrame.from_ndarray(part, format="fltp", layout="mono")
            frame.sample_rate, frame.time_base, frame.pts = RATE, Fraction(1, RATE), begin
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    count = sum((start or 0) <= time < (stop or 9) for time in times)
    recipe = recipes.load("tbn-epic55", {"sampling.frames": count})  # every frame
    prepared = preparation.prepare_clip(job.ClipJob(path, ("audio",), recipe, start, stop))
    inside = [time for time in times if (start or 0) <= time < (stop or 9)]
    assert prepared.n_frames == count and prepared.centres.tolist() == list(range(count))
    image = prepared.windows["audio"].images[inside.index(clicks_at), ..., 0]
    assert abs(int(np.exp(image).sum(axis=0).argmax()) - 128) <= 2


@pytest.mark.parametrize("list_of", ["ffconcat version 1.0\nfile secret.mkv\n", "#EXTM3U\n#EXTINF:1,\nsecret.mkv\n"])
def test_sound_that_is_a_playlist_leads_to_no_other_file(tmp_path, list_of):
    with_tracks(tmp_path / "secret.mkv", [(noise(5, seed=1), Disposition.default)])
    clip = encode(tmp_path / "a.mp4", 24)
    (tmp_path / "a.wav").write_text(list_of)
    with pytest.raises(ClipError, match=r"a\.wav: cannot be opened"):
        spectrograms(clip, CENTRES)
