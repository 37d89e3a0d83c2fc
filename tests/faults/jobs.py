"""The work that faults are injected into, and what must be left of it: a small extraction, and the training of a small run."""

from pathlib import Path

import numpy as np
from cia_extract import features
from cia_extract.common.errors import DataError

CLIPS = 6
# The cheapest networks: what is tested is what is left of rows, not what is in them.
FAST = ["--backbone", "tbn", "--modality", "rgb", "--modality", "flow", "--flow", "dis", "--weights", "random", "--frames", 1]
FAST += ["--workers", 1, "--deterministic"]


def extraction(root: Path, out: Path) -> list[object]:
    return ["cia-extract", "--dataset", "d", "--root", root, "--out", out, *FAST]


def finished_rows(out: Path, whole: features.DatasetFeatures) -> set[tuple[int, int]]:
    """(row, modality) that are done, each compared with the uninterrupted file's; none before the file is laid out."""
    try:
        dataset = features.open_features(out)["d"]
    except DataError as error:  # killed before the dataset was in the file
        assert not out.exists() or "run the same cia-extract command again" in str(error), error
        return set()
    assert not dataset.damaged_rows("rgb") and not dataset.damaged_rows("flow")
    done = {(int(row), int(m)) for row, m in np.argwhere(dataset.array("status") == features.DONE)}
    for row, m in done:
        for name in ("maps", "pooled"):
            path = f"{dataset.modalities[m]}/{name}"
            np.testing.assert_array_equal(dataset.array(path)[row], whole.array(path)[row], err_msg=f"{path} row {row}")
    return done


def assert_same(out: Path, whole: features.DatasetFeatures) -> None:
    """Every array of the file equals the uninterrupted one's, and nothing lies beside it."""
    dataset = features.open_features(out)["d"]
    assert dataset.provenance == whole.provenance
    for name in whole.regions:
        np.testing.assert_array_equal(dataset.array(name), whole.array(name), err_msg=name)
    assert [path.name for path in out.parent.iterdir()] == [out.name]


TRAINING = ["--setup", "demo", "--method", "cia", "--set", "sc.embedding=16", "--batch", 6, "--source", "here"]
EVERY_EPOCH = "from cia_adapt.runs import saver; saver.SAVE_EVERY_S = -1\n"  # otherwise every 15 s, which is this run's length
RUN = "demo/cia/here-there/seed0"
NUMBERS = ["metrics.jsonl", "predictions.csv", "last.safetensors", "selected.safetensors", "scores.safetensors"]


def training(file: Path, runs: Path, epochs: int) -> list[object]:
    return ["cia-adapt", "--features", file, *TRAINING, "--epochs", epochs, "--runs", runs, "--resume"]


def assert_same_run(runs: Path, other: Path) -> None:
    """Numbers are the same bytes, and nothing hidden lies beside the run."""
    for name in NUMBERS:
        assert (runs / RUN / name).read_bytes() == (other / RUN / name).read_bytes(), name
    assert [path.name for path in (runs / RUN).parent.iterdir()] == ["seed0"]
