"""One clip's pictures: figure and props before a backdrop, through the domain's camera, light and sensor."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import cv2
import numpy as np

from cia_extract.datasets.demo.backdrop import HEIGHT, MARGIN, WIDTH, Passer, cluttered, passers, plain
from cia_extract.datasets.demo.domains import PLAIN, Domain, Paints
from cia_extract.datasets.demo.draw import Affine, Canvas, Frame
from cia_extract.datasets.demo.figure import Actor, Capsule, Point, joints, limbs, trunk
from cia_extract.datasets.demo.motions import Motion
from cia_extract.datasets.demo.props import Props

FPS = 25


@dataclass(frozen=True)
class Take:
    """All random choices for a clip's pictures."""

    actor: Actor
    motion: Motion
    frames: int
    stature: float
    """Height of the actor, in world pixels."""
    floor: float
    """Row on which the feet stand, in world pixels."""
    centre: float
    """Column of the body's x = 0, in world pixels."""
    facing: float
    """Direction in which the actor looks: +1 right, -1 left."""
    paints: Paints
    """Colours of the prop."""
    grey: float
    """Luma of the prop."""
    tint: float
    """Strength of the prop's colours."""
    backdrop: Frame
    passers: tuple[Passer, ...]
    camera: tuple[tuple[float, float, float], ...]
    """Amplitude (pixels, or radians for the roll), frequency (Hz) and phase: three waves each for x, y and roll."""
    pan: Point
    """Drift of the camera over the clip, in world pixels."""
    light: np.ndarray
    """Light as factors of R, G and B, [H x W x 3] float32."""
    flicker: tuple[float, float]
    """Amplitude and frequency (Hz) of the light's flicker."""
    blur: float
    """Standard deviation of the lens blur, in pixels."""
    noise: np.ndarray
    """Sensor noise, [H + 32 x W + 32 x 3] int16, shifted at random from frame to frame."""
    jumps: np.ndarray
    """Shifts of the noise, [frames x 2]."""


def prepare(label: str, rng: np.random.Generator, domain: Domain, actor: Actor, motion: Motion, frames: int) -> Take:
    """The random choices for a clip. The label decides only the colours of the prop, no random draw."""

    def pick(bounds: tuple[float, float]) -> float:
        return float(rng.uniform(*bounds))

    floor = pick(domain.floor_px)
    backdrop = (cluttered if domain.clutter else plain)(rng, floor)
    moving = passers(rng, int(rng.integers(domain.passers[0], domain.passers[1] + 1)), floor)
    shake = pick(domain.shake_px)
    waves: list[tuple[float, float, float]] = []
    for scale in (shake, shake, shake / 250.0):
        for low, high in ((0.4, 1.0), (1.0, 2.5), (2.5, 5.0)):
            amplitude = scale * 0.8 * (1.0, 0.7, 0.3)[len(waves) % 3]
            waves.append((amplitude * pick((0.6, 1.4)), pick((low, high)), pick((0.0, 2.0 * math.pi))))
    cast = np.asarray(domain.cast[int(rng.integers(len(domain.cast)))])
    y, x = np.mgrid[-1.0 : 1.0 : HEIGHT * 1j, -1.0 : 1.0 : WIDTH * 1j]
    lamp = 1.0 - pick(domain.vignette) * 0.5 * (x**2 + y**2) + pick(domain.vignette) * 0.3 * x * rng.choice([-1.0, 1.0])
    noise = rng.normal(0.0, pick(domain.noise), (HEIGHT + 32, WIDTH + 32, 3))
    smaller = 0.85 if motion.apparatus == "ladder" else 1.0  # a climb needs height
    stature = pick(domain.stature_px) * smaller
    facing = 1.0 if rng.random() < 0.5 else -1.0
    return Take(
        actor=actor,
        motion=motion,
        frames=frames,
        stature=stature,
        floor=floor,
        centre=WIDTH / 2 + pick((-domain.offset_px, domain.offset_px)) - facing * motion.middle * stature,
        facing=facing,
        paints=domain.paints.get(label, PLAIN),
        grey=pick((112.0, 138.0)),
        tint=pick((0.95, 1.2)),
        backdrop=backdrop,
        passers=tuple(moving),
        camera=tuple(waves),
        pan=(pick((-domain.pan_px, domain.pan_px)), pick((-domain.pan_px, domain.pan_px)) * 0.6),
        light=(lamp[:, :, None] * cast * pick(domain.gain)).astype(np.float32),
        flicker=(0.04 if domain.clutter else 0.0, pick((1.0, 6.0))),
        blur=pick(domain.blur_px),
        noise=np.rint(noise).astype(np.int16),
        jumps=rng.integers(0, 32, (frames, 2)),
    )


def camera(take: Take, t: float) -> Affine:
    """World pixels -> frame pixels at `t` seconds: drift, shake and roll about the middle of the frame."""
    share = t * FPS / take.frames - 0.5
    waves = [a * math.sin(2.0 * math.pi * f * t + p) for a, f, p in take.camera]
    dx, dy = take.pan[0] * share + sum(waves[0:3]), take.pan[1] * share + sum(waves[3:6])
    roll = sum(waves[6:9])
    c, s = math.cos(roll), math.sin(roll)
    mx, my = WIDTH / 2, HEIGHT / 2
    return np.array([[c, -s, mx - c * mx + s * my + dx], [s, c, my - s * mx - c * my + dy]])


def pictures(take: Take) -> Iterator[Frame]:
    """The clip's frames, [H x W x 3] uint8 R G B each."""
    for index in range(take.frames):
        t = index / FPS
        view = camera(take, t)
        frame = stage(take, t, view)
        if take.blur > 0.0:
            frame = np.asarray(cv2.GaussianBlur(frame, (0, 0), take.blur), np.uint8)
        flicker = 1.0 + take.flicker[0] * math.sin(2.0 * math.pi * take.flicker[1] * t)
        lit = cv2.multiply(frame, take.light, scale=flicker, dtype=cv2.CV_8U)
        dy, dx = take.jumps[index].tolist()
        noise = take.noise[dy : dy + HEIGHT, dx : dx + WIDTH]
        yield np.asarray(cv2.add(lit, noise, dtype=cv2.CV_8U), np.uint8)


def stage(take: Take, t: float, view: Affine) -> Frame:
    """The scene before the camera at `t` seconds, evenly lit, [H x W x 3]."""
    shifted = view.copy()
    shifted[:, 2] -= view[:, :2] @ np.array([MARGIN, MARGIN])
    seen = cv2.warpAffine(take.backdrop, shifted, (WIDTH, HEIGHT), flags=cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)
    frame = np.asarray(seen, np.uint8)
    canvas = Canvas(frame, view)
    for passer in take.passers:
        passer.draw(canvas, t)
    perform(take, canvas, t)
    return frame


def perform(take: Take, canvas: Canvas, t: float) -> None:
    """Draw the figure and its props, far things first."""
    pose = take.motion.pose(t)
    j = joints(take.actor, pose)

    def at(p: Point) -> Point:
        return take.centre + take.facing * p[0] * take.stature, take.floor - p[1] * take.stature

    def body(capsules: list[Capsule]) -> None:
        for c in capsules:
            canvas.capsule(at(c.a), at(c.b), c.wa * take.stature, c.wb * take.stature, c.colour)

    def limb(side: int, part: str) -> None:
        body(limbs(take.actor, j, side, part, pose.front))

    props = Props(take.paints, take.grey, take.tint, take.stature, canvas, at)
    core = trunk(take.actor, j, pose.front, take.motion.apparatus == "ladder")
    if take.motion.apparatus == "ladder":
        props.ladder(take.motion.height, take.motion.spacing)
    else:
        props.shadow(pose.hip[0])
    if pose.front:
        for side in (0, 1):
            limb(side, "leg")
        body(core)
        if pose.box:
            props.box(pose.box)
        if pose.ball:
            props.ball(pose.ball)
        for side in (0, 1):
            limb(side, "arm")
        return
    limb(0, "arm")
    limb(0, "leg")
    body(core)
    limb(1, "leg")
    if take.motion.apparatus == "block":
        props.block(0.53, take.motion.height)
    if pose.tool:
        props.tool(*pose.tool)
    limb(1, "arm")
