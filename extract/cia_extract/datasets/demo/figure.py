"""An articulated figure in two dimensions: actor, pose, joints, and the capsules that show them.

Body units: 1 = the actor's stature; x points where the figure faces (or to its side, seen from the back), y up, the
floor is y = 0. Segment lengths are the usual anthropometric fractions of stature (Drillis and Contini 1966, as printed
in Winter, Biomechanics and Motor Control of Human Movement, fig. 4.1), rounded, with a spread between actors.
"""

import math
from dataclasses import dataclass

import numpy as np

Point = tuple[float, float]
Colour = tuple[float, float, float]
"""R, G, B in 0 ... 255."""

SKIN: tuple[Colour, ...] = ((236, 196, 168), (208, 160, 124), (160, 112, 80), (104, 72, 54))
HAIR: tuple[Colour, ...] = ((40, 32, 28), (92, 62, 40), (184, 150, 96), (128, 128, 128))


@dataclass(frozen=True)
class Actor:
    """A person: proportions (segment lengths as fractions of stature) and clothes."""

    upper_arm: float
    forearm: float
    thigh: float
    shank: float
    torso: float
    head: float
    girth: float
    """Multiplies the thickness of all limbs."""
    skin: Colour
    hair: Colour
    shirt: Colour
    trousers: Colour
    shoes: Colour
    sleeves: bool
    """Long sleeves (the forearm has the shirt's colour) or bare forearms."""


def draw_actor(rng: np.random.Generator, wardrobe: tuple[Colour, ...]) -> Actor:
    """A random actor; `wardrobe` holds the colours of the domain, each varied a little."""

    def length(mean: float) -> float:
        return float(mean * rng.uniform(0.92, 1.08))

    def cloth() -> Colour:
        base = wardrobe[int(rng.integers(len(wardrobe)))]
        r, g, b = (float(np.clip(c + rng.normal(0.0, 12.0), 12.0, 245.0)) for c in base)
        return r, g, b

    return Actor(
        upper_arm=length(0.186),
        forearm=length(0.195),  # with the palm
        thigh=length(0.245),
        shank=length(0.260),  # with the ankle
        torso=length(0.290),
        head=length(0.068),  # half its height
        girth=float(rng.uniform(0.85, 1.25)),
        skin=SKIN[int(rng.integers(len(SKIN)))],
        hair=HAIR[int(rng.integers(len(HAIR)))],
        shirt=cloth(),
        trousers=cloth(),
        shoes=cloth(),
        sleeves=bool(rng.random() < 0.5),
    )


@dataclass(frozen=True)
class Pose:
    """The body at one instant, in body units. Pairs are (far, near) from the side, (left, right) from the back."""

    hip: Point
    lean: float
    """Degrees from upright, forwards positive."""
    hands: tuple[Point, Point]
    feet: tuple[Point, Point]
    """Positions of the ankles."""
    front: bool = False
    """Seen from the back or front: shoulders and hips apart, elbows and knees turned outwards."""
    tool: tuple[Point, Point] | None = None
    """Ends of a stick in the hands (grip, head)."""
    box: Point | None = None
    """Centre of a box between the hands."""
    ball: Point | None = None
    """Centre of a ball between the hands."""


@dataclass(frozen=True)
class Joints:
    """Positions of the joints in body units."""

    neck: Point
    hip: Point
    head: Point
    shoulders: tuple[Point, Point]
    elbows: tuple[Point, Point]
    hands: tuple[Point, Point]
    hips: tuple[Point, Point]
    knees: tuple[Point, Point]
    feet: tuple[Point, Point]


def two_links(start: Point, goal: Point, a: float, b: float, bend: float) -> tuple[Point, Point]:
    """Middle joint and end of a two-segment limb that reaches for `goal` (law of cosines).

    Out of reach, the limb points at the goal. `bend` = +1 or -1 picks the side of the middle joint.
    """
    dx, dy = goal[0] - start[0], goal[1] - start[1]
    span = math.hypot(dx, dy)
    distance = min(max(span, abs(a - b) + 1e-3), (a + b) * 0.999)
    direction = math.atan2(dy, dx)
    corner = math.acos((a * a + distance * distance - b * b) / (2 * a * distance))
    middle = direction + bend * corner
    end = (start[0] + distance * math.cos(direction), start[1] + distance * math.sin(direction))
    return (start[0] + a * math.cos(middle), start[1] + a * math.sin(middle)), end


def joints(actor: Actor, pose: Pose) -> Joints:
    """The joints of an actor in a pose: hands and feet are given, elbows and knees are solved for."""
    lean = math.radians(pose.lean)
    up, ahead = math.cos(lean), math.sin(lean)
    neck = (pose.hip[0] + actor.torso * ahead, pose.hip[1] + actor.torso * up)
    head_way = actor.head + 0.035
    # The head stays more upright than the trunk.
    head = (neck[0] + head_way * math.sin(lean * 0.6), neck[1] + head_way * math.cos(lean * 0.6))
    wide, narrow = (0.105, 0.055) if pose.front else (0.012, 0.010)
    low = 0.02  # shoulders sit a little below the neck
    shoulders = tuple((neck[0] + s * wide - low * ahead, neck[1] - low * up) for s in (-1.0, 1.0))
    hips = tuple((pose.hip[0] + s * narrow, pose.hip[1]) for s in (-1.0, 1.0))
    # From the side elbows point back and knees forwards; from the back both point outwards.
    elbow_bend = (-1.0, 1.0) if pose.front else (-1.0, -1.0)
    knee_bend = (-1.0, 1.0) if pose.front else (1.0, 1.0)
    arms = [two_links(s, h, actor.upper_arm, actor.forearm, b) for s, h, b in zip(shoulders, pose.hands, elbow_bend, strict=True)]
    legs = [two_links(s, f, actor.thigh, actor.shank, b) for s, f, b in zip(hips, pose.feet, knee_bend, strict=True)]
    return Joints(
        neck=neck,
        hip=pose.hip,
        head=head,
        shoulders=(shoulders[0], shoulders[1]),
        elbows=(arms[0][0], arms[1][0]),
        hands=(arms[0][1], arms[1][1]),
        hips=(hips[0], hips[1]),
        knees=(legs[0][0], legs[1][0]),
        feet=(legs[0][1], legs[1][1]),
    )


@dataclass(frozen=True)
class Capsule:
    """A shape to draw, from `a` to `b` with half-widths `wa` and `wb`, all in body units."""

    a: Point
    b: Point
    wa: float
    wb: float
    colour: Colour


def _dim(colour: Colour, factor: float) -> Colour:
    return colour[0] * factor, colour[1] * factor, colour[2] * factor


def limbs(actor: Actor, j: Joints, side: int, part: str, front: bool) -> list[Capsule]:
    """Capsules of one arm (`part="arm"`) or leg; `side` 0 is far (or left) and, from the side, in shadow."""
    shade = 0.72 if side == 0 and not front else 1.0
    g = actor.girth
    if part == "arm":
        shoulder, elbow, hand = j.shoulders[side], j.elbows[side], j.hands[side]
        lower = actor.shirt if actor.sleeves else actor.skin
        return [
            Capsule(shoulder, elbow, 0.034 * g, 0.027 * g, _dim(actor.shirt, shade)),
            Capsule(elbow, hand, 0.026 * g, 0.019 * g, _dim(lower, shade)),
            Capsule(hand, hand, 0.024 * g, 0.024 * g, _dim(actor.skin, shade)),
        ]
    hip, knee, foot = j.hips[side], j.knees[side], j.feet[side]
    toe = (foot[0] + (0.0 if front else 0.075), foot[1] - 0.022)
    return [
        Capsule(hip, knee, 0.050 * g, 0.036 * g, _dim(actor.trousers, shade)),
        Capsule(knee, foot, 0.035 * g, 0.024 * g, _dim(actor.trousers, shade)),
        Capsule((foot[0], foot[1] - 0.018), toe, 0.026, 0.020, _dim(actor.shoes, shade)),
    ]


def trunk(actor: Actor, j: Joints, front: bool, back: bool) -> list[Capsule]:
    """Capsules of the trunk, neck and head; `back` = seen from behind, so no face."""
    g = actor.girth
    width = 0.092 if front else 0.072
    mid = ((j.neck[0] + j.hip[0]) / 2, (j.neck[1] + j.hip[1]) / 2)
    top = (j.neck[0] * 0.86 + j.hip[0] * 0.14, j.neck[1] * 0.86 + j.hip[1] * 0.14)
    face = (j.head[0] + (0.0 if front else 0.016), j.head[1] - 0.006)
    crown = (j.head[0] * 1.12 - j.neck[0] * 0.12, j.head[1] * 1.12 - j.neck[1] * 0.12)
    return [
        Capsule(j.neck, j.head, 0.026, 0.026, actor.skin),
        Capsule(j.hip, mid, 0.062 * g, 0.066 * g, actor.trousers),
        Capsule(mid, top, 0.066 * g, width * g**0.5, actor.shirt),
        Capsule(crown, crown, actor.head, actor.head, actor.hair),
        Capsule(face, face, actor.head * 0.86, actor.head * 0.86, actor.skin if not back else actor.hair),
    ]
