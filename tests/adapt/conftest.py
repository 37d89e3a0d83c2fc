"""Runs that tests of several rooms look at."""

from pathlib import Path

import pytest
from cia_adapt import config
from cia_adapt.experiments import Request, runner

from tests.adapt.e100_of import make_e100


@pytest.fixture(scope="session")
def e100_file(tmp_path_factory) -> Path:
    """`make_e100`. Read only."""
    return make_e100(tmp_path_factory.mktemp("e100") / "feats.h5")


@pytest.fixture(scope="session")
def e100_runs(tmp_path_factory, e100_file) -> Path:
    """Two seeds of dann on `e100_file`, source → target. Read only."""
    runs = tmp_path_factory.mktemp("e100_runs") / "runs"
    chosen = config.load("e100", "dann", {"epochs": 6, "batch": 8, "lr": 1e-2, "shared_features": 32})
    runner.run(
        Request(features=e100_file, chosen=chosen, sources=("source",), target="target", seeds=(0, 1), runs=runs),
        lambda message: None,
    )
    return runs
