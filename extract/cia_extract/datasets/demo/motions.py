"""The actions: every class as a pose over time, with the instants that make a sound.

Four families of two classes. In the first two families one class is the other played backwards, exactly: its pose at
time t is the other's at duration - t, and timing is drawn symmetrically, so no still frame and no average over
frames tells them apart. In the other two both classes move exactly alike and only colours differ (scene.py).
"""

import math
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from cia_extract.datasets.demo.figure import Point, Pose


@dataclass(frozen=True)
class Event:
    """A sound that the action makes."""

    time: float
    """Seconds from the start of the clip."""
    kind: str
    """Name of a sound in sound.py."""
    strength: float = 1.0


@dataclass(frozen=True)
class Motion:
    """One performance of an action."""

    pose: Callable[[float], Pose]
    """Seconds from the start of the clip -> pose."""
    events: tuple[Event, ...]
    apparatus: str
    """The prop: ball, ladder, box or block."""
    height: float = 0.0
    """Height of the block, or of any rung of the ladder, in statures."""
    spacing: float = 0.0
    """Distance between rungs, in statures."""
    middle: float = 0.0
    """The x of the middle of the whole performance, in statures: the scene is centred on it."""


def ease(u: float) -> float:
    """Minimum-jerk progress from 0 to 1 (Flash and Hogan 1985), clamped outside; symmetric under time reversal."""
    u = min(max(u, 0.0), 1.0)
    return u * u * u * (10.0 + u * (6.0 * u - 15.0))


def mix(a: float, b: float, s: float) -> float:
    """The value between `a` (s = 0) and `b` (s = 1)."""
    return a + (b - a) * s


def slam(rng: np.random.Generator, duration: float, speed: float) -> Motion:
    """Facing the camera, a ball goes up slowly and down fast, again and again."""
    del duration
    period = rng.uniform(0.85, 1.1) / speed
    phase = rng.uniform(0.0, 1.0)
    low, high, dip = rng.uniform(0.26, 0.34), rng.uniform(1.06, 1.14), rng.uniform(0.14, 0.2)
    share = rng.uniform(0.74, 0.80)

    def pose(t: float) -> Pose:
        u = (t / period + phase) % 1.0
        s = ease(u / share) if u < share else 1.0 - ease((u - share) / (1.0 - share))
        hip = (0.0, 0.54 - dip * (1.0 - s))
        y = mix(low, high, s)
        return Pose(hip, 0.0, ((-0.10, y), (0.10, y)), ((-0.13, 0.045), (0.13, 0.045)), front=True, ball=(0.0, y))

    lows = [(k - phase) * period for k in range(1, 8)]
    return Motion(pose, tuple(Event(x, "thud") for x in lows), "ball")


def climb(rng: np.random.Generator, duration: float, speed: float) -> Motion:
    """Going up a ladder, seen from behind; hands and feet change rungs in turn (diagonal gait)."""
    spacing = rng.uniform(0.125, 0.15)
    rate = rng.uniform(1.7, 2.1) * min(speed, 1.2)  # rungs per second
    first = rng.uniform(0.0, 2.0)  # phase in rungs
    sway = rng.uniform(0.01, 0.03)
    reach = round(0.9 / spacing)  # rungs from foot to hand
    lowest = 0.05 + spacing  # of the feet, before the first step

    def hold(phase: float, offset: float) -> float:
        """Rung that a limb holds for 1.3 of 2 beats and then leaves for the next but one."""
        beat = (phase + offset) / 2.0
        held = math.floor(beat)
        return 2.0 * (held + ease((beat - held - 0.65) / 0.35)) - offset

    def pose(t: float) -> Pose:
        phase = first + rate * t
        feet = [lowest + spacing * (hold(phase, k) - first) for k in (1.0, 0.0)]
        hands = [lowest + spacing * (hold(phase, k) - first + reach) for k in (0.0, 1.0)]
        hip = (sway * math.sin(math.pi * phase), lowest + spacing * (rate * t - 0.7) + 0.40)
        return Pose(
            hip,
            0.0,
            ((-0.13, hands[0]), (0.13, hands[1])),
            ((-0.085, feet[0]), (0.085, feet[1])),
            front=True,
        )

    # A rung is struck each time a foot arrives, that is when the phase passes a whole number.
    steps = range(math.ceil(first), math.floor(first + rate * duration) + 1)
    events = tuple(Event((k - first) / rate, "rung", 0.8 + 0.2 * (k % 2)) for k in steps)
    return Motion(pose, events, "ladder", height=lowest - spacing * first, spacing=spacing)


def lift(rng: np.random.Generator, duration: float, speed: float) -> Motion:
    """Facing the camera, a box goes up over the head and down again."""
    del duration
    period = rng.uniform(1.05, 1.4) / speed
    phase = rng.uniform(0.0, 1.0)
    low, high, dip = rng.uniform(0.50, 0.58), rng.uniform(1.06, 1.14), rng.uniform(0.03, 0.08)

    def pose(t: float) -> Pose:
        s = 0.5 - 0.5 * math.cos(2.0 * math.pi * (t / period + phase))
        hip = (0.0, 0.54 - dip * (1.0 - s))
        box = (0.0, mix(low, high, ease(0.15 + 0.7 * s)))
        hands: tuple[Point, Point] = ((-0.19, box[1] - 0.03), (0.19, box[1] - 0.03))
        return Pose(hip, 0.0, hands, ((-0.11, 0.045), (0.11, 0.045)), front=True, box=box)

    lows = [(k - phase) * period for k in range(6)]
    return Motion(pose, tuple(Event(x, "load") for x in lows if x > 0.02), "box")


def strike(rng: np.random.Generator, duration: float, speed: float) -> Motion:
    """From the side, both hands swing a long tool down on a block or drum."""
    del duration
    period = rng.uniform(0.8, 1.05) / speed
    phase = rng.uniform(0.0, 1.0)
    height, lean, raised = rng.uniform(0.34, 0.40), rng.uniform(18.0, 30.0), rng.uniform(105.0, 130.0)

    def pose(t: float) -> Pose:
        u = (t / period + phase) % 1.0
        # Slow up (60 % of the period), fast down.
        s = ease(u / 0.6) if u < 0.6 else 1.0 - ((u - 0.6) / 0.4) ** 2
        hip = (-0.02 - 0.02 * (1.0 - s), 0.53)
        bow = mix(lean, -6.0, s)
        grip = (mix(0.30, 0.06, s), mix(height + 0.115, 0.98, s))
        angle = math.radians(mix(-20.0, raised, s))
        head = (grip[0] + 0.24 * math.cos(angle), grip[1] + 0.24 * math.sin(angle))
        second = (grip[0] + 0.06 * math.cos(angle), grip[1] + 0.06 * math.sin(angle))
        return Pose(hip, bow, (second, grip), ((0.10, 0.045), (-0.10, 0.045)), tool=(grip, head))

    hits = [(k - phase) * period for k in range(1, 8)]
    return Motion(pose, tuple(Event(x, "hit") for x in hits), "block", height=height, middle=0.22)


FAMILIES: dict[str, tuple[Callable[[np.random.Generator, float, float], Motion], bool]] = {
    "slam_ball": (slam, False),
    "snatch_ball": (slam, True),
    "climb_up": (climb, False),
    "climb_down": (climb, True),
    "lift_crate": (lift, False),
    "lift_suitcase": (lift, False),
    "chop_wood": (strike, False),
    "beat_drum": (strike, False),
}
"""Class -> how it moves, and whether it is played backwards."""


def perform(label: str, rng: np.random.Generator, duration: float, speed: float) -> Motion:
    """One performance of a class.

    Args:
        label: one of FAMILIES.
        rng: decides timing, amplitude and phase.
        duration: time of the last frame, seconds.
        speed: 1 = the usual pace.
    """
    family, backwards = FAMILIES[label]
    forward = family(rng, duration, speed)
    if not backwards:
        return forward
    events = tuple(Event(duration - e.time, e.kind, e.strength) for e in reversed(forward.events))
    return replace(forward, pose=lambda t: forward.pose(duration - t), events=events)
