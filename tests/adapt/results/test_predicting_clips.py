"""A run that trained its backbone predicts clips from their frames: its own, and anybody's new ones."""

import json
import shutil
from dataclasses import replace

import cia_adapt
import pandas as pd
import pytest
import torch
from cia_adapt.cli import main
from cia_adapt.experiments import runner
from cia_adapt.footage import Footage, filling
from cia_adapt.results import predicting
from cia_adapt.runs import files
from cia_extract.common.errors import UsageError
from cia_extract.datasets import manifest

from tests.adapt.clips_of import request
from tests.adapt.runs_of import copied
from tests.command_line import in_this_process


def silent(message: str) -> None:
    pass


@pytest.fixture(scope="module")
def run(tiny_clips, tmp_path_factory):
    """The folder of a run of two epochs, whose evaluation averages two samplings."""
    runs = tmp_path_factory.mktemp("runs")
    asked = request(tiny_clips, runs, "source-only", modalities=("rgb",), test_clips=2)
    runner.run(replace(asked, footage=replace(asked.footage, cache=runs / "cache")), silent, quiet=True)
    return runs / "demo-i3d/source-only/day-night/seed0"


@pytest.fixture
def new_clips(tiny_clips, tmp_path):
    """Two clips of the run's target under other names, in a place of their own, without labels."""
    rows = []
    for number, clip in enumerate(("night-down-4", "night-right-5")):
        shutil.copytree(tiny_clips.parent / clip, tmp_path / "footage" / f"new-{number}")
        rows.append({"clip": f"new-{number}", "path": f"new-{number}", "label": "", "split": "test"})
    manifest.check("new", rows).write(tmp_path / "footage/new.csv")
    return tmp_path / "footage/new.csv"


@pytest.mark.parametrize("epoch", ["selected", "last"])
def test_its_own_clips_get_the_scores_that_training_wrote_and_nothing_is_decoded(run, epoch, monkeypatch):
    monkeypatch.setattr(filling, "prepared_clips", lambda jobs, workers: pytest.fail("clips are decoded"))
    scores = predicting.scores_of(run, predicting.Asked(split="val", epoch=epoch), silent)
    assert list(scores.clips) == [row["clip"] for row in files.read_predictions(run)]
    stored = files.load_scores(run)[f"{epoch}/target_probabilities/label"]
    torch.testing.assert_close(torch.from_numpy(scores.probabilities["label"]), stored)
    assert len(predicting.scores_of(run, predicting.Asked(dataset="day"), silent).clips) == 12


def test_new_clips_without_labels_are_decoded_and_predicted(run, new_clips, tmp_path):
    """The same frames as two of the target's give the same numbers, as a command and as a function."""
    out = tmp_path / "s.csv"
    words = ("--clips", new_clips, "--frame-cache", tmp_path / "cache", "--workers", 1, "--out", out)
    done = in_this_process(main, "predict", run, *words)
    assert (done.returncode, done.stdout) == (0, f"{out}: 2 clips\n")
    written = pd.read_csv(out)
    table = cia_adapt.predict(run, clips=[str(new_clips)], frame_cache=tmp_path / "cache", workers=1).table
    own = cia_adapt.predict(run, split="val").table.set_index("clip").loc[["night-down-4", "night-right-5"]]
    assert list(written["clip"]) == list(table["clip"]) == ["new-0", "new-1"] and list(written["label"]) == list(own["label"])
    for name in ("label=down", "label=right"):
        assert table[name].tolist() == pytest.approx(own[name].tolist(), abs=1e-6)
        assert written[name].tolist() == pytest.approx(own[name].tolist(), abs=1e-5)
    assert own["label=down"].nunique() == 2


def test_what_does_not_go_together_is_one_line(run, new_clips, e100_runs, small_file, tmp_path):
    with pytest.raises(UsageError, match=r"trained its backbone and sees frames; give --clips MANIFEST in place of --features"):
        predicting.scores_of(run, predicting.Asked(features=small_file), silent)
    over_features = e100_runs / "e100/dann/source-target/seed0"
    with pytest.raises(UsageError, match=r"trained on features; describe the clips with cia-extract"):
        predicting.scores_of(over_features, predicting.Asked(footage=Footage((str(new_clips),))), silent)
    both = in_this_process(main, "predict", run, "--features", small_file, "--clips", new_clips)
    assert both.returncode == 2 and "--features and --clips: give one of both" in both.stderr
    older = copied(run, tmp_path / "older")
    stamp = json.loads((older / "stamp.json").read_text())
    del stamp["clips"]
    (older / "stamp.json").write_text(json.dumps(stamp))
    with pytest.raises(UsageError, match=r"does not say where its clips are; name them with --clips"):
        predicting.scores_of(older, predicting.Asked(), silent)


def test_without_clips_nothing_is_written_where_a_run_says_that_its_frames_are(run, tiny_clips, tmp_path):
    """The run may be somebody else's. Its clips' names are as good as a command; what they need decoded, --clips decodes."""
    foreign = copied(run, tmp_path / "foreign")
    stamp = json.loads((foreign / "stamp.json").read_text())
    for clips in stamp["clips"]:
        clips["frame_cache"] = str(tmp_path / "home")
    (foreign / "stamp.json").write_text(json.dumps(stamp))
    done = in_this_process(main, "predict", foreign, "--out", tmp_path / "s.csv")
    said = f"{tmp_path}/home/{tiny_clips.stem}: has no rgb frames; name the clips with --clips, and they are decoded"
    assert done.returncode == 2 and said in done.stderr
    assert not (tmp_path / "home").exists() and not (tmp_path / "s.csv").exists()
