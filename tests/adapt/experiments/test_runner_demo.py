"""Every method on real features of the demo's clips, both directions, three modalities; the slow half with two.

I3D on RGB and flow; sound through TBN with random weights, since there are no others here.
"""

import json
import math
from collections.abc import Sequence
from pathlib import Path

import pytest
from cia_adapt import config
from cia_adapt.experiments import Request, runner
from cia_extract.datasets import demo, manifest
from filelock import FileLock

from tests.adapt.runs_of import SOURCE_FREE, chosen, quick_first
from tests.command_line import in_a_process

METHODS = config.names("methods")
TWO = ("climb_up", "chop_wood")
EIGHT = (*TWO, "climb_down", "beat_drum", "slam_ball", "snatch_ball", "lift_crate", "lift_suitcase")
MODALITIES = [("rgb", "flow"), ("rgb", "flow", "audio")]


def extracted(folder: Path, clips: int, frames: int, classes: Sequence[str]) -> Path:
    """Some classes of the demo, extracted once for all processes that test."""
    out = folder / f"demo-{clips}-{frames}-{len(classes)}.h5"
    with FileLock(f"{out}.lock"):
        if not out.with_suffix(".ok").exists():
            root = folder / f"clips-{clips}"
            rows = [row for row in demo.build(root, clips) if row["label"] in classes]
            manifest.check("demo", rows).write(root / "manifest.csv")
            # The shortest windows that I3D takes: half the network's time, and accuracy is not judged here.
            options = ["--frames", frames, "--window", 9, "--flow", "dis", "--weights", "audio=random"]
            options += [word for m in MODALITIES[1] for word in ("--modality", m)]
            done = in_a_process("cia_extract", "--dataset", "clips", "--root", root, "--out", out, *options)
            assert done.returncode == 0, done.stderr
            out.with_suffix(".ok").touch()
    return out


@pytest.fixture(scope="session")
def demo_features(tmp_path_factory) -> Path:
    return extracted(tmp_path_factory.getbasetemp().parent, clips=2, frames=2, classes=TWO)


def train_both_directions(file: Path, picked: config.Chosen, modalities, folder: Path) -> list[list[dict]]:
    """Metrics of both runs, by epoch."""
    request = Request(features=file, chosen=picked, modalities=modalities, runs=folder, keep_state=False)
    results = runner.run(request, lambda message: None)
    assert [(r["source"], r["target"]) for r in results] == [("street", "studio"), ("studio", "street")]
    histories = []
    for result in results:
        run = folder / f"demo/{picked.method.name}/{result['source']}-{result['target']}/seed0"
        histories.append([json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()])
        assert len(histories[-1]) == picked.setup.epochs
        assert all(0 <= result[name] <= 100 for name in ("last", "selected", "oracle"))
        assert json.loads((run / "config.json").read_text())["modalities"] == list(modalities)
    return histories


@pytest.mark.parametrize("modalities", [pytest.param(MODALITIES[0], marks=pytest.mark.slow), MODALITIES[1]], ids=["two", "three"])
@pytest.mark.parametrize("method", quick_first(METHODS))
def test_every_method_trains_in_both_directions(demo_features, tmp_path, method, modalities):
    """A smoke test: each part runs on real features and its loss is finite. That it learns is the business of the slow test."""
    picked = chosen(method, epochs=2 if method in SOURCE_FREE else 1, batch=8, segments=2, lr=1e-4)
    for history in train_both_directions(demo_features, picked, modalities, tmp_path):
        assert math.isfinite(history[0]["class_loss"])


TAKE_LONGER = {
    "cia-ib",
    "cia-inject",
    "cia-jan",
    "cia-mec",
    "cia-shot",
    "dan",
    "jan",
    "max",
    "mec",
    "sc-2",
    "sc-identity",
    "transvae",
}
NOT_EVEN_THEN = {
    ("cia-ib", "audio"),
    ("cia-jan", "audio"),
    ("jan", "audio"),
    ("transvae", "flow"),
}  # with that last modality; 2.08 to 2.10 nats


@pytest.mark.slow
@pytest.mark.parametrize("modalities", MODALITIES, ids=["two", "three"])
@pytest.mark.parametrize("method", METHODS)
def test_every_method_in_full(request, tmp_path_factory, tmp_path, method, modalities):
    """All classes, more clips and epochs, the set-up's own batch, every part at its full width; the loss falls below chance's."""
    if (method, modalities[-1]) in NOT_EVEN_THEN:
        why = "at its published weights it stays at chance over 24 clips (transvae over 128 as well: benchmarks/STUDY.md)"
        request.applymarker(pytest.mark.xfail(reason=why, raises=AssertionError, strict=True))
    file = extracted(tmp_path_factory.getbasetemp().parent, clips=3, frames=3, classes=EIGHT)
    picked = config.load("demo", method, {"epochs": 24 if method in TAKE_LONGER else 8, "segments": 3, "lr": 1e-3})
    for history in train_both_directions(file, picked, modalities, tmp_path):
        losses = [metrics["class_loss"] for metrics in history if "class_loss" in metrics]
        assert losses[-1] < min(losses[0], math.log(8))
