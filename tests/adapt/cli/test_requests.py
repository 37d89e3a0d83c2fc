"""What goes with what on the command line, where clips are given in place of features."""

from pathlib import Path

import pytest
from cia_adapt import config
from cia_adapt.cli.options import Data, Footage, Machine, Runs
from cia_adapt.cli.requests import request
from cia_extract.common.errors import UsageError

CLIPS, CPU = Footage(clips=("a.csv",)), Machine(device="cpu")


def asked(setup: str, data: Data = Data(), footage: Footage = CLIPS, machine: Machine = CPU):  # noqa: B008
    return request(config.load(setup, "cia", {}), data, machine, Runs(), footage=footage)


def test_clips_go_with_setups_that_train_the_backbone():
    made = asked("e55-i3d", footage=Footage(clips=("a.csv",), root=Path("r"), frame_cache=Path("c"), checkpointing=True))
    assert made.footage.clips == ("a.csv",) and (made.footage.root, made.footage.cache) == (Path("r"), Path("c"))
    assert made.features is None and made.checkpointing and made.footage.workers >= 1
    assert made.where == "--clips a.csv"
    with pytest.raises(
        UsageError, match=r"--clips: set-up uh trains on features; take one that trains the backbone too \(e55-i3d"
    ):
        asked("uh")
    assert asked("uh", Data(features=Path("f.h5")), Footage()).footage is None


def test_what_does_not_go_together_is_refused():
    with pytest.raises(UsageError, match="--setup e55-i3d: trains the backbone too and needs clips: --clips MANIFEST"):
        asked("e55-i3d", Data(features=Path("f.h5")), Footage())
    with pytest.raises(UsageError, match="--features and --clips: give one of both"):
        asked("e55-i3d", Data(features=Path("f.h5")))
    with pytest.raises(UsageError, match="--features is missing"):
        asked("uh", footage=Footage())
    with pytest.raises(UsageError, match="--compile: does not go with --clips"):
        asked("e55-i3d", machine=Machine(device="cpu", compiled=True))
