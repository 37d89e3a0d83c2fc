import random
import shutil
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from cia_extract import features

from tests.extract.cli.test_application import cia_extract
from tests.extract.clips.test_video import encode
from tests.faults.commands import Launcher
from tests.faults.jobs import CLIPS, extraction, training


@pytest.fixture(scope="session")
def launcher(tmp_path_factory) -> Iterator[Launcher]:
    one = Launcher(tmp_path_factory.mktemp("commands"))
    yield one
    one.close()


@pytest.fixture(scope="session")
def root(tmp_path_factory) -> Path:
    """A folder of six clips with their manifest."""
    root = tmp_path_factory.mktemp("clips")
    (root / "wave").mkdir()
    for index in range(CLIPS):
        encode(root / "wave" / f"clip{index}.mp4", 8 + index)
    assert cia_extract("manifest", "--from-folders", root).returncode == 0
    return root


@pytest.fixture(scope="session")
def whole(root, launcher, tmp_path_factory) -> tuple[features.DatasetFeatures, float]:
    """What one process writes that nobody interrupts, and the seconds that it takes."""
    out = tmp_path_factory.mktemp("whole") / "f.h5"
    began = time.monotonic()
    once = launcher.run(*extraction(root, out))
    assert once.wait() == 0, once.told
    return features.open_features(out)["d"], time.monotonic() - began


@pytest.fixture(scope="session")
def trained(small_file, launcher, tmp_path_factory) -> Path:
    """Runs of 1 epoch, of 1 that got another, and of 8, that nobody killed, in folders of the names 1, 2 and 8."""
    runs = tmp_path_factory.mktemp("trained")
    for epochs in (1, 2, 8):
        if epochs == 2:
            shutil.copytree(runs / "1", runs / "2")
        once = launcher.run(*training(small_file, runs / str(epochs), epochs))
        assert once.wait() == 0, once.told
    return runs


@pytest.fixture
def chance(request) -> random.Random:
    """The moments of kills and signals. The seed is printed where a test fails."""
    seed = request.config.getoption("--kill-seed")
    seed = random.randrange(2**32) if seed is None else seed
    print(f"--kill-seed {seed}")
    return random.Random(seed)
