"""Accuracies on EPIC-100 against an independent computation by the challenge's definition, and by hand."""

import csv
import json

import numpy as np
import pytest
import torch
from cia_adapt.results import comparison
from cia_adapt.results.challenge import official, table
from cia_adapt.runs import files
from cia_adapt.training import Prediction
from cia_extract.common.errors import DataError, UsageError
from cia_extract.datasets import manifest
from cia_extract.features import open_features

from tests.adapt.runs_of import copied


def official_right(verb, noun, labels, k):
    """The definition, slowly: rank the 100 largest products of two softmaxes; a verb or noun by its own."""
    right = {"verb": [], "noun": [], "action": []}
    for p, q, (v, n) in zip(verb, noun, labels, strict=True):
        right["verb"].append(v in np.argsort(p)[::-1][:k])
        right["noun"].append(n in np.argsort(q)[::-1][:k])
        products = sorted(((p[i] * q[j], i, j) for i in range(len(p)) for j in range(len(q))), reverse=True)[:100]
        right["action"].append((v, n) in [(i, j) for _, i, j in products[:k]])
    return {task: np.array(values) for task, values in right.items()}


@pytest.mark.parametrize("k", [1, 5])
def test_random_scores_against_the_definition(k):
    """97 verbs and 300 nouns; some labels are of classes that training lacked (−1)."""
    random = np.random.default_rng(0)
    verb, noun = (random.dirichlet(np.full(count, 0.05), 60) for count in (97, 300))
    labels = np.stack([random.integers(-1, 97, 60), random.integers(-1, 300, 60)], 1)
    likely = random.random(60) < 0.7
    for column, p in enumerate((verb, noun)):
        ranks = random.integers(1, 4, 60)  # of the label among the scores, 1 the highest
        labels[likely, column] = p.argsort(1)[likely, -ranks[likely]]
    prediction = Prediction((torch.from_numpy(verb), torch.from_numpy(noun)), torch.empty(60, 0))
    ours, expected = prediction.right_by_label(labels, ("verb", "noun"), k), official_right(verb, noun, labels, k)
    for task, values in expected.items():
        np.testing.assert_array_equal(ours[task], values, task)
        assert values.any() and not values.all(), task


def test_by_hand():
    """Products 0.42, 0.28, 0.18, 0.12 of (0, 0), (0, 1), (1, 0), (1, 1): (1, 1) has both labels second and is fourth."""
    prediction = Prediction((torch.tensor([[0.7, 0.3]] * 4), torch.tensor([[0.6, 0.4]] * 4)), torch.empty(4, 0))
    labels = np.array([[0, 0], [0, 1], [1, 0], [1, 1]])
    right = {k: prediction.right_by_label(labels, ("label", "noun"), k)["action"].tolist() for k in (1, 2, 3, 4)}
    assert right == {
        1: [True, False, False, False],
        2: [True, True, False, False],
        3: [True, True, True, False],
        4: [True] * 4,
    }


def read(folder):
    return list(csv.DictReader((folder / "predictions.csv").open()))


def test_a_run_s_table_against_its_files(e100_runs):
    folder = e100_runs / "e100/dann/source-target/seed0"
    measured, rows = table.measure(folder, "selected"), read(folder)
    scores, classes = files.load_scores(folder), files.read_config(folder)["classes"]
    p = [scores[f"selected/target_probabilities/{column}"].numpy() for column in ("label", "noun")]
    labels = [[classes[column].index(row[column]) for column in ("label", "noun")] for row in rows]
    for k in (1, 5):
        for task, values in official_right(*p, labels, k).items():
            np.testing.assert_array_equal(measured.right[task, k], values)
    verb, noun = (np.array([row[column] in tail for row in rows]) for column, tail in
                  (("label", official.tail()["verb"]), ("noun", official.tail()["noun"])))  # fmt: skip
    assert 0 < verb.sum() < (verb | noun).sum() < len(rows)
    for task, mask in (("verb", verb), ("noun", noun), ("action", verb | noun)):
        np.testing.assert_array_equal(measured.of_set[table.TAIL, task], mask)
    unseen = np.array([row["clip"].startswith("P30") for row in rows])
    np.testing.assert_array_equal(measured.of_set[table.UNSEEN, "verb"], unseen)


def test_the_grid(e100_runs):
    folders = files.find([e100_runs])
    grid = table.table(comparison.groups(folders), "selected")
    assert list(grid.header) == ["clips", "method", "verb@1", "noun@1", "action@1", "verb@5", "noun@5", "action@5"]
    assert [row[0] for row in grid.rows] == ["all", "tail classes", "unseen participants"]
    measured = [table.measure(folder, "selected") for folder in folders]
    mean = np.mean([100 * run.right["action", 1].mean() for run in measured])
    assert grid.rows[0][4].startswith(f"{mean:.1f} ± ") and grid.rows[1][5:] == ["–"] * 3
    tail = measured[0].of_set[table.TAIL, "noun"]
    assert grid.rows[1][3].startswith(f"{np.mean([100 * run.right['noun', 1][tail].mean() for run in measured]):.1f} ± ")
    assert any("all: 12 for verb" in note and "unseen participants: 6 for verb" in note for note in grid.notes)


def test_without_the_feature_file_nobody_is_called_unseen(e100_runs, tmp_path):
    folder = copied(e100_runs / "e100/dann/source-target/seed0", tmp_path / "run")
    stamp = (folder / "stamp.json").read_text()
    (folder / "stamp.json").write_text(stamp.replace("feats.h5", "gone.h5"))
    assert {name for name, _ in table.measure(folder, "last").of_set} == {table.ALL, table.TAIL}


def test_the_participants_of_clips_are_those_of_the_manifest(e100_runs, e100_file, tmp_path):
    """Of a run that trained its backbone: the manifest alone is read, no clip."""
    columns = open_features(e100_file)["e100"].columns
    rows = [dict(zip(columns, map(str, values), strict=True)) for values in zip(*columns.values(), strict=True)]
    manifest.check("e100", rows).write(tmp_path / "e100.csv")
    before = e100_runs / "e100/dann/source-target/seed0"
    folder = copied(before, tmp_path / "run")
    stamp = json.loads((folder / "stamp.json").read_text()) | {"feature_file": "gone.h5"}
    places = {"root": str(tmp_path), "frame_cache": str(tmp_path / "cache"), "flow": "tvl1"}
    stamp["clips"] = [{"clips": f"e100={tmp_path / 'e100.csv'}"} | places]
    (folder / "stamp.json").write_text(json.dumps(stamp))
    unseen = (table.UNSEEN, "verb")
    np.testing.assert_array_equal(table.measure(folder, "last").of_set[unseen], table.measure(before, "last").of_set[unseen])
    assert not (tmp_path / "cache").exists()


def test_below_it_stands_what_training_saw_of_the_target_and_who_trained_the_backbone(e100_runs, tmp_path):
    folder = copied(e100_runs / "e100/dann/source-target/seed0", tmp_path / "e100/dann/source-target/seed0")
    assert not any("backbone" in note for note in table.table(comparison.groups([folder]), "selected").notes)
    told = {"backbone": "rgb fine-tuned on the labels of target (…)", "trained_on_target_labels": True}
    result = json.loads((folder / "result.json").read_text()) | told | {"target_val_clips_adapted_to": 12}
    (folder / "result.json").write_text(json.dumps(result))
    notes = table.table(comparison.groups([folder]), "selected").notes
    assert "backbone of dann: rgb fine-tuned on the labels of target (…)" in notes
    assert "transductive: dann adapted to the target's test clips, without their labels" in notes
    assert "target-only was trained on target labels, a bound, not a result" in notes


def test_a_target_without_labels_has_no_accuracy(e100_runs, tmp_path):
    folder = copied(e100_runs / "e100/dann/source-target/seed0", tmp_path / "e100/dann/source-target/seed0")
    result = json.loads((folder / "result.json").read_text()) | dict.fromkeys(("last", "selected", "oracle"))
    (folder / "result.json").write_text(json.dumps(result))
    grid = table.table(comparison.groups([folder]), "selected")
    assert grid.rows[0][2:] == ["n/a"] * 6


def test_what_has_no_such_table(e100_runs, small_file, tmp_path):
    groups = comparison.groups(files.find([e100_runs]))
    with pytest.raises(UsageError, match=r"--which oracle"):
        table.table(groups, "oracle")
    folder = copied(e100_runs / "e100/dann/source-target/seed0", tmp_path / "run")
    lines = (folder / "predictions.csv").read_text().splitlines(keepends=True)
    (folder / "predictions.csv").write_text("".join(lines[:-1]))
    with pytest.raises(DataError, match=r"its scores do not fit its predictions"):
        table.measure(folder, "selected")
