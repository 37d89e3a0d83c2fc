"""What a notebook calls: `cia_extract.extract`, `open_features`, `cia_adapt.train`, `load_run`, `predict`; light to import."""

import inspect
import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import cia_adapt
import cia_adapt.cli
import cia_extract
import numpy as np
import pandas as pd
import pytest
from cia_extract.common.errors import DataError, UsageError
from cia_extract.datasets import class_folders

from tests.command_line import in_this_process
from tests.extract.clips.test_video import encode


@pytest.fixture
def trained(feature_file, tmp_path) -> list:
    return cia_adapt.train(feature_file, "concat", "demo", source="here", seeds=2, epochs=2, batch=6, runs=tmp_path / "runs")


def test_extract_is_the_command(tmp_path):
    (tmp_path / "clips/run").mkdir(parents=True)
    for name in ("a", "b"):
        encode(tmp_path / f"clips/run/{name}.mp4", 4)
    class_folders.read(tmp_path / "clips", 2).manifest.write(tmp_path / "clips/manifest.csv")
    asked = {"root": tmp_path / "clips", "backbone": "tbn", "modality": ["rgb"], "frames": 1, "weights": ["random"]}
    summary = cia_extract.extract("mine", str(tmp_path / "f.h5"), engine="eager", workers=1, **asked)
    assert summary.done == summary.clips == summary.extracted_now == 2 and not summary.failed
    dataset = cia_extract.open_features(tmp_path / "f.h5")["mine"]
    assert dataset.array("rgb/pooled").shape == (2, 1, 1024) and dataset.done().all()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"frames": 0}, r"^frames=0: give a whole number from 1"),
        ({"modality": ["rbg"]}, r"^modality=rbg: unknown, choose from rgb, flow, audio; did you mean rgb\?"),
        ({"worker": 2}, r"^worker: unknown.*did you mean workers\?"),
        ({"dry_run": True}, "^dry_run: unknown"),
        ({"root": "none"}, "--root none: no such folder"),
    ],
)
def test_a_mistake_in_extract_is_one_line(tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(UsageError, match=message):
        cia_extract.extract("mine", **arguments)
    assert not list(tmp_path.iterdir())


def test_train_gives_the_runs_and_load_run_gives_one_again(trained, tmp_path):
    assert [(run.result["source"], run.result["seed"]) for run in trained] == [("here", 0), ("here", 1)]
    run = cia_adapt.load_run(str(tmp_path / "runs/demo/concat/here-there/seed1"))
    assert run == trained[1] and run.config["setup"]["epochs"] == 2
    assert list(run.metrics["epoch"]) == [1, 2]
    right = run.predictions["selected"] == run.predictions["label"]
    assert len(right) == run.result["target_val_clips"] and np.isclose(100 * right.mean(), run.result["selected"])
    assert run.scores["selected/target_probabilities/label"].shape == (len(right), 3)
    assert run.model("last").keys() == run.model().keys()


def test_train_takes_every_kind_of_flag(feature_file, tmp_path):
    (run,) = cia_adapt.train(
        str(feature_file), "concat", "demo", source="here", target="there", modality=["rgb"], epochs=1, batch=6,
        objectives=["adversarial", "class_confusion"], settings=["class_confusion.temperature=3"], runs=str(tmp_path),
    )  # fmt: skip
    assert run.config["method"]["objectives"] == ["adversarial", "class_confusion"] and run.config["modalities"] == ["rgb"]
    assert run.config["method"]["options"]["class_confusion"]["temperature"] == 3


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"method": "cai"}, "did you mean cia"),
        ({"epoch": 2}, r"^epoch: unknown; did you mean epochs\?; take a flag of cia-adapt"),
        ({"seeds": 0}, "^seeds=0: give a whole number from 1"),
        ({"epochs": 0}, "--epochs 0: give a whole number from 1"),
        ({"as_json": True}, "^as_json: unknown"),
    ],
)
def test_a_mistake_in_train_is_one_line(feature_file, tmp_path, arguments, message):
    with pytest.raises(UsageError, match=message):
        cia_adapt.train(feature_file, **{"runs": tmp_path, **arguments})


def test_load_run_of_what_is_none(trained, tmp_path):
    with pytest.raises(UsageError, match="is no finished run; give a folder such as"):
        cia_adapt.load_run(tmp_path / "runs/demo")
    (trained[0].folder / "result.json").write_text("{")
    with pytest.raises(DataError, match=r"result\.json"):
        cia_adapt.load_run(trained[0].folder)


@pytest.mark.parametrize("as_folder", [False, True])
def test_predict_gives_what_the_run_said_of_its_validation_clips(trained, feature_file, as_folder):
    run = str(trained[0].folder) if as_folder else trained[0]
    table = cia_adapt.predict(run, str(feature_file), split="val").table
    assert list(table["clip"]) == list(trained[0].predictions["clip"])
    assert list(table["label"]) == list(trained[0].predictions["selected"])
    columns = [f"label={name}" for name in trained[0].config["classes"]["label"]]
    assert list(table.columns) == ["clip", "label", "label_score", *columns]
    stored = trained[0].scores["selected/target_probabilities/label"]
    np.testing.assert_allclose(table[columns], stored, atol=1e-6)
    np.testing.assert_array_equal(table["label_score"], table[columns].max(axis=1))


def test_predict_is_the_command(trained, feature_file, tmp_path, capsys):
    out = tmp_path / "scores.csv"
    words = [trained[0].folder, "--features", feature_file, "--dataset", "here", "--which", "last", "--out", out]
    assert in_this_process(cia_adapt.cli.main, "predict", *words).returncode == 0
    written, table = pd.read_csv(out), cia_adapt.predict(trained[0], feature_file, "here", which="last").table
    pd.testing.assert_frame_equal(written, table, check_dtype=False, rtol=1e-5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"which": "best"}, r"^which=best: unknown, choose from selected, last"),
        ({"dataset": "ther"}, r"--dataset ther: not in .*did you mean there\?"),
        ({"device": "gpu"}, "gpu"),
        ({"run": "none"}, "no finished run in none"),
    ],
)
def test_a_mistake_in_predict_is_one_line(trained, feature_file, arguments, message):
    with pytest.raises(UsageError, match=message):
        cia_adapt.predict(**{"run": trained[0], "features": feature_file, **arguments})


def test_nothing_heavy_is_imported_before_it_is_asked_for():
    light = "import sys, cia_extract, cia_adapt; cia_extract.open_features; "
    light += "assert not {'torch', 'av', 'pandas'} & set(sys.modules)"
    subprocess.run([sys.executable, "-c", light], check=True)
    for command in ("cia_extract", "cia_adapt"):
        light = f"import sys; import {command}.cli; assert 'torch' not in sys.modules"
        subprocess.run([sys.executable, "-c", light], check=True)
    with pytest.raises(AttributeError, match="no attribute 'extrakt'"):
        _ = cia_extract.extrakt


@pytest.mark.parametrize("face", [cia_extract, cia_adapt])
def test_a_face_has_its_calls_with_their_types(face):
    """What an editor and mypy read, `__init__.pyi`, names what can be imported, and each call has types and a docstring."""
    stub: dict = {}
    exec(Path(face.__file__).with_suffix(".pyi").read_text(encoding="utf-8"), stub)
    assert set(stub["__all__"]) == set(face.__all__)
    for name in set(face.__all__) - {"__version__"}:
        call = getattr(face, name)
        assert stub[name] is call and call.__doc__
        assert all(each.annotation is not each.empty for each in inspect.signature(call).parameters.values())
        assert inspect.signature(call).return_annotation is not inspect.Signature.empty


@pytest.fixture
def recorded(feature_file, tmp_path, monkeypatch) -> list:
    """A folder with features of `here` and `there` as feats.h5; `extract` does nothing but note its arguments."""
    monkeypatch.chdir(tmp_path)
    Path("feats.h5").symlink_to(feature_file)
    called: list = []

    def extract(*arguments, **named):
        called.append((arguments, named))
        return SimpleNamespace(done=18, failed={})

    monkeypatch.setattr("cia_extract.cli.extract", extract)
    return called


def run(example: str) -> dict:
    """The names that an example leaves, with the domains of `recorded` and one epoch."""
    for theirs, ours in (("indoor-outdoor", "here-there"), ("indoor", "here"), ("outdoor", "there"), ("seeds=3", "epochs=1")):
        example = example.replace(theirs, ours)
    names: dict = {}
    exec(example, names)
    return names


def test_the_examples_of_the_faces_run(recorded):
    """The indented lines of the packages' docstrings."""
    lines = {package: "\n".join(re.findall(r"^    (.*)$", package.__doc__, re.MULTILINE)) for package in (cia_extract, cia_adapt)}
    assert run(lines[cia_extract])["vectors"].shape == (18, 5, 1024)
    assert recorded == [(("here", "feats.h5"), {"root": "clips/here"})]
    assert len(run(lines[cia_adapt])["runs"]) == 2


def test_the_example_of_the_page_runs(recorded, capsys):
    page = (Path(__file__).parents[1] / "docs/python.md").read_text(encoding="utf-8")
    names = run(re.search(r"```python\n(.*?)```", page, re.DOTALL)[1])
    assert [arguments[0] for arguments, _ in recorded] == ["here", "there"] and names["run"] == names["runs"][0]
    assert "here → there" in capsys.readouterr().out
