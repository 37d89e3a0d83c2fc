"""The sound of a clip. The reference implementations are librosa's and torch's STFT, ffmpeg's command line where there is
one, and TBN's window rule written out over the whole recording."""

import shutil
import subprocess
import sys
import wave
from dataclasses import replace
from fractions import Fraction

import av
import numpy as np
import pytest
import torch
from cia_extract.clips import audio
from cia_extract.clips.audio import TBN, log_spectrogram, sound_of, spectrograms
from cia_extract.common.errors import DataError

RATE = 24_000
SILENCE = np.log(1e-6)


def write_wav(path, samples, rate=RATE):
    """[n] or [n, channels] in [−1, 1] → 16-bit wav; returns the path."""
    samples = np.round(np.asarray(samples) * 32767).astype("<i2")
    with wave.open(str(path), "wb") as file:
        file.setparams((1 if samples.ndim == 1 else samples.shape[1], 2, rate, 0, "NONE", ""))
        file.writeframes(samples.tobytes())
    return path


def read_wav(path):
    with wave.open(str(path), "rb") as file:
        assert (file.getframerate(), file.getnchannels(), file.getsampwidth()) == (RATE, 1, 2)
        return np.frombuffer(file.readframes(file.getnframes()), "<i2")


def write_video(path, samples, video_starts=0.0, audio_starts=0.0, seconds=5, rate=RATE, codec="pcm_s16le"):
    """A container with 10 grey frames a second and a mono track (none if `samples` is None), each starting when it is told."""
    with av.open(str(path), "w") as container:
        video = container.add_stream("mpeg4", rate=10)
        video.width, video.height, video.pix_fmt = 32, 32, "yuv420p"
        video.time_base = video.codec_context.time_base = Fraction(1, 1000)
        sound = None if samples is None else container.add_stream(codec, rate=rate, layout="mono")
        for i in range(seconds * 10):
            frame = av.VideoFrame.from_ndarray(np.full((32, 32, 3), i, np.uint8), format="rgb24")
            frame.pts, frame.time_base = round((video_starts + i / 10) * 1000), Fraction(1, 1000)
            container.mux(video.encode(frame))
        container.mux(video.encode(None))
        if sound is None:
            return path
        pcm = np.round(samples * 32767).astype("<i2")
        for start in range(0, len(pcm), 1024):
            frame = av.AudioFrame.from_ndarray(pcm[None, start : start + 1024], format="s16", layout="mono")
            frame.sample_rate, frame.time_base = rate, Fraction(1, rate)
            frame.pts = round(audio_starts * rate) + start
            container.mux(sound.encode(frame))
        container.mux(sound.encode(None))
    return path


def whole(path):
    """All samples of a file, int16 at 24 kHz."""
    return audio._read(path, TBN, 0.0, 1e6).samples


def noise(seconds, seed=0, rate=RATE):
    return np.random.default_rng(seed).uniform(-0.5, 0.5, round(seconds * rate))


# log spectrogram


def signal(kind, n, shared):
    match kind:
        case "noise":
            return noise(n / RATE).astype(np.float32)
        case "silence":
            return np.zeros(n, np.float32)
    samples = whole(shared / "clips/audio/v_GGSY1Qvo990.mp4")[100_000 : 100_000 + n] / np.float32(32768)
    assert samples.std() > 0.01
    return samples if kind == "real" else np.clip(20 * samples, -1, 1)


def by_torch(samples, **changes):
    """TBN's call of librosa as torch has it, in double precision: float32 alone is 4e-3 off where there is little power."""
    window = torch.hann_window(240, periodic=changes.pop("periodic", True), dtype=torch.float64)
    options = {"hop_length": 120, "win_length": 240, "center": True, "pad_mode": "constant"} | changes
    stft = torch.stft(torch.from_numpy(samples).double(), 511, window=window, return_complex=True, **options)
    return torch.log(stft.abs() ** 2 + 1e-6).numpy()


@pytest.mark.parametrize("n", [30_672, pytest.param(30_696, marks=pytest.mark.slow)])
@pytest.mark.parametrize("kind", ["real", "loud", "noise", "silence"])
def test_log_spectrogram_equals_librosa_and_torch(kind, n, shared):
    samples = signal(kind, n, shared)
    mine = log_spectrogram(samples)
    assert mine.shape == (256, 256) == TBN.shape and mine.dtype == np.float32
    np.testing.assert_allclose(mine, by_torch(samples), rtol=0, atol=2e-6)
    librosa = pytest.importorskip("librosa")
    for precision in (np.float32, np.float64):
        stft = librosa.stft(samples.astype(precision), n_fft=511, win_length=240, hop_length=120, pad_mode="constant")
        np.testing.assert_allclose(mine, np.log(np.abs(stft) ** 2 + 1e-6), rtol=0, atol=2e-6)


@pytest.mark.parametrize("trap", [{"pad_mode": "reflect"}, {"periodic": False}, {"center": False}, {"hop_length": 121}])
def test_the_comparison_notices_each_trap(trap, shared):
    """The references with one known mistake are far away, so the test above would fail for code that makes it."""
    samples = signal("real", 30_672, shared)
    wrong = by_torch(samples, **trap)
    mine = log_spectrogram(samples)
    assert wrong.shape != mine.shape or np.abs(wrong - mine).max() > 0.1


def test_44_khz_of_tbns_default_would_not_give_the_image():
    """TBN's dataset.py says 44000 by default, its options 24000 (issue #7): at 44 kHz there are 469 columns, not 256."""
    assert replace(TBN, rate=44_000).shape == (256, 469)  # 56,232 samples


@pytest.mark.parametrize("n", [1, 119, 120, 121, 4_000])
def test_short_signals(n):
    samples = noise(n / RATE).astype(np.float32)
    np.testing.assert_allclose(log_spectrogram(samples), by_torch(samples), rtol=0, atol=2e-6)


def test_a_tone_lies_in_its_row():
    tone = np.sin(2 * np.pi * 3000 * np.arange(30_672) / RATE).astype(np.float32)
    assert (log_spectrogram(tone)[:, 5:-5].argmax(axis=0) == round(3000 * 511 / RATE)).all()


# samples


@pytest.mark.parametrize("clip", [
    "audio/v_GGSY1Qvo990.mp4", "audio/mmaction2_test.wav", "kinetics/WUzgd7C1pWA.mp4", "ucf101/Archery/v_Archery_g02_c02.avi",
])  # fmt: skip
def test_samples_equal_those_of_ffmpeg(clip, shared, tmp_path):
    """AAC 44.1 and 48 kHz, PCM 16 kHz stereo, MP3 in AVI. Other versions of ffmpeg differ by 1/32768, and cut the last frame."""
    ffmpeg = shutil.which("ffmpeg")
    if not ffmpeg:
        pytest.skip("no ffmpeg command here")
    out = tmp_path / "out.wav"
    options = ["-vn", "-acodec", "pcm_s16le", "-ac", "1", "-ar", "24000"]
    subprocess.run([ffmpeg, "-loglevel", "error", "-i", shared / "clips" / clip, *options, out], check=True)
    mine, theirs = whole(shared / "clips" / clip).astype(int), read_wav(out).astype(int)
    assert abs(len(mine) - len(theirs)) <= 600  # AAC's 1,024 at 44.1 kHz
    common = min(len(mine), len(theirs)) - 32
    assert np.abs(mine[:common] - theirs[:common]).max() <= 1


@pytest.mark.parametrize("rate", [48_000, 44_100, 16_000, 24_000])
def test_resampling_and_mono_against_the_formula(rate, tmp_path):
    """Tones below 6 kHz in a stereo file: resampled and averaged, they are the same tones sampled at 24 kHz."""
    tones = [(0.3, 440.0), (0.2, 2750.0), (0.1, 6000.0)]

    def at(t, tones):
        return sum(a * np.sin(2 * np.pi * f * t + f) for a, f in tones)

    t = np.arange(2 * rate) / rate
    path = write_wav(tmp_path / "s.wav", np.stack([at(t, tones), at(t, tones[:1])], axis=1), rate)
    mine = whole(path) / 32768
    expected = at(np.arange(len(mine)) / RATE, tones) / 2 + at(np.arange(len(mine)) / RATE, tones[:1]) / 2
    assert abs(len(mine) - 2 * RATE) <= 1
    inner = slice(100, -100)  # the filter's run-in
    assert np.abs(mine[inner] - expected[inner]).max() < 3e-4


def test_resampling_of_real_sound_against_scipy(shared):
    """Two different low-pass filters at 12 kHz: the sound below them is the same to 1 % of its norm."""
    from scipy.signal import resample_poly

    path = shared / "clips/audio/v_GGSY1Qvo990.mp4"
    with av.open(str(path)) as container:
        native = np.concatenate([frame.to_ndarray()[0] for frame in container.decode(audio=0)])
        assert container.streams.audio[0].rate == 44_100
    mine = whole(path) / 32768
    expected = resample_poly(native.astype(np.float64), 80, 147)[: len(mine)]
    assert np.linalg.norm(mine - expected) < 0.01 * np.linalg.norm(expected)


# windows


def tbn_windows(samples, centre):
    """The rule of TBN's dataset.py, over the whole recording."""
    left, right = centre - 0.639, centre + 0.639
    if left < 0:
        return samples[: round(1.279 * RATE)]
    if right > len(samples) / RATE:
        return samples[-round(1.279 * RATE) :]
    return samples[round(left * RATE) : round(right * RATE)]


@pytest.mark.parametrize("centres", [
    np.linspace(0, 20, 41), np.array([9.87654321]), np.array([0.0]), np.array([0.639, 0.6389]), np.array([19.361, 19.3611]),
    np.array([15.0, 14.2]), np.array([0.2, 19.9]), np.arange(25) / 60 + 4,
])  # fmt: skip
def test_windows_follow_tbns_rule(centres, tmp_path):
    """Also: reading only a stretch of the recording gives what reading all of it gives."""
    path = write_wav(tmp_path / "s.wav", noise(20))
    samples = read_wav(path) / np.float32(32768)
    sound = spectrograms(path, centres)
    assert sound.status == "ok" and sound.present.all() and sound.message == ""
    assert sound.images.shape == (len(centres), 256, 256) and sound.images.dtype == np.float32
    for image, centre in zip(sound.images, centres, strict=True):
        np.testing.assert_allclose(image, by_torch(tbn_windows(samples, centre)), rtol=0, atol=2e-6)


def test_a_real_clip_whole(shared):
    path = shared / "clips/audio/v_GGSY1Qvo990.mp4"
    centres = np.arange(25) * 18.04 / 25 + 0.36
    samples = whole(path) / np.float32(32768)
    sound = spectrograms(path, centres)
    assert sound.status == "ok"
    for image, centre in zip(sound.images, centres, strict=True):
        np.testing.assert_allclose(image, by_torch(tbn_windows(samples, centre)), rtol=0, atol=2e-6)


def test_only_the_needed_stretch_is_held(tmp_path):
    path = write_wav(tmp_path / "s.wav", noise(60))
    middle = audio._read(path, TBN, 30.0, 32.0)
    assert 30 * RATE - 4096 <= middle.first <= 30 * RATE and 32 * RATE < middle.total < 32 * RATE + 4096
    beyond = audio._read(path, TBN, 70.0, 71.0)
    assert beyond.total == 60 * RATE and TBN.edge <= len(beyond.samples) < TBN.edge + 4096
    np.testing.assert_array_equal(beyond.samples[-TBN.edge :], read_wav(path)[-TBN.edge :])


@pytest.mark.parametrize(("name", "video_starts", "audio_starts"), [
    ("a.mkv", 0.0, 0.0), ("a.mkv", 0.5, 0.0), ("a.mkv", 0.0, 0.75), ("a.avi", 0.0, 0.0),
])  # fmt: skip
def test_times_are_those_of_the_video(name, video_starts, audio_starts, tmp_path):
    """A click 2.5 s into the sound, seen from the frame that is shown while it sounds."""
    samples = np.zeros(5 * RATE)
    samples[round(2.5 * RATE) : round(2.5 * RATE) + 24] = 0.5
    path = write_video(tmp_path / name, samples, video_starts, audio_starts)
    centre = 2.5 + audio_starts - video_starts
    image = spectrograms(path, np.array([centre])).images[0]
    power = np.exp(image).sum(axis=0)
    assert abs(int(power.argmax()) - 128) <= 1  # 5 ms a column


# what can be missing


@pytest.mark.parametrize(("seconds", "inside"), [(0.5, False), (1.2785, True), (0.001, False)])
def test_a_recording_shorter_than_a_window_is_padded(seconds, inside, tmp_path):
    samples = noise(seconds)
    path = write_wav(tmp_path / "s.wav", samples)
    sound = spectrograms(path, np.array([seconds / 2, 0.0, 9.0]))
    # 1.2785 s hold the 1.278 s around their middle, but not the 1.279 s of their ends.
    assert sound.present.tolist() == [inside, False, False] and sound.status == "short"
    assert sound.images.shape == (3, 256, 256)
    last = -(-len(samples) // 120) + 1
    assert (sound.images[1][:, last:] == np.float32(SILENCE)).all() and (sound.images[1][:, :last] > SILENCE + 1).any()


def test_a_moment_without_sound_is_not_present(tmp_path):
    """TBN takes the last window of the recording for any later moment; the image is that, and marked."""
    path = write_video(tmp_path / "v.mkv", noise(3), seconds=6)
    sound = spectrograms(path, np.array([1.0, 2.9, 5.0]))
    assert sound.present.tolist() == [True, True, False] and sound.status == "short"
    np.testing.assert_array_equal(sound.images[1], sound.images[2])


def test_no_audio_is_a_status(tmp_path):
    path = write_video(tmp_path / "v.mkv", None)
    sound = spectrograms(path, np.array([1.0, 2.0]))
    assert sound.status == "no audio" and not sound.present.any() and not sound.images.any()
    assert sound.images.shape == (2, 256, 256)
    assert spectrograms(path, np.empty(0)).images.shape == (0, 256, 256)


def test_a_wav_beside_a_silent_video(shared, tmp_path):
    """mmaction2_test.mp4 has no audio track; its sound lies beside it."""
    folder = shared / "clips/audio"
    assert sound_of(folder / "mmaction2_test.mp4") == folder / "mmaction2_test.wav"
    assert sound_of(folder / "mmaction2_demo.mp4") is None
    assert sound_of(folder / "v_GGSY1Qvo990.mp4") == folder / "v_GGSY1Qvo990.mp4"
    centres = np.array([1.0, 3.0, 6.0])
    beside, direct = (spectrograms(folder / f"mmaction2_test.{kind}", centres) for kind in ("mp4", "wav"))
    np.testing.assert_array_equal(beside.images, direct.images)
    assert beside.status == "ok" and beside.images.std() > 0.5
    frames = tmp_path / "P01_01"
    frames.mkdir()
    assert sound_of(frames) is None
    wav = write_wav(tmp_path / "P01_01.wav", noise(2))
    assert sound_of(frames) == wav and spectrograms(frames, np.array([1.0])).status == "ok"


def test_a_wav_beside_a_clip_goes_before_the_clips_own_sound(tmp_path):
    path = write_video(tmp_path / "v.mkv", noise(5))
    assert sound_of(path) == path and spectrograms(path, np.array([2.0])).images.max() > SILENCE + 1
    wav = write_wav(tmp_path / "v.wav", np.zeros(5 * RATE))
    assert sound_of(path) == wav and spectrograms(path, np.array([2.0])).images.max() < SILENCE + 1e-3


def test_damaged_sound_is_kept_up_to_the_damage(shared, tmp_path):
    """Zeros over a stretch of the file: AAC frames that cannot be decoded from there on."""
    path = tmp_path / "v.mp4"
    content = bytearray((shared / "clips/audio/v_GGSY1Qvo990.mp4").read_bytes())
    content[300_000:700_000] = b"\xff" * 400_000
    path.write_bytes(content)
    whole_clip = shared / "clips/audio/v_GGSY1Qvo990.mp4"
    centres = np.array([1.0, 17.0])
    damaged, healthy = spectrograms(path, centres), spectrograms(whole_clip, centres)
    assert damaged.present.tolist() == [True, False] and damaged.status == "short"
    assert "v.mp4: the sound cannot be decoded beyond" in damaged.message and "\n" not in damaged.message
    np.testing.assert_array_equal(damaged.images[0], healthy.images[0])
    assert damaged.images[1].shape == (256, 256)


def test_files_that_cannot_be_opened(tmp_path):
    with pytest.raises(DataError, match=r"none\.mp4: no such file"):
        spectrograms(tmp_path / "none.mp4", np.array([1.0]))
    (tmp_path / "text.mp4").write_text("no video")
    with pytest.raises(DataError, match=r"text\.mp4: cannot be opened"):
        spectrograms(tmp_path / "text.mp4", np.array([1.0]))


def test_workers_need_no_torch():
    code = "import sys, cia_extract.clips.audio; sys.exit(bool({'torch', 'librosa'} & set(sys.modules)))"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
