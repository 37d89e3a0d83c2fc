"""Sound around each sampled frame as TBN's log spectrograms. Runs in worker processes, without torch.

Kazakos et al., "EPIC-Fusion: Audio-Visual Temporal Binding for Egocentric Action Recognition", ICCV 2019,
https://arxiv.org/abs/1908.08498: 1.28 s of mono sound at 24 kHz → 256 frequencies × 256 time steps. The details are those of
dataset.py and preprocessing_epic/extract_audio.py in https://github.com/ekazakos/temporal-binding-network: the track as
`ffmpeg -vn -acodec pcm_s16le -ac 1 -ar 24000` gives it; windows of centre ± 0.639 s, but of 1.279 s at the recording's ends;
STFT with n_fft 511, a Hann window of 10 ms every 5 ms, zeros (librosa's pad_mode "constant") beyond the ends; log(|S|² + 1e-6).
"""

from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import av
import numpy as np
import numpy.typing as npt

from cia_extract import recipes
from cia_extract.clips.film import container_of, reason, stream_of
from cia_extract.common.outcomes import ClipError
from cia_extract.recipes import Audio

# A wav with a rate beyond these has a damaged header; resampling a second of it would give gigabytes, or nothing.
SLOWEST_HZ: Final = 1000
FASTEST_HZ: Final = 1_000_000

Samples = npt.NDArray[np.float32]
Images = npt.NDArray[np.float32]

TBN: Final = recipes.load(recipes.BASE).audio


@dataclass(frozen=True)
class Spectrograms:
    """The log spectrograms around T centres, and which of them hold sound."""

    images: Images  # [T, 256, 256], frequency (0 Hz first) × time: zeros without audio
    present: npt.NDArray[np.bool_]  # [T]: the recording has sound at this centre, and enough to fill the window
    status: str  # "ok": all present; "short": some are not; "no audio"
    message: str = ""  # why decoding stopped, if it did


def spectrograms(
    path: Path, centres_s: npt.NDArray[np.float64], rule: Audio = TBN, beat: Callable[[], None] = lambda: None
) -> Spectrograms:
    """Log spectrograms of the sound around `centres_s` [T], in seconds from the start of the video stream.

    TBN's rule: the window is centre ± `half_s` (0.639 s). If it begins before the recording, it is the recording's first
    `seconds` (1.279 s); if it ends after the recording, its last 1.279 s. "Recording" is the whole audio track, not the clip.

    Not present are: windows at the ends of a recording shorter than 1.279 s (padded with zeros), windows wholly outside the
    recording, and windows that reach beyond the point where a damaged track stops decoding. Missing audio is a status, not an
    error. `beat` is called while the track is read. Raises ClipError if the file does not exist, cannot be opened, or is a wav
    without sound.
    """
    centres = np.asarray(centres_s, dtype=np.float64)
    images, present = np.zeros((len(centres), *rule.shape), np.float32), np.zeros(len(centres), np.bool_)
    source = sound_of(path)
    if source is None or not len(centres):
        return Spectrograms(images, present, "no audio")
    centres = centres - (_delay(path) if source == path else 0.0)
    starts, stops = centres - rule.half_s, centres + rule.half_s
    sound = _read(source, rule, max(float(starts.min()), 0.0), float(stops.max()), beat)
    if not sound.total:
        return Spectrograms(images, present, "no audio", sound.fault)
    duration = sound.total / rule.rate
    for i, (start, stop) in enumerate(zip(starts, stops, strict=True)):
        window = sound.between(*_bounds(start, stop, sound.total, rule))
        outside = stop <= 0 or start >= duration or (bool(sound.fault) and stop > duration)
        present[i] = not outside and not (sound.total < rule.edge and (start < 0 or stop > duration))
        images[i] = log_spectrogram(_fill(window, rule), rule)[:, : rule.shape[1]]
    return Spectrograms(images, present, "ok" if present.all() else "short", sound.fault)


@dataclass(frozen=True)
class Stretch:
    """The log spectrogram of a stretch of sound, and where in it the windows lie."""

    image: Images  # [frequencies, time steps], 0 Hz first
    start_s: float  # of the video
    stop_s: float
    windows_s: npt.NDArray[np.float64]  # [T, 2], start and stop of each window in the video


def stretch(path: Path, centres_s: npt.NDArray[np.float64], rule: Audio = TBN) -> Stretch | None:
    """The sound that the windows of `spectrograms` cover, as one picture; None without audio. Raises ClipError as that does."""
    source = sound_of(path)
    if source is None or not len(centres_s):
        return None
    delay = _delay(path) if source == path else 0.0
    starts, stops = centres_s - delay - rule.half_s, centres_s - delay + rule.half_s
    sound = _read(source, rule, max(float(starts.min()), 0.0), float(stops.max()))
    if not sound.total:
        return None
    windows = np.array([_bounds(start, stop, sound.total, rule) for start, stop in zip(starts, stops, strict=True)])
    first, last = max(int(windows.min()), 0), min(int(windows.max()), sound.total)
    samples = sound.between(first, last)
    if not len(samples):
        return None
    image = log_spectrogram(samples, rule)
    return Stretch(image, first / rule.rate + delay, last / rule.rate + delay, windows / rule.rate + delay)


def _bounds(start: float, stop: float, total: int, rule: Audio) -> tuple[int, int]:
    """The samples (first, behind the last) of the window from `start` to `stop` s in a recording of `total` samples."""
    if start < 0:
        return 0, rule.edge
    if stop > total / rule.rate:
        return total - rule.edge, total
    return round(start * rule.rate), round(stop * rule.rate)


def sound_of(path: Path) -> Path | None:
    """The file that holds a clip's sound: `<stem>.wav` beside it, else the clip itself if it has an audio track, else None.

    The wav goes first: decoding the sound in an hour of video means reading all its pictures too, for each of its clips. A
    folder of frames has its sound in `<folder>.wav`. Raises ClipError as `spectrograms`.
    """
    beside = path.parent / f"{path.name}.wav" if path.is_dir() else path.with_suffix(".wav")
    if beside.is_file():
        return beside
    if path.is_dir():
        return None
    with _open(path) as container:
        return path if _track(container) else None


def log_spectrogram(samples: Samples, rule: Audio = TBN) -> Images:
    """Mono samples in [−1, 1], [n ≥ 1] → log(|STFT|² + 1e-6) [n_fft//2 + 1, rule.columns(n)].

    Column k is centred on sample k·hop. The samples are padded with zeros (not reflections) at both ends. The window is a
    periodic Hann of 240 samples in the middle of an FFT of 511.
    """
    hann = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(rule.win) / rule.win)
    columns = rule.columns(len(samples))
    # Only the samples under the window: where they lie in the FFT's input changes phases, which |·|² does not see. An odd
    # FFT has its middle one sample left of centre: (511 − 240)//2 samples before the window, 511//2 before the column's.
    before = rule.n_fft // 2 - (rule.n_fft - rule.win) // 2
    padded = np.zeros(max((columns - 1) * rule.hop + rule.win, before + len(samples)))
    padded[before : before + len(samples)] = samples
    windows = np.lib.stride_tricks.sliding_window_view(padded, rule.win)[:: rule.hop][:columns]
    spectrum = np.fft.rfft(windows * hann, rule.n_fft, axis=1)
    power = spectrum.real**2 + spectrum.imag**2
    return np.ascontiguousarray(np.log(power + rule.log_offset).T, dtype=np.float32)


@dataclass(frozen=True)
class _Sound:
    """Samples `first` to `total` − 1 of a recording; `total` is its end, or the point where decoding stopped."""

    samples: npt.NDArray[np.int16]
    first: int
    total: int
    fault: str  # why decoding stopped, if it did

    def between(self, start: int, stop: int) -> Samples:
        """Samples start … stop − 1 of the recording, in [−1, 1); fewer where it has fewer."""
        begin, end = max(start, 0) - self.first, stop - self.first
        return self.samples[begin:end].astype(np.float32) / np.float32(32768)


def _read(path: Path, rule: Audio, start_s: float, stop_s: float, beat: Callable[[], None] = lambda: None) -> _Sound:
    """Decode the track from its beginning to `stop_s`, keeping the samples after `start_s` and at least one edge window.

    It does not seek, since decoders (AAC's noise) and resamplers carry state: read from the beginning, the samples are those
    of `ffmpeg -vn -acodec pcm_s16le -ac 1 -ar 24000`, which TBN used. One hour takes about 6 s from AAC at 48 kHz, 1.3 s from
    a wav at 24 kHz.
    """
    # One sample more than is asked for, so that a recording which goes on is not taken for one that ends here.
    start, stop = int(start_s * rule.rate), max(int(stop_s * rule.rate) + 2, rule.edge + 1)
    pieces: deque[npt.NDArray[np.int16]] = deque()
    first = total = 0
    fault = ""
    with _open(path) as container:
        try:
            for block in _blocks(container, path, rule.rate):
                beat()
                pieces.append(block)
                total += len(block)
                while first + len(pieces[0]) <= min(start, total - rule.edge):
                    first += len(pieces.popleft())
                if total >= stop:
                    break
        except ClipError:
            raise
        except (av.FFmpegError, ValueError) as error:
            reason = getattr(error, "strerror", None) or error
            fault = f"{path}: the sound cannot be decoded beyond {total / rule.rate:.2f} s ({reason})"
    return _Sound(np.concatenate(pieces) if pieces else np.empty(0, np.int16), first, total, fault)


def _blocks(container: Any, path: Path, rate: int) -> Iterator[npt.NDArray[np.int16]]:
    """The audio track as mono int16 at `rate`, in pieces; gaps between its time stamps are closed, as ffmpeg does."""
    track = _track(container)
    if track is None:
        raise ClipError(f"{path}: has no sound; repair the file, or move it away")
    if track.codec_context is None:
        raise ClipError(f"{path}: its sound has a codec that cannot be decoded; convert it to a wav beside the clip")
    if not SLOWEST_HZ <= track.rate <= FASTEST_HZ:
        raise ClipError(
            f"{path}: its header is damaged ({track.rate} samples a second are no sound); repair the file, or move it away"
        )
    resampler = av.AudioResampler("s16", "mono", rate)
    for frame in container.decode(track):
        yield from (piece.to_ndarray()[0] for piece in resampler.resample(frame))
    # The samples that the filter still holds; [None] if there was nothing to convert.
    yield from (piece.to_ndarray()[0] for piece in resampler.resample(None) if piece is not None)


def _track(container: Any) -> Any:
    """The audio stream that players and ffmpeg choose; None if there is none."""
    return container.streams.best("audio")


def _delay(path: Path) -> float:
    """Seconds from the start of the video track to that of the audio track, as players play them."""
    with _open(path) as container:
        video = stream_of(container)
        if video is None:
            return 0.0
        # `video.decode` counts AVI frames from zero, since an AVI has no presentation times.
        origin = 0.0 if container.format.name == "avi" else float((video.start_time or 0) * video.time_base)
        try:
            first = next(container.decode(_track(container)), None)
        except (av.FFmpegError, ValueError, AttributeError):
            return 0.0  # `_read` meets the same fault and reports it
        return 0.0 if first is None or first.time is None else float(first.time) - origin


def _fill(window: Samples, rule: Audio) -> Samples:
    """Samples padded with zeros at their end to the length of a window, so that every image has its 256 columns."""
    missing = rule.length - len(window)
    return np.pad(window, (0, missing)) if missing > 0 else window


def _open(path: Path) -> Any:
    """The open container. Raises ClipError if the file is missing or cannot be opened."""
    if not path.is_file():
        raise ClipError(f"{path}: no such file", "missing")
    try:
        return container_of(path)
    except (av.FFmpegError, OSError, ValueError) as error:
        raise ClipError(f"{path}: cannot be opened ({reason(error)}); is the file complete?") from error
