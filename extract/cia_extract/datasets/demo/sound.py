"""One clip's sound: the action over the domain's background noise. Mono float samples at RATE."""

import math

import numpy as np
import numpy.typing as npt

from cia_extract.datasets.demo.domains import Domain
from cia_extract.datasets.demo.motions import Event

RATE = 24_000  # samples per second
Samples = npt.NDArray[np.float64]


def _decay(seconds: float, attack: float = 0.002) -> Samples:
    """An impact's envelope over 6 time constants."""
    t = np.arange(int(6.0 * seconds * RATE)) / RATE
    envelope: Samples = np.minimum(t / attack, 1.0) * np.exp(-t / seconds)
    return envelope


def _tone(rng: np.random.Generator, hertz: list[float], seconds: float, drop: float = 0.0) -> Samples:
    """Decaying partials of frequencies `hertz`; `drop` is the share by which the pitch falls."""
    envelope = _decay(seconds)
    t = np.arange(len(envelope)) / RATE
    glide = 1.0 - drop * (1.0 - np.exp(-t / (seconds * 0.7)))
    detune = rng.uniform(0.94, 1.06)
    total = np.zeros_like(t)
    for k, f in enumerate(hertz):
        total += np.sin(2.0 * math.pi * np.cumsum(f * detune * glide) / RATE + rng.uniform(0, 6.28)) / (1.0 + 0.5 * k)
    return total * envelope


def _burst(rng: np.random.Generator, low: float, high: float, seconds: float) -> Samples:
    """Decaying noise between two frequencies (Hz)."""
    envelope = _decay(seconds)
    return band(rng, len(envelope), low, high) * envelope


def band(rng: np.random.Generator, number: int, low: float, high: float, slope: float = 0.0) -> Samples:
    """Noise of unit variance between two frequencies (Hz), amplitude ~ f**slope."""
    spectrum = np.fft.rfft(rng.normal(size=number))
    f = np.fft.rfftfreq(number, 1.0 / RATE)
    edges = 1.0 / (1.0 + (low / np.maximum(f, 1.0)) ** 4) / (1.0 + (f / high) ** 4)  # 24 dB per octave
    noise = np.fft.irfft(spectrum * edges * np.maximum(f, 1.0) ** slope, number)
    even: Samples = noise / (noise.std() + 1e-12)
    return even


def _sum(*parts: Samples) -> Samples:
    """Sounds of different lengths that start together."""
    total = np.zeros(max(len(p) for p in parts))
    for part in parts:
        total[: len(part)] += part
    return total


def strike(rng: np.random.Generator, kind: str, label: str) -> Samples:
    """The sound of one event. What rings depends on the material, hence on the class, never on the direction."""
    if kind == "thud":
        return _sum(0.9 * _tone(rng, [85.0, 130.0], 0.06, 0.3), 0.5 * _burst(rng, 300.0, 1200.0, 0.03))
    if kind == "rung":  # metal
        return _sum(0.5 * _tone(rng, [740.0, 1410.0, 2630.0], 0.09), 0.3 * _burst(rng, 200.0, 900.0, 0.02))
    if kind == "load" and label == "lift_crate":  # wood knocks
        return _sum(0.6 * _tone(rng, [420.0, 690.0], 0.03), 0.4 * _burst(rng, 600.0, 3000.0, 0.02))
    if kind == "load":  # a dull thud, buckles
        return _sum(0.5 * _burst(rng, 80.0, 500.0, 0.05), 0.25 * _tone(rng, [2900.0, 3700.0], 0.05))
    if label == "chop_wood":
        return _sum(0.8 * _burst(rng, 700.0, 6000.0, 0.025), 0.6 * _tone(rng, [260.0, 530.0], 0.03))
    return _sum(_tone(rng, [95.0, 152.0, 210.0], 0.18, 0.15), 0.2 * _burst(rng, 1000.0, 4000.0, 0.01))


def traffic(rng: np.random.Generator, number: int) -> Samples:
    """A street's noise: rumble, passing cars, voices' band, now and then a horn. Unit variance."""
    t = np.arange(number) / RATE
    swell = 0.6 + 0.4 * np.sin(2.0 * math.pi * (rng.uniform(0.2, 0.6) * t + rng.uniform()))
    noise = band(rng, number, 30.0, 11_500.0, -0.8) * swell
    noise += 0.4 * band(rng, number, 300.0, 3000.0) * (0.5 + 0.5 * np.sin(2.0 * math.pi * (4.0 * t + rng.uniform())))
    if rng.random() < 0.3:
        start = rng.uniform(0.0, 0.7) * number / RATE
        on = ((t > start) & (t < start + 0.35)).astype(float)
        pitch = rng.uniform(320.0, 460.0)
        noise += 0.8 * on * (np.sin(2.0 * math.pi * pitch * t) + np.sin(2.0 * math.pi * pitch * 1.26 * t))
    even: Samples = noise / noise.std()
    return even


def soundtrack(
    label: str, events: tuple[Event, ...], duration: float, rng: np.random.Generator, domain: Domain
) -> npt.NDArray[np.float32]:
    """The clip's sound, [duration x RATE] samples within -1 ... 1; `duration` in seconds."""
    number = round(duration * RATE)
    action = np.zeros(number)
    for event in events:
        first = round(event.time * RATE)
        if not 0 <= first < number:
            continue
        sound = strike(rng, event.kind, label)[: number - first]
        action[first : first + len(sound)] += event.strength * rng.uniform(0.7, 1.0) * sound
    loud = float(np.sqrt(np.mean(action**2))) + 1e-3
    snr = float(rng.uniform(*domain.snr_db))
    noise = traffic(rng, number) if domain.clutter else band(rng, number, 30.0, 11_500.0, -0.5)
    mixed = action + noise * loud * 10.0 ** (-snr / 20.0)
    loudest = max(float(np.abs(mixed).max()), 0.3)
    return np.asarray(0.7 * mixed / loudest, np.float32)
