from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.extract.cli.test_extract import cia_extract
from tests.extract.clips.test_video import encode
from tests.faults.commands import Launcher

CLIPS = 6


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
