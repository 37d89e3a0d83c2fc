"""`cia-adapt` as a user meets it: run directory, table, JSON, dry run, report, exit codes."""

import csv
import json
import re
import shutil
import subprocess
import sys
from html.parser import HTMLParser
from pathlib import Path
from subprocess import CompletedProcess

import numpy as np
import pytest
import torch
from cia_adapt.cli import main
from cia_adapt.config import library
from cia_adapt.experiments import cost
from cia_adapt.model import VideoModel
from cia_adapt.parts.interface import Sizes
from safetensors.numpy import load_file

from tests.adapt.data.test_foreign import repacked
from tests.command_line import in_a_process, in_this_process
from tests.conftest import make_dataset
from tests.extract.clips.test_video import encode


def cia_adapt(*arguments: object, cwd: Path | None = None) -> CompletedProcess[str]:
    return in_this_process(main, *arguments, cwd=cwd)


QUICK = ["--setup", "demo", "--epochs", 2, "--batch", 6]


@pytest.fixture(scope="module")
def finished(feature_file, tmp_path_factory) -> Path:
    """A folder in which source-only (two seeds) and cia have run in both directions."""
    folder = tmp_path_factory.mktemp("work")
    for extra in (["--method", "source-only", "--seeds", 2], ["--method", "cia"]):
        run = in_a_process("cia_adapt", "--features", feature_file, *QUICK, *extra, cwd=folder)
        assert run.returncode == 0, run.stderr
    return folder


def test_run_directory(finished, feature_file):
    run = finished / "runs/demo/cia/here-there/seed0"
    assert {p.name for p in run.iterdir()} == {
        "config.json", "stamp.json", "metrics.jsonl", "result.json", "last.safetensors", "selected.safetensors",
        "predictions.csv", "scores.safetensors", "state.safetensors", "done",
    }  # fmt: skip
    config, stamp, result = (json.loads((run / f"{n}.json").read_text()) for n in ("config", "stamp", "result"))
    assert config["setup"]["epochs"] == 2 and config["method"]["pooling"] == "sc" and config["seed"] == 0
    assert len(config["features"].split("+")) == 2
    assert stamp["feature_file"] == str(feature_file) and stamp["argv"] and stamp["torch"]
    assert stamp["target_labels_opened"] == {
        "accuracy of each epoch, for the curve and the oracle": 2,
        "counting classes that the source lacks": 1,
        "the label column of predictions.csv": 1,
    }
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    assert [m["epoch"] for m in metrics] == [1, 2]
    accuracies = [m["target_val_accuracy"] for m in metrics]
    assert result["last"] == accuracies[-1] and result["oracle"] == max(accuracies)
    assert result["selected"] == accuracies[result["selected_epoch"] - 1]
    with (run / "predictions.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 6
    assert 100 * np.mean([row["label"] == row["last"] for row in rows]) == pytest.approx(result["last"])
    assert 100 * np.mean([row["label"] == row["selected"] for row in rows]) == pytest.approx(result["selected"])
    assert load_file(run / "scores.safetensors")["last/target_probabilities/label"].shape == (6, 3)
    assert not list(finished.rglob(".*part*"))


def test_a_second_run_reads_what_is_there(finished, feature_file):
    before = (finished / "runs/demo/cia/here-there/seed0/done").stat().st_mtime_ns
    run = cia_adapt("--features", feature_file, *QUICK, "--method", "cia", "--json", cwd=finished)
    assert run.returncode == 0 and run.stderr.count("finished before") == 2
    assert len(json.loads(run.stdout)["runs"]) == 2
    assert (finished / "runs/demo/cia/here-there/seed0/done").stat().st_mtime_ns == before


def test_other_settings_in_the_same_place_are_refused(finished, feature_file):
    run = cia_adapt("--features", feature_file, *QUICK, "--method", "cia", "--lr", 0.001, cwd=finished)
    assert run.returncode == 4
    assert "setup.lr: 0.003 → 0.001" in run.stderr and "--overwrite" in run.stderr


def test_table_has_the_three_numbers_side_by_side(finished, feature_file):
    run = cia_adapt("--features", feature_file, *QUICK, "--method", "source-only", "--seeds", 2, cwd=finished)
    assert re.search(r"last\s+┃\s+selected\s+┃\s+oracle", run.stdout)
    assert re.search(r"source-only │ here → there +│ +[\d.]+ ± [\d.]+ │", run.stdout)
    assert "no honest result" in run.stdout


def test_dry_run(feature_file, tmp_path):
    run = cia_adapt("--features", feature_file, *QUICK, "--dry-run", "--json", cwd=tmp_path)
    planned = json.loads(run.stdout)["plan"]
    assert [(p["source"], p["target"]) for p in planned] == [("here", "there"), ("there", "here")]
    assert planned[0]["source_train_clips"] == 12 and planned[0]["steps"] == 4 and planned[0]["seconds_estimated"] > 0
    assert planned[0]["parameters"] == 788_736 + 2 * (1024 * 64 + 64) + (2048 * 512 + 512) + (512 * 3 + 3) + 2 * (
        512 * 100 + 100 + 202
    )
    assert not (tmp_path / "runs").exists()


def test_macs_of_a_clip_are_those_of_the_formulas():
    def macs(method: str, shape: tuple[int, ...], *sets: str) -> float:
        model = VideoModel(library.load("uh", method, {}, sets).for_pair("", ""), Sizes(
            {"rgb": 64, "flow": 64}, {m: shape for m in ("rgb", "flow") if shape}, (3,), 5, 0.0
        ))  # fmt: skip
        return cost.macs_per_clip(model, {m: torch.rand(2, 5, 64, *shape) for m in ("rgb", "flow")})

    assert macs("source-only", ()) == 5 * 128 * 512 + 512 * 3
    narrow, wide = (macs("sc-3", (7, 7), f"sc.embedding={e}") for e in (16, 32))
    assert wide - narrow == 5 * 16 * (2 * 49 * 64 + 3 * 49 * 49)  # two embeddings; products of the cells of aa, ab and bb


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        ([], 2, "--features is missing"),
        (["--features", "none.h5"], 3, "none.h5: no such file"),
        (["--features", "F", "--method", "magic"], 2, "--method magic: unknown; cia-adapt methods lists all "),
        (["--features", "F", "--setup", "e56"], 2, "--setup e56: unknown, choose from demo, demo-i3d, e100, e100-i3d"),
        (["--features", "F", "--source", "mars"], 2, "--source mars: not in the file, which holds here, there"),
        (["--features", "F", "--source", "here", "--target", "here"], 2, "--target here: is the source as well"),
        (["--features", "F", "--pooling", "median"], 2, "median: no such part in poolings, choose from att"),
        (["--features", "F", "--epochs", "0"], 2, "--epochs 0: give a whole number from 1 to 100000"),
        (["--features", "F", "--dropout", "1.5"], 2, "--dropout 1.5: give a number from 0 to 0.99"),
        (["--features", "F", "--modality", "audio", "--method", "concat"], 3, "has no audio"),
        (["--features", "F", "--modality", "rgb"], 2, "MC exchanges between modalities and needs two, here is rgb"),
        (["--features", "F", "--epoch"], 2, "--epoch"),
        (["--features", "F", "--set", "sc.depth=1"], 2, "--set sc.depth=1: unknown, choose from scales, embedding"),
        (["--features", "F", "--precision", "fp8"], 2, "--precision fp8: unknown, choose from fp32, bf16"),
        (["--features", "F", "--tier", "device", "--device", "cpu"], 2, "--tier device: means a GPU's memory"),
        (["--features", "F", "--setup", "e100"], 3, "has no column 'noun'; see --labels"),
        (["--features", "F", "--val-split", "test", "--method", "concat"], 3, "no finished clip in split 'test'"),
        (["sweep", "--features", "F", "--method", "magic"], 2, "--method magic: unknown"),
        (["table", "nowhere"], 2, "no finished run in nowhere"),
        (["table", "--which", "best"], 2, "--which best: unknown, choose from selected, last, oracle"),
        (["check", "none.h5"], 3, "none.h5: no such file"),
        (["import", "none", "--manifest", "m.csv", "--dataset", "d"], 3, "m.csv: no such manifest"),
        (["methods", "magic"], 2, "--method magic: unknown"),
        (["report", "nowhere"], 2, "no finished run in nowhere"),
    ],
)
def test_a_users_mistake_is_one_line(feature_file, tmp_path, arguments, code, message):
    run = cia_adapt(*(feature_file if a == "F" else a for a in arguments), cwd=tmp_path)
    assert run.returncode == code, run.stderr
    assert message in run.stderr and len(run.stderr.strip().splitlines()) == 1 and run.stdout == ""


def test_one_modality_and_one_direction(feature_file, tmp_path):
    run = cia_adapt(
        "--features",
        feature_file,
        *QUICK,
        "--method",
        "concat",
        "--modality",
        "flow",
        "--source",
        "there",
        "--json",
        cwd=tmp_path,
    )
    (result,) = json.loads(run.stdout)["runs"]
    assert (result["source"], result["target"]) == ("there", "here")


def test_a_modality_named_twice_counts_once(feature_file, tmp_path):
    run = cia_adapt("--features", feature_file, "--modality", "rgb", "--modality", "rgb", "--method", "cia", cwd=tmp_path)
    assert run.returncode == 2 and "needs two, here is rgb" in run.stderr


def test_domains_without_a_common_modality(tmp_path):
    make_dataset(tmp_path / "f.h5", "a", 0, 3, modalities=("rgb",))
    make_dataset(tmp_path / "f.h5", "b", 1, 3, modalities=("flow",))
    run = cia_adapt("--features", "f.h5", "--method", "concat", cwd=tmp_path)
    assert run.returncode == 2 and "no modality in common" in run.stderr


def test_methods_are_listed_and_shown():
    listed = cia_adapt("methods")
    assert listed.returncode == 0 and "Table 3, source only, STCDA" in listed.stdout and "U→H 90.56, H→U 94.22" in listed.stdout
    shown = cia_adapt("methods", "ta3n")
    assert "ta3n.strength: 1.0" in shown.stdout and "weight: 0.003" in shown.stdout


def test_bench_prints_tiers_and_steps(feature_file):
    run = cia_adapt(
        "bench", feature_file, "--setup", "demo", "--batch", 6, "--steps", 1, "--method", "concat", "--method", "sc-identity"
    )
    assert run.returncode == 0, run.stderr
    assert re.search(r"maps +map +[\d.]+ GB/s +\d+ clips/s", run.stdout) and re.search(r"vectors +ram ", run.stdout)
    for tier in ("map", "ram"):
        assert re.search(rf"concat +{tier} .* ms a step of 6 \+ 6 clips .* % of the peak", run.stdout)


def test_bench_says_how_a_foreign_file_is_read_and_of_what_the_peak_is(feature_file, tmp_path):
    foreign = repacked(feature_file, tmp_path / "r.h5")
    options = ["--setup", "demo", "--batch", 6, "--steps", 1, "--method", "concat", "--precision", "bf16", "--modality", "rgb"]
    run = cia_adapt("bench", foreign, *options)
    assert run.returncode == 0 and re.search(r"bf16 products of (256|512|1024|2048)×", run.stdout)
    assert re.search(r"vectors +hdf5 ", run.stdout) and re.search(r"concat +hdf5 ", run.stdout)


def test_check_passes_a_sound_file_and_fails_a_broken_one(feature_file, tmp_path):
    run = cia_adapt("check", feature_file)
    assert run.returncode == 0 and run.stdout.endswith("0 faults, 0 notes\n")
    make_dataset(tmp_path / "f.h5", "a", 0, 3)
    (tmp_path / "m.csv").write_text("clip,path,label,split\na0,p,x,train\nlost,p,x,train\n")
    run = cia_adapt("check", tmp_path / "f.h5", "--manifest", tmp_path / "m.csv")
    assert run.returncode == 3 and "1 clips of" in run.stdout and "missing: lost" in run.stdout


def test_a_half_written_run_is_no_run(finished, tmp_path):
    shutil.copytree(finished / "runs/demo/cia/here-there/seed0", tmp_path / "x/.seed0.part1")
    assert cia_adapt("report", tmp_path / "x", cwd=tmp_path).returncode == 2


def test_a_report_refuses_to_average_different_experiments(finished, feature_file, tmp_path):
    other = ["--method", "source-only", "--lr", 0.5, "--epochs", 3, "--runs", tmp_path / "other"]
    assert cia_adapt("--features", feature_file, *QUICK, *other, cwd=tmp_path).returncode == 0
    run = cia_adapt("report", finished / "runs", tmp_path / "other", cwd=tmp_path)
    assert run.returncode == 4 and re.search(r"setup\.epochs: (2 → 3|3 → 2); setup\.lr: ", run.stderr)


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.images: list[str] = []
        self.links: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        values = dict(attributes)
        if tag == "img":
            self.images.append(values["src"])
            assert values["alt"]
        self.links += [v for k, v in attributes if k in {"href", "src"} and v and not v.startswith("data:")]


@pytest.mark.parametrize("clips", [1, 12])
def test_features_that_are_all_the_same_are_one_point(clips):
    """In a process of its own: scikit-learn's t-SNE ended it with a segmentation fault."""
    code = "import numpy as np; from cia_adapt.results.figures import tsne; "
    code += f"x = np.ones(({clips}, 9)); print(tsne(x, x, 0)[0].sum())"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert run.returncode == 0 and run.stdout.strip() == "0.0" and not run.stderr


def test_report_is_self_contained_and_says_what_it_cannot_draw(finished):
    """The fixture's clips do not exist: the charts are there, the missing frames are explained."""
    run = cia_adapt("report", "runs", "--out", "r/report.html", cwd=finished)
    assert run.returncode == 0, run.stderr
    assert str(finished / "r/report.html") in run.stdout
    page = Page((finished / "r/report.html").read_text())
    assert page.images == [] and all(link.startswith("#") for link in page.links)
    text = (finished / "r/report.html").read_text()
    promised = "Results", "Paired differences", "Training", "Class by class", "Domain distance"
    assert [title for title in promised if not re.search(rf"<h2 id=[^>]*>{title}</h2>", text)] == []
    assert text.count('<figure id="tsne-') == 4
    assert text.count("Left out: consensus maps of cia: ") == 2 and "no such file" in text
    with (finished / "r/report-tsne.csv").open() as file:
        points = list(csv.DictReader(file))
    counts = {(p["method"], p["source"], p["domain"]) for p in points}
    assert len(points) == 4 * 12 and len(counts) == 8


def test_report_draws_consensus_maps_over_the_frames(finished, tmp_path, feature_file):
    for name in ("here", "there"):
        for index in range(18):
            encode(tmp_path / f"{name}{index}.avi", 50, codec="mpeg4")
    run = cia_adapt("report", "runs/demo/cia/here-there", "--root", tmp_path, "--clips", 2, "--out", "maps.html", cwd=finished)
    assert run.returncode == 0 and run.stderr == ""
    assert len(Page((finished / "maps.html").read_text()).images) == 2
    for clip in (*tmp_path.glob("here*"), *sorted(tmp_path.glob("there*"))[::2]):  # some are gone since
        clip.unlink()
    run = cia_adapt("report", "runs/demo/cia/here-there", "--root", tmp_path, "--clips", 6, "--out", "some.html", cwd=finished)
    text = (finished / "some.html").read_text()
    drawn = len(Page(text).images)
    assert run.returncode == 0 and 0 < drawn < 6
    assert f"consensus maps of cia: here → there: {6 - drawn} of 6 clips, the first: " in text and "no such file" in text
    assert f"{6 - drawn} of 6 clips, the first: " in run.stderr
