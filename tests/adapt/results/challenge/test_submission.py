"""The zip that is written: runs averaged, official numbers, and scores that the challenge's evaluation ranks as we do."""

import json
import zipfile

import numpy as np
import pytest
from cia_adapt.results import challenge, predicting
from cia_adapt.results.challenge import checking, official, submission
from cia_adapt.results.predicting import Scores
from cia_extract.common.errors import DataError, SubmissionError, UsageError
from scipy.special import softmax

LEVELS = {"sls_pt": 2, "sls_tl": 3, "sls_td": 3}


def scores(p, clips=("P01_101_0", "P01_101_1"), verbs=("put", "take"), nouns=("spoon", "tap")) -> Scores:
    values = np.asarray(p, np.float32)
    return Scores(tuple(clips), {"label": tuple(verbs), "noun": tuple(nouns)}, {"label": values, "noun": values[:, ::-1].copy()})


def test_softmaxes_are_averaged_by_clip_under_official_numbers():
    """Of take and put, numbers 0 and 1; the second run has the clips in another order. Classes that no run knows are 0."""
    first = scores([[0.8, 0.2], [0.4, 0.6]])
    second = scores([[0.1, 0.9], [0.6, 0.4]], clips=("P01_101_1", "P01_101_0"))
    mean = submission.averaged([first, second], ["a", "b"])
    assert mean.clips == first.clips
    np.testing.assert_allclose(mean.probabilities["verb"][:, :2], [[0.3, 0.7], [0.75, 0.25]], rtol=1e-6)  # take, put
    np.testing.assert_allclose(mean.probabilities["noun"][:, :2], [[0.7, 0.3], [0.25, 0.75]], rtol=1e-6)  # tap, spoon
    for task, count in (("verb", 97), ("noun", 300)):
        assert mean.probabilities[task].shape == (2, count) and not mean.probabilities[task][:, 2:].any()


def test_the_challenge_s_evaluation_ranks_actions_by_the_products(tmp_path):
    """Its softmax of our scores gives the averages back, so actions rank by products; of written probabilities they would not."""
    random = np.random.default_rng(0)
    ids = [f"P01_101_{i}" for i in range(40)]
    p = {task: random.dirichlet(np.full(count, 0.1), len(ids)) for task, count in (("verb", 97), ("noun", 300))}
    averaged = submission.Averaged(tuple(ids), p)
    submission.write(tmp_path / "t.zip", submission.content({"results_target": averaged}, LEVELS), {"results_target": ids})
    with zipfile.ZipFile(tmp_path / "t.zip") as archive:
        results = json.loads(archive.read("test.json"))["results_target"]
    written = {t: np.array([[results[i][t][str(k)] for k in range(p[t].shape[1])] for i in ids]) for t in p}

    def best(of, again):
        verb, noun = (softmax(of[t], 1) if again else of[t] for t in ("verb", "noun"))
        return (verb[:, :, None] * noun[:, None, :]).reshape(len(ids), -1).argsort(1)[:, ::-1][:, :5]

    np.testing.assert_array_equal(best(written, True), best(p, False))
    assert (best(p, True) != best(p, False)).any()


def test_the_same_runs_give_the_same_bytes(e100_runs, tmp_path):
    files = [tmp_path / "a.zip", tmp_path / "b.zip"]
    for path in files:
        asked = predicting.Asked(split="test")
        folders = sorted(e100_runs.glob("e100/dann/*/seed*"))
        by_run = [predicting.scores_of(folder, asked, print) for folder in folders]
        mean = submission.averaged(by_run, [str(folder) for folder in folders])
        counts = submission.write(path, submission.content({"results_target": mean}, LEVELS), {"results_target": mean.clips})
    assert counts == {"results_target": 7} and files[0].read_bytes() == files[1].read_bytes()


def test_what_is_not_valid_is_not_written(tmp_path):
    mean = submission.averaged([scores([[0.8, 0.2], [np.nan, 0.6]])], ["a"])
    content = submission.content({"results_target": mean}, LEVELS)
    with pytest.raises(SubmissionError, match=r"P01_101_1: verb 0 is nan|P01_101_1: verb 1 is nan"):
        submission.write(tmp_path / "t.zip", content, {"results_target": mean.clips})
    assert not list(tmp_path.iterdir())


def test_runs_of_different_clips_are_not_averaged():
    with pytest.raises(SubmissionError, match=r"a and b predict different clips: P01_101_0, P01_101_9 of one only"):
        submission.averaged([scores([[1, 0], [0, 1]]), scores([[1, 0], [0, 1]], clips=("P01_101_9", "P01_101_1"))], ["a", "b"])


def test_runs_of_another_benchmark_are_refused():
    with pytest.raises(DataError, match=r"a: golf is no verb of EPIC-KITCHENS-100"):
        submission.averaged([scores([[1, 0], [0, 1]], verbs=("golf", "take"))], ["a"])
    one = Scores(("x",), {"label": ("golf",)}, {"label": np.ones((1, 1), np.float32)})
    with pytest.raises(UsageError, match=r"a: predicts label; the challenge wants verbs and nouns: train with --setup e100"):
        submission.averaged([one], ["a"])


def test_the_levels_and_keys_are_those_that_are_checked():
    assert set(LEVELS) == set(challenge.LEVELS) == set(checking.LEVELS)
    assert [len(names) for names in official.classes().values()] == [97, 300]
