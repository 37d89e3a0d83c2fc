"""Predictions of a finished run for any clips equal what the run itself predicted, and read no label."""

import csv
import json

import h5py
import numpy as np
import pytest
import torch
from cia_adapt.data import Domain
from cia_adapt.results import predicting
from cia_adapt.runs import files
from cia_extract import features
from cia_extract.common.errors import DataError, UsageError

from tests.adapt.e100_of import make_e100
from tests.adapt.runs.test_resume import folder_of, request


def folder(runs, seed=0):
    return runs / f"e100/dann/source-target/seed{seed}"


def silent(message: str) -> None:
    pass


@pytest.mark.parametrize("epoch", ["selected", "last"])
def test_the_val_clips_get_the_scores_that_training_wrote(e100_runs, epoch):
    scores = predicting.scores_of(folder(e100_runs), predicting.Asked(split="val", epoch=epoch), silent)
    stored = files.load_scores(folder(e100_runs))
    assert list(scores.clips) == [row["clip"] for row in files.read_predictions(folder(e100_runs))]
    for column in ("label", "noun"):
        torch.testing.assert_close(
            torch.from_numpy(scores.probabilities[column]), stored[f"{epoch}/target_probabilities/{column}"]
        )


def test_clips_without_labels_are_predicted_and_no_label_is_read(e100_runs, monkeypatch):
    """The target's test split has none. Reading labels fails here."""
    monkeypatch.setattr(Domain, "text_labels", lambda *_: pytest.fail("labels are read"))
    scores = predicting.scores_of(folder(e100_runs), predicting.Asked(split="test"), silent)
    truth = [(i % 3, i % 4) for i in range(7)]
    assert len(scores.clips) == 7
    for number, column in enumerate(("label", "noun")):
        named = [scores.classes[column][i] for i in scores.probabilities[column].argmax(1)]
        right = sum(name == (("take", "put", "bend"), ("tap", "spoon", "plate", "extract:vanilla"))[number][t[number]]
                    for name, t in zip(named, truth, strict=True))  # fmt: skip
        assert right >= 5


def test_another_file_of_somebody_s_own_clips(e100_runs, tmp_path):
    """One dataset of other domains: named by dataset it is all of it; its unfinished clips are named."""
    path = make_e100(tmp_path / "new.h5", "kitchen", unfinished=2)
    scores = predicting.scores_of(folder(e100_runs), predicting.Asked(features=path, dataset="kitchen"), silent)
    assert len(scores.clips) == 2 * (24 + 12 + 7) - 2 and scores.not_extracted == ("P01_102_5", "P01_102_6")
    one = predicting.scores_of(folder(e100_runs), predicting.Asked(features=path, dataset="source", split="test"), silent)
    assert len(one.clips) == 7 and not one.not_extracted


def test_features_that_are_made_otherwise_are_said(e100_runs, tmp_path):
    said = []
    path = make_e100(tmp_path / "new.h5")
    with h5py.File(path, "a") as file:
        recipe = json.loads(file["e100"].attrs["recipe"]) | {"backbone": "i3d"}
        file["e100"].attrs["recipe"], file["e100"].attrs["recipe_sha256"] = json.dumps(recipe), features.provenance_sha256(recipe)
    predicting.scores_of(folder(e100_runs), predicting.Asked(features=path, split="test"), said.append)
    assert len(said) == 1 and "backbone: tbn → i3d" in said[0]


def test_a_run_s_configuration_is_read_once(e100_runs, monkeypatch):
    """So that what is predicted is of one file, even while another run takes its place."""
    read, config = [], files.read_config
    monkeypatch.setattr(files, "read_config", lambda run: read.append(run) or config(run))
    predicting.scores_of(folder(e100_runs), predicting.Asked(split="val"), silent)
    assert read == [folder(e100_runs)]


def test_what_does_not_fit_is_one_line(e100_runs, small_file, tmp_path):
    with pytest.raises(UsageError, match=r"--dataset targt: not in .*; did you mean target"):
        predicting.scores_of(folder(e100_runs), predicting.Asked(dataset="targt"), silent)
    with pytest.raises(DataError, match=r"no finished clip in split 'tset'.*give --split"):
        predicting.scores_of(folder(e100_runs), predicting.Asked(split="tset"), silent)
    with pytest.raises(UsageError, match=r"--dataset is missing: .* has no target; choose from here, there"):
        predicting.scores_of(folder(e100_runs), predicting.Asked(features=small_file), silent)
    with pytest.raises(DataError, match=r"its model does not fit rgb/pooled"):
        predicting.scores_of(folder(e100_runs), predicting.Asked(features=small_file, dataset="here"), silent)


def test_a_run_of_one_label_over_maps(small_file, tmp_path):
    from cia_adapt.experiments import runner

    runner.run(request(small_file, tmp_path, "sc-3", epochs=2), silent)
    run = folder_of(tmp_path, "sc-3")
    scores = predicting.scores_of(run, predicting.Asked(split="val"), silent)
    expected = files.load_scores(run)["selected/target_probabilities/label"]
    torch.testing.assert_close(torch.from_numpy(scores.probabilities["label"]), expected)


def test_both_files_hold_every_score(e100_runs, tmp_path):
    scores = predicting.scores_of(folder(e100_runs), predicting.Asked(split="test"), silent)
    predicting.write(tmp_path / "s.h5", scores, {"run": "r"})
    predicting.write(tmp_path / "s.csv", scores, {"run": "r"})
    with h5py.File(tmp_path / "s.h5") as file:
        assert file["clip"].asstr()[:].tolist() == list(scores.clips)
        np.testing.assert_array_equal(file["verb/scores"][:], scores.probabilities["label"])
        assert file["noun/classes"].asstr()[:].tolist() == list(scores.classes["noun"])
        predicted = [file["noun/classes"].asstr()[i] for i in file["noun/predicted"][:]]
    rows = list(csv.DictReader((tmp_path / "s.csv").open()))
    assert [row["clip"] for row in rows] == list(scores.clips) and [row["noun"] for row in rows] == predicted
    written = [[float(row[f"verb={name}"]) for name in scores.classes["label"]] for row in rows]
    np.testing.assert_allclose(written, scores.probabilities["label"], atol=1e-5)
    assert [float(row["verb_score"]) for row in rows] == pytest.approx([max(p) for p in written])


def test_ids_with_control_characters_are_the_same_text_in_both_tables_and_come_back(small_file, tmp_path):
    """The file may be anybody's, and a terminal may show the tables."""
    from cia_adapt.experiments import runner

    path = tmp_path / "foreign.h5"
    path.write_bytes(small_file.read_bytes())
    with h5py.File(path, "a") as file:
        for dataset in file.values():
            ids = [f"{clip}\x1b[2J\x1c\\x1b\u202e" for clip in dataset["clips/clip"].asstr()[:]]
            del dataset["clips/clip"]
            dataset["clips"].create_dataset("clip", data=ids, dtype=h5py.string_dtype())
    runner.run(request(path, tmp_path / "runs", epochs=1), silent)
    run = folder_of(tmp_path / "runs")
    scores = predicting.scores_of(run, predicting.Asked(split="val"), silent)
    predicting.write(tmp_path / "scores.csv", scores, {})
    tables = [place.read_text(encoding="utf-8") for place in (run / "predictions.csv", tmp_path / "scores.csv")]
    assert all(line.isprintable() for text in tables for line in text.split("\n"))
    first, second = ([row[0] for row in csv.reader(text.splitlines())][1:] for text in tables)
    assert first == second and r"\x1b[2J\x1c\\x1b\u202e" in first[0]
    assert [row["clip"] for row in files.read_predictions(run)] == list(scores.clips)
    assert all(clip.endswith("\x1b[2J\x1c\\x1b\u202e") for clip in scores.clips)
