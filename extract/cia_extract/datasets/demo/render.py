"""From a clip's seed to the bytes of an MP4 file: H.264 video, AAC sound."""

import io
from dataclasses import dataclass
from fractions import Fraction

import av
import cv2
import numpy as np

from cia_extract.datasets.demo.backdrop import HEIGHT, WIDTH
from cia_extract.datasets.demo.classes import CLASSES, DOMAINS
from cia_extract.datasets.demo.domains import PARAMETERS
from cia_extract.datasets.demo.figure import draw_actor
from cia_extract.datasets.demo.motions import perform
from cia_extract.datasets.demo.scene import FPS, Take, pictures, prepare
from cia_extract.datasets.demo.sound import RATE, soundtrack

SPLITS = ("train", "val")
ACTORS = {"train": 16, "val": 8}
"""Actors per domain and split; clip i of a class shows actor i modulo this, so every actor performs every class."""


@dataclass(frozen=True)
class Clip:
    """The identity of one clip: everything in it follows from these five values."""

    seed: int
    """Seed of the dataset."""
    domain: str
    label: str
    split: str
    index: int

    @property
    def name(self) -> str:
        """The clip's id in the manifest."""
        return f"{self.domain}-{self.label}-{self.split}-{self.index:04d}"

    @property
    def path(self) -> str:
        """The clip's file, relative to the dataset's folder."""
        return f"{self.domain}/{self.label}/{self.name}.mp4"

    @property
    def actor(self) -> int:
        """Number of the actor within domain and split."""
        return self.index % ACTORS[self.split]

    @property
    def group(self) -> str:
        """The actor's name, as the manifest's column `group` has it."""
        return f"{self.domain}-{self.split}-actor{self.actor}"

    @property
    def own_seed(self) -> int:
        """The clip's own 64-bit seed."""
        place = (DOMAINS.index(self.domain), CLASSES.index(self.label), SPLITS.index(self.split), self.index)
        return int(np.random.SeedSequence([1, self.seed, *place, 1]).generate_state(1, np.uint64)[0])

    def actor_rng(self) -> np.random.Generator:
        """The generator of the actor's looks, the same in all classes."""
        place = (DOMAINS.index(self.domain), SPLITS.index(self.split), self.actor)
        return np.random.default_rng([2, self.seed, *place, 0, 1])


def take(clip: Clip) -> tuple[Take, np.random.Generator]:
    """The clip's scene, and the generator of its sound and codec settings."""
    domain = PARAMETERS[clip.domain]
    moving, seen, heard = (np.random.default_rng(s) for s in np.random.SeedSequence(clip.own_seed).spawn(3))
    frames = int(moving.integers(46, 55))  # 1.8 to 2.2 s
    last = (frames - 1) / FPS  # time of the last frame, so that films played backwards show the very same frames
    motion = perform(clip.label, moving, last, float(moving.uniform(*domain.speed)))
    actor = draw_actor(clip.actor_rng(), domain.wardrobe)
    return prepare(clip.label, seen, domain, actor, motion, frames), heard


def render(clip: Clip) -> bytes:
    """The clip as an MP4 file. The same bytes every time with the same libraries: encoders run in one thread."""
    cv2.setNumThreads(1)
    domain = PARAMETERS[clip.domain]
    scene, rng = take(clip)
    crf = int(rng.integers(domain.crf[0], domain.crf[1] + 1))
    samples = soundtrack(clip.label, scene.motion.events, scene.frames / FPS, rng, domain)
    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        video = container.add_stream("libx264", rate=FPS)
        video.width, video.height, video.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        video.codec_context.thread_count = 1
        # Without cpu-independent the fastest SIMD code of some processors gives other bytes once in a few runs.
        video.options = {"crf": str(crf), "preset": "veryfast", "threads": "1", "x264-params": "cpu-independent=1"}
        sound = container.add_stream("aac", rate=RATE)
        sound.codec_context.layout = "mono"
        sound.codec_context.bit_rate = domain.sound_kbit * 1000
        for picture in pictures(scene):
            planes = np.asarray(cv2.cvtColor(picture, cv2.COLOR_RGB2YUV_I420), np.uint8)  # BT.601, limited range
            container.mux(video.encode(av.VideoFrame.from_ndarray(planes, format="yuv420p")))
        container.mux(video.encode(None))
        block = 1024  # samples in an AAC frame
        for first in range(0, len(samples), block):
            piece = av.AudioFrame.from_ndarray(samples[None, first : first + block], format="fltp", layout="mono")
            piece.sample_rate, piece.pts, piece.time_base = RATE, first, Fraction(1, RATE)
            container.mux(sound.encode(piece))
        container.mux(sound.encode(None))
    return file.getvalue()
