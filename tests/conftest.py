"""Shared fixtures. Real clips and references come from ../shared/data; tests that need them skip, saying so, without it."""

import os
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from cia_extract import recipes
from cia_extract.features import writer

from tests.browser import chromium  # noqa: F401  # here, once: imported into two modules it would be two browsers in one process


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("faults", "tests/faults")
    group.addoption("--kills", type=int, default=100, help="How often the slow tests of tests/faults/test_kills.py kill, in all.")
    group.addoption("--kill-seed", type=int, help="Seed of the moments of kills; a test that fails prints its own.")
    group.addoption(
        "--mutants", type=int, default=1000, help="How many damaged clips the slow test of tests/faults/test_media.py reads."
    )
    group.addoption("--media-seed", type=int, help="Seed of the damage; a test that fails prints its own.")

    parser.addoption("--gpu", default="cuda", metavar="DEVICE", help="Where tests marked gpu run; cpu tries them without one.")


@pytest.fixture(scope="session")
def gpu(request: pytest.FixtureRequest) -> torch.device:
    """The device of the tests marked gpu."""
    device = torch.device(request.config.getoption("--gpu"))
    if device.type == "cuda" and not torch.cuda.is_available():
        pytest.skip("no CUDA device; --gpu cpu tries these tests without one")
    return device


SHARED = Path(os.environ.get("CIA_SHARED_DATA") or Path(__file__).parents[2] / "shared" / "data")


@pytest.fixture(scope="session")
def shared() -> Path:
    if not SHARED.is_dir():
        pytest.skip(f"no reference data in {SHARED} (set CIA_SHARED_DATA)")
    return SHARED


@pytest.fixture(scope="session")
def kinetics():
    """DeepMind's rgb_scratch weights, downloaded once into the cache."""
    from cia_extract.networks import weights

    return weights.load("i3d", "rgb", "kinetics", print)


CLASSES = ("jump", "run", "wave")
RECIPE = {"dataset": "", "backbone": "i3d", "modalities": ["rgb", "flow"], "weights": {}, "frames": 5, "code_version": "1"}
RECIPE["preprocessing"] = recipes.load("kinetics", {"sampling.frames": 5}).knobs(["rgb", "flow"])


def make_dataset(path: Path, name: str, seed: int, clips_per_class: int = 6, frames: int = 5, modalities=("rgb", "flow")):
    """A feature file dataset of separable random features: each class raises its own channels, each domain shifts all."""
    random = np.random.default_rng(seed)
    labels = [label for label in CLASSES for _ in range(clips_per_class)]
    columns = {
        "clip": [f"{name}{i}" for i in range(len(labels))],
        "path": [f"{name}{i}.avi" for i in range(len(labels))],
        "label": labels,
        "split": ["val" if i % 3 == 2 else "train" for i in range(len(labels))],
    }
    recipe = RECIPE | {"dataset": name, "frames": frames, "modalities": list(modalities)}
    dataset = writer.begin_or_continue(path, name, columns, recipe, path.parent, overwrite=False)
    shift = random.uniform(0, 0.3, size=(1024, 1, 1))
    with writer.RowWriter(dataset) as rows:
        for row, label in enumerate(labels):
            rows.write_clip(row, 50, 25.0, np.arange(frames, dtype=np.int32))
            for modality in modalities:
                maps = random.uniform(0, 0.5, size=(frames, 1024, 7, 7)) + shift
                maps[:, CLASSES.index(label) :: 7] += 0.4
                if modality == "audio":
                    maps = maps[:, :, :1, :1]
                rows.write_row(row, modality, maps.astype(np.float32))
    return dataset


@pytest.fixture(scope="session")
def feature_file(tmp_path_factory) -> Path:
    """Two domains, `here` and `there`, of 18 clips and 3 classes each. Read only."""
    path = tmp_path_factory.mktemp("features") / "feats.h5"
    make_dataset(path, "here", seed=1)
    make_dataset(path, "there", seed=2)
    return path


SIGNAL = 2.0  # of a class in its channels, over features of 0 to 0.8: few channels have to say what many do in other files


def make_small(path: Path, channels: int = 64, clips_per_class: int = 6, frames: int = 5) -> Path:
    """A foreign HDF5 file, chunked, of both domains and three modalities, with few channels: quick to train on."""
    with h5py.File(path, "w") as file:
        for seed, name in enumerate(("here", "there"), 1):
            random = np.random.default_rng(seed)
            labels = [label for label in CLASSES for _ in range(clips_per_class)]
            shift = random.uniform(0, 0.3, size=(channels, 1, 1))
            columns = {"clip": [f"{name}{i}" for i in range(len(labels))], "label": labels}
            columns["split"] = ["val" if i % 3 == 2 else "train" for i in range(len(labels))]
            for column, values in columns.items():
                file[f"{name}/clips/{column}"] = np.array(values, dtype="S")
            for modality in ("rgb", "flow", "audio"):
                maps = random.uniform(0, 0.5, size=(len(labels), frames, channels, 7, 7)) + shift
                for row, label in enumerate(labels):
                    maps[row, :, CLASSES.index(label) :: 7] += SIGNAL
                file[f"{name}/{modality}/pooled"] = maps.mean((3, 4)).astype(np.float32)
                if modality != "audio":
                    file.create_dataset(f"{name}/{modality}/maps", data=maps.astype(np.float16), chunks=(1, *maps.shape[1:]))
    return path


@pytest.fixture(scope="session")
def small_file(tmp_path_factory) -> Path:
    """`make_small`, with rgb, flow and audio of 64 channels. Read only."""
    return make_small(tmp_path_factory.mktemp("features") / "small.h5")


@pytest.fixture(scope="session")
def tiny_clips(tmp_path_factory) -> Path:
    """The manifest of `tests.adapt.clips_of.render`, with its frames in the folder `cache` beside it. Read only."""
    from cia_adapt.footage import Footage, opened

    from tests.adapt.clips_of import PICTURES, render

    path = render(tmp_path_factory.mktemp("clips"))
    opened(Footage((str(path),), None, path.parent / "cache", (), "dis", 1), PICTURES, print)
    return path
