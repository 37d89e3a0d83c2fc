"""Tiny clips, rendered as folders of pictures, and runs that train the backbone on them."""

from pathlib import Path

import numpy as np
from cia_adapt import config
from cia_adapt.data import Stores
from cia_adapt.experiments import Request, clips, directions
from cia_adapt.footage import Footage, Pictures
from cia_adapt.training import Evaluator, Trainer
from cia_extract.datasets import manifest
from PIL import Image

from tests.adapt.runs_of import CPU

CLASSES, FRAMES, CLIPS = ("down", "right"), 9, 4
TINY = {"short_side": 32, "width": 40, "crop": 32, "segments": 4, "epochs": 2, "batch": 4}
PICTURES = Pictures("i3d", ("rgb", "flow"), 4, 32, 40, "dis")


def render(folder: Path) -> Path:
    """A manifest of two domains × two classes × (4 training and 2 val) clips: a bright square moves down or to the right."""
    rows = []
    random = np.random.default_rng(0)
    for domain, colour in (("day", (250, 240, 90)), ("night", (90, 120, 250))):
        for label in CLASSES:
            for number in range(CLIPS + 2):
                clip = f"{domain}-{label}-{number}"
                ground = random.integers(0, 60, size=(48, 64, 3)).astype(np.uint8)
                at = random.integers(4, 12, size=2)
                (folder / clip).mkdir(parents=True)
                for t in range(FRAMES):
                    picture, (y, x) = ground.copy(), at + 3 * t * np.array((label == "down", label == "right"))
                    picture[y : y + 14, x : x + 14] = colour
                    Image.fromarray(picture).save(folder / clip / f"frame_{t + 1:04d}.png")
                split = "train" if number < CLIPS else "val"
                rows.append({"clip": clip, "path": clip, "label": label, "split": split, "domain": domain})
    path = folder / "tiny.csv"
    manifest.check("tiny", rows).write(path)
    return path


def request(path: Path, folder: Path, method: str = "cia", sets=(), modalities=(), **setup) -> Request:
    """From day to night, with random weights."""
    chosen = config.load("demo-i3d", method, TINY | setup, ["sc.embedding=16", *sets] if method == "cia" else sets)
    footage = Footage((str(path),), None, path.parent / "cache", ("random",), "dis", 1)
    return Request(
        footage=footage, chosen=chosen, sources=("day",), target="night", modalities=modalities, runs=folder, seeds=(0,)
    )


def trainer_of(asked: Request) -> tuple[Trainer, Evaluator]:
    """Those of the request's one direction, seed 0."""
    (direction,) = directions.prepared(asked, lambda message: None)
    task, labels = directions.task_of(direction, Stores(CPU))
    trunk = clips.trunk_of(asked, direction)
    trainer = Trainer(task, direction.setup, direction.method, 0, CPU, asked.precision, trunk=trunk)
    return trainer, Evaluator(task, labels, direction.setup.segments, CPU, asked.precision, direction.setup.test_clips)
