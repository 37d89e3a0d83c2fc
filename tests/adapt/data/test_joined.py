"""Several sources as one domain: --source a --source b."""

import json
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from cia_adapt import config
from cia_adapt.cli import main
from cia_adapt.data import Domain, Stores, as_one, called, digest, find_domains, make_task, pairs
from cia_adapt.data.joined import JoinedDataset
from cia_adapt.runs import files
from cia_extract.common.errors import UsageError

from tests.command_line import in_this_process
from tests.conftest import make_dataset

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def three(tmp_path_factory) -> Path:
    """Our own layout: domains `a`, `b` and `c` of 9, 18 and 9 clips."""
    path = tmp_path_factory.mktemp("three") / "three.h5"
    for seed, (name, clips) in enumerate({"a": 3, "b": 6, "c": 3}.items()):
        make_dataset(path, name, seed, clips_per_class=clips, modalities=("rgb",))
    return path


@pytest.mark.parametrize("tier", ["map", "ram"])
def test_a_batch_holds_each_clips_own_features_and_label(three, tier):
    domains = find_domains(three)
    source = as_one([domains["b"], domains["a"]])
    assert source.name == "a+b" and len(source.rows) == 27
    setup = config.load("demo", "cia", {}).setup
    task, _ = make_task(source, domains["c"], ("rgb",), True, setup, Stores(CPU, tier))
    clips, labels = task.source_train.clips, task.source_train.labels[:, 0]
    assert clips.readers["rgb"].tier == tier and len(clips) == 18
    positions = np.random.default_rng(0).permutation(18)
    batch = clips.batch(positions, np.tile([1, 4], (18, 1)))["rgb"]
    clips.announce(positions, np.tile([1, 4], (18, 1)))
    with h5py.File(three) as file:
        for i, features in zip(positions, batch, strict=True):
            name, row = clips.names[i][0], int(clips.names[i][1:])
            np.testing.assert_array_equal(features, file[f"{name}/rgb/maps"][row][[1, 4]])
            assert task.classes["label"][labels[i]].encode() == file[f"{name}/clips/label"][row]
    assert task.source_val_by_domain.keys() == {"a", "b"}
    for name, places in task.source_val_by_domain.items():
        assert {task.source_val.clips.names[i][0] for i in places} == {name}
    assert sum(map(len, task.source_val_by_domain.values())) == len(task.source_val.clips) == 9


def test_a_dataset_of_two_sources_is_loaded_once(three):
    """Two domains may lie in one dataset, as D1 to D3 of EPIC-KITCHENS-55 do."""
    dataset = find_domains(three)["b"].dataset
    halves = [Domain(name, dataset, np.arange(9) + 9 * i) for i, name in enumerate(("x", "y"))]
    source, stores = as_one(halves), Stores(CPU, "ram")
    reader = stores.reader(source.dataset, "rgb/pooled", source.rows)
    out = torch.empty(2, 1024)
    reader.fill(out, source.rows[[3, 12]], np.array([[0], [0]]))
    np.testing.assert_array_equal(out, dataset.array("rgb/pooled")[[3, 12], 0])
    assert len(stores.notes) == 1


def test_an_array_of_several_datasets_is_theirs(three):
    domains = find_domains(three)
    joined = JoinedDataset.of("a+b", [domains["a"].dataset, domains["b"].dataset])
    array = joined.array("rgb/pooled")
    assert array.shape == joined.regions["rgb/pooled"].shape == (27, 5, 1024) and len(joined) == joined.done().sum() == 27
    np.testing.assert_array_equal(array[9], domains["b"].dataset.array("rgb/pooled")[0])
    with pytest.raises(IndexError):
        array[27]


def test_a_source_lends_its_labels_to_no_features(three):
    domains = find_domains(three)
    joined = as_one([domains["a"], domains["b"]]).dataset
    assert isinstance(joined, JoinedDataset)
    assert {column for dataset in (joined, *joined.members) for column in dataset.columns} == {"clip"}


def test_the_features_of_a_run_are_those_of_all_its_domains(three):
    domains = find_domains(three)
    both = called(domains, "a+b")
    assert both is not None and called(domains, "a") is domains["a"] and called(domains, "a+z") is None
    assert digest(both, domains["c"]) == digest(*domains.values()) != digest(domains["a"], domains["c"])


def test_pairs_of_several_sources(three):
    domains = find_domains(three)
    assert pairs(domains, ("a", "b"), None) == [(("a", "b"), "c")]
    for sources, target, message in (
        (("a", "a"), None, "--source a: is named twice"),
        (("a", "b"), "b", "--target b: is the source as well"),
        (("a", "b", "c"), None, "all 3 domains of the file are sources; leave one out"),
        (("a,b",), "c", "--source a,b: name each source on its own: --source a --source b"),
        (("a+b",), "c", "--source a --source b"),
        (("a", "d"), None, "--source d: not in the file, which holds a, b, c"),
    ):
        with pytest.raises(UsageError, match=message):
            pairs(domains, sources, target)


def small(path: Path, **classes: tuple[str, ...]) -> list[str]:
    """The flags of a foreign file: for each domain 6 clips [8] of each of its classes, half of them val; verbs and nouns."""
    with h5py.File(path, "w") as file:
        for seed, (name, labels) in enumerate(classes.items()):
            column = [label for label in labels for _ in range(6)]
            file[f"{name}/x"] = np.random.default_rng(seed).normal(size=(len(column), 8)).astype(np.float32)
            file[f"{name}/label"] = np.array(column, dtype="S")
            file[f"{name}/noun"] = np.array([f"{label}-ball" for label in column], dtype="S")
            file[f"{name}/split"] = np.array(["train", "val"] * (len(column) // 2), dtype="S")
    arrays = {"rgb/pooled": "x", "label": "label", "noun": "noun", "split": "split"}
    words = [f"{d}/{name}={d}/{place}" for d in classes for name, place in arrays.items()]
    return ["--features", str(path), *(part for word in words for part in ("--map", word))]


QUICK = ("--setup", "demo", "--epochs", 2, "--batch", 8)


def adapt(*words: object, cwd: Path):
    return in_this_process(main, *words, cwd=cwd)


def test_sources_of_different_classes_train_together_and_what_each_lacks_is_said(tmp_path):
    features = small(tmp_path / "f.h5", a=("run", "sit"), b=("run", "jump"), c=("run", "jump", "fly"))
    words = [*features, *QUICK, "--source", "b", "--source", "a", "--method", "dann", "--json"]
    run = adapt(*words, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "note: 2 sources train together, clips: 'a' 6, 'b' 6; " in run.stderr
    assert "note: label: the 2 sources have 3 classes together; 'a' lacks jump; 'b' lacks sit\n" in run.stderr
    assert "only in 'a+b': sit; only in 'c': fly; 3 of 9 test clips have labels that training lacks" in run.stderr
    (result,) = json.loads(run.stdout)["runs"]
    (folder,) = files.find([tmp_path / "runs/demo/dann/a+b-c"])
    selected = files.read_metrics(folder)[result["selected_epoch"] - 1]
    assert result["source_val_by_source"] == {name: selected[f"source_val_accuracy/{name}"] for name in ("a", "b")}
    assert result["source_val"] == pytest.approx(np.mean(list(result["source_val_by_source"].values())))  # as many clips of each
    assert files.read_config(folder)["source"] == "a+b"
    again = adapt(*words[:-1], "--epochs", 3, "--resume", cwd=tmp_path)
    assert again.returncode == 0 and "goes on after epoch 2" in again.stderr
    for command in (["table"], ["report"]):
        shown = adapt(*command, cwd=tmp_path)
        assert shown.returncode == 0 and "a+b" in shown.stdout, shown.stderr


def test_a_likely_mistake_between_sources_is_named(tmp_path):
    features = small(tmp_path / "f.h5", a=("run", "sit"), b=("Run", "sit"), c=("run", "sit"))
    run = adapt(*features, *QUICK, "--source", "a", "--source", "b", "--method", "dann", "--dry-run", cwd=tmp_path)
    assert run.returncode == 0 and "source_train_clips_by_source:\n  a: 6\n  b: 6\n" in run.stdout
    assert "likely cause: run in 'a' and Run in 'b' are the same but for upper and lower case" in run.stderr


def test_every_source_needs_validation_clips(tmp_path):
    features = small(tmp_path / "f.h5", a=("run", "sit"), b=("run", "sit"), c=("run", "sit"))
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["b/split"][...] = b"train"
    run = adapt(*features, *QUICK, "--source", "a", "--source", "b", "--method", "dann", cwd=tmp_path)
    assert run.returncode == 3 and "'b' has no finished clip in split 'val'" in run.stderr and len(run.stderr.splitlines()) == 1


def test_sources_of_different_features_are_refused(tmp_path):
    features = small(tmp_path / "f.h5", a=("run", "sit"), b=("run", "sit"), c=("run", "sit"))
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        del file["a/x"]
        file["a/x"] = np.zeros((12, 9), dtype=np.float32)
    run = adapt(*features, *QUICK, "--source", "a", "--source", "b", "--method", "dann", cwd=tmp_path)
    assert run.returncode == 3 and len(run.stderr.splitlines()) == 1
    assert "rgb/pooled is (9,) in 'a' and (8,) in 'b'; extract both in the same way" in run.stderr


@pytest.mark.parametrize("labels", ["label", "label,noun"])
@pytest.mark.parametrize("method", ["dann", "target-only"])
def test_the_shared_classes_alone_are_evaluated_on_request(tmp_path, method, labels):
    features = small(tmp_path / "f.h5", a=("run", "sit"), c=("run", "sit", "fly"))
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["c/split"][12:] = b"val"  # target-only does not train on it either
    words = [*features, *QUICK, "--method", method, "--labels", labels, "--source", "a", "--json"]
    every = adapt(*words, cwd=tmp_path)
    shared = adapt(*words, "--test-classes", "shared", "--runs", "shared", cwd=tmp_path)
    assert every.returncode == shared.returncode == 0, shared.stderr
    assert "6 of 12 test clips have labels that training lacks and are left out, by --test-classes shared" in shared.stderr
    (all_clips,), (known,) = (json.loads(run.stdout)["runs"] for run in (every, shared))
    assert (all_clips["target_val_clips"], known["target_val_clips"]) == (12, 6)
    for number in ("last", "selected", "oracle"):
        assert known[number] == pytest.approx(2 * all_clips[number])  # half of the clips, with as many right
    (folder,) = files.find([tmp_path / "shared"])
    assert files.read_stamp(folder)["target_labels_opened"]["leaving out test clips of classes that training lacks"] == 1
    assert {row["label"] for row in files.read_predictions(folder)} == {"run", "sit"}


def test_no_shared_pair_of_labels_leaves_no_test_clip(tmp_path):
    features = small(tmp_path / "f.h5", a=("run", "sit"), c=("run", "sit"))
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["c/noun"][...] = np.array([*["x"] * 11, "run-ball"], dtype="S")
    words = [*features, *QUICK, "--labels", "label,noun", "--source", "a", "--test-classes", "shared", "--method", "dann"]
    with h5py.File(tmp_path / "f.h5", "r+") as file:
        file["c/label"][11] = b"nap"
    run = adapt(*words, cwd=tmp_path)
    assert run.returncode == 3 and "--test-classes shared leaves no test clip of 'c'" in run.stderr


@pytest.mark.slow
def test_every_method_trains_on_two_sources(tmp_path, small_file):
    """One of the sources lacks a class, and the target another."""
    with h5py.File(small_file) as file, h5py.File(tmp_path / "three.h5", "w") as out:
        for name, like, lacks in (("here", "here", ""), ("there", "there", "wave"), ("third", "here", "jump")):
            file.copy(like, out, name)
            out[f"{name}/clips/split"][out[f"{name}/clips/label"].asstr()[:] == lacks] = b"other"
    words = ["sweep", "--features", "three.h5", "--method", "all", "--setup", "demo", "--epochs", 2, "--batch", 6, "--seeds", 1]
    words += ["--modality", "rgb", "--modality", "flow", "--source", "here", "--source", "third", "--json", "--average", 0.9]
    run = adapt(*words, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert "'third' lacks jump" in run.stderr and "only in 'here+third': wave" in run.stderr
    assert {result["method"] for result in json.loads(run.stdout)["runs"]} == set(config.names("methods"))
