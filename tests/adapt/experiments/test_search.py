"""A search: what it ranks by, that it goes on after a kill, and that no target label takes part."""

import json
import re
import shutil
import tomllib
from dataclasses import replace
from functools import partial
from pathlib import Path

import h5py
import numpy as np
import pytest
from cia_adapt import config
from cia_adapt.config import Choice, Range
from cia_adapt.experiments import Request, findings, search
from cia_adapt.experiments.search import Search, Trial
from cia_adapt.runs import files
from cia_adapt.training import VALIDATORS
from cia_extract.common.errors import DataError, DivergedError, MismatchError, UsageError

SPACE = {"setup.lr": Range(1e-3, 1e-2, log=True), "setup.reversal": Range(0.01, 1.0, log=True)}


def search_of(file: Path, folder: Path, method: str = "concat", trials: int = 4, **changes) -> Search:
    """Of two epochs, from here to there."""
    load = partial(config.load, "demo", overrides={"epochs": 2, "batch": 6}, sets=())
    request = Request(
        features=file,
        chosen=load(method),
        sources=("here",),
        target="there",
        modalities=("rgb", "flow"),
        runs=folder,
        keep_state=False,
    )
    asked = {
        "setup": "demo", "method": method, "load": load, "space": SPACE, "trials": trials, "by": ("im",), "sampler": "random",
        "seed": 0, "jobs": 1, "ray": None,
    }  # fmt: skip
    return Search(request=request, **(asked | changes))


def outcome(found: search.Results) -> list:
    return [(trial.number, dict(trial.values), trial.scores) for trial in found.ranked]


@pytest.fixture(scope="module")
def searched(small_file, tmp_path_factory) -> tuple[Search, search.Results]:
    asked = search_of(small_file, tmp_path_factory.mktemp("search"))
    return asked, search.run(asked, print)


def test_a_search_ranks_by_the_validator_at_the_selected_epoch(searched):
    asked, found = searched
    assert len(found.ranked) == 5 and not found.failed
    ims = []
    for trial in found.ranked:
        (folder,) = files.find([asked.folder / f"runs/demo/concat-trial{trial.number:03d}"])
        metrics = files.read_metrics(folder)[files.read_json(folder / "result.json")["selected_epoch"] - 1]
        assert trial.scores == {name: metrics[f"validator_{name}"] for name in VALIDATORS}
        assert files.read_config(folder)["setup"]["lr"] == trial.values.get("setup.lr", 3e-3)
        ims.append(-1 if trial.number in found.behind else trial.scores["im"])
    assert ims == sorted(ims, reverse=True)
    default = next(trial for trial in found.ranked if trial.number == 0)
    assert all(found.ranked[0].scores[name] >= default.scores[name] for name in ("im", "source_val"))


def test_the_winners_files_are_the_winner(searched):
    _asked, found = searched
    method, setup = found.files
    assert (method.name, setup.name) == ("concat-searched.toml", "demo-searched.toml")
    loaded = config.load("demo", str(method), {})
    assert loaded.setup.lr == found.ranked[0].values["setup.lr"] != 3e-3
    assert loaded.for_pair("here", "there").options["adversarial"]["frame"] == pytest.approx(0.5 * loaded.setup.reversal)
    assert config.load(str(setup), "dann", {}).setup.reversal == loaded.setup.reversal
    assert "no target label took part" in method.read_text()


def test_a_search_that_is_done_is_read(searched):
    asked, found = searched
    before = {path: path.stat().st_mtime_ns for path in asked.folder.glob("runs/**/done")}
    assert outcome(search.run(asked, print)) == outcome(found)
    assert before == {path: path.stat().st_mtime_ns for path in asked.folder.glob("runs/**/done")}


def test_a_search_goes_on_with_more_trials_and_after_a_part_is_lost(searched, small_file, tmp_path):
    _asked, found = searched
    few = search_of(small_file, tmp_path, trials=2)
    search.run(few, print)
    shutil.rmtree(few.folder / "runs/demo/concat-trial002")  # as if killed in it
    again = search.run(search_of(small_file, tmp_path, trials=4), print)
    assert outcome(again) == outcome(found)
    tables = [tomllib.loads(f.files[0].read_text()) for f in (again, found)]
    assert tables[0] == tables[1]


def test_garbage_for_target_labels_gives_the_same_winner(searched, small_file, tmp_path):
    _asked, found = searched
    garbled = tmp_path / "garbled.h5"
    shutil.copyfile(small_file, garbled)
    with h5py.File(garbled, "r+") as file:
        labels = file["there/clips/label"][:]
        del file["there/clips/label"]
        file["there/clips/label"] = np.array([{b"jump": "run", b"run": "jump"}.get(x, "nonsense") for x in labels], dtype="S")
    other = search.run(search_of(garbled, tmp_path), print)
    assert outcome(other) == outcome(found)
    assert tomllib.loads(other.files[0].read_text()) == tomllib.loads(found.files[0].read_text())
    accuracy = findings.with_target_labels
    assert accuracy(other)["winner"] < accuracy(found)["winner"]  # the labels are garbage indeed


def test_a_search_does_not_show_accuracies_on_the_target(small_file, tmp_path, capsys):
    search.run(search_of(small_file, tmp_path, trials=1), print)
    shown = "".join(capsys.readouterr())
    assert "concat-trial001 here → there seed 0" in shown and "%" not in shown


def test_the_report_sets_the_target_apart(searched):
    report = findings.text(*searched)
    before, mark, after = report.partition("Remark, WITH TARGET LABELS")
    assert mark and re.search(r"winner [\d.]+ %", after) and "%" not in before
    assert "How well the validators agree" in before and "target" not in before
    assert re.search(r"^im agrees most with \w+ \([-–\d.]+\) and least with", before, re.MULTILINE)
    scores = [next(t.scores for t in searched[1].ranked if t.number == number) for number in (0, searched[1].ranked[0].number)]
    im, val = (" → ".join(f"{one[name]:.4g}" for one in scores) for name in ("im", "source_val"))
    assert f"from the method's own settings to the winner: im {im}, source_val {val}\n" in before
    assert "below trial 0 in im or source_val, and" in before and search.counted(["source_val", "im"]) == ["source_val", "im"]
    assert json.loads(json.dumps(findings.as_json(*searched)))["winner"]["number"] == searched[1].ranked[0].number


def test_the_report_says_which_validators_the_method_s_own_loss_makes_better(searched):
    asked, results = searched
    for method, by, expected in (
        ("im", ("im",), ["im: what information_maximisation minimises"]),
        ("cia-im", ("source_val", "im", "entropy"), ["im and entropy: what information_maximisation minimises"]),
        ("mec", ("entropy", "snd"), ["entropy: what consensus_entropy minimises"]),
        ("mec", ("im",), []),
        ("concat", ("im",), []),
    ):
        request = replace(asked.request, chosen=asked.load(method))
        lines = findings.text(replace(asked, request=request, by=by), results).splitlines()
        assert [line.partition(", so this ranks")[0] for line in lines if "minimises" in line] == expected


@pytest.mark.parametrize("jobs", [1, 2])
def test_tpe_goes_on_to_the_trials_it_would_have_tried(small_file, tmp_path, monkeypatch, jobs):
    """Without training: the score is the rate."""
    batches = []

    def trained(asked, trials, say):
        batches.append(len(trials))
        return [
            replace(t, scores=dict.fromkeys(VALIDATORS, t.values.get("setup.lr", 3e-3)), results=({"selected": 0.0},))
            for t in trials
        ], []

    monkeypatch.setattr(search, "_trained", trained)
    straight = search.run(search_of(small_file, tmp_path / "a", trials=14, sampler="tpe", jobs=jobs), print)
    assert batches == [11] + [jobs] * (4 // jobs) and len(straight.ranked) == 15
    search.run(search_of(small_file, tmp_path / "b", trials=12, sampler="tpe", jobs=jobs), print)
    again = search.run(search_of(small_file, tmp_path / "b", trials=14, sampler="tpe", jobs=jobs), print)
    assert outcome(again) == outcome(straight)


def trial(number: int, **scores: float) -> Trial:
    return Trial(number, {}, Path(), {"source_val": 50.0, "snd": 0.0, **scores} if scores else None)


def test_several_validators_rank_by_the_mean_of_their_ranks():
    trials = [
        trial(0, im=1, bnm=1),
        trial(1, im=4, bnm=2),  # ranks 0 and 2
        trial(2, im=2, bnm=3),  # 2 and 1
        trial(3, im=3, bnm=4),  # 1 and 0
        trial(4),
    ]
    assert [t.number for t in search.ranked(trials, ("im", "bnm"))] == [3, 1, 2, 0]
    assert [t.number for t in search.ranked(trials, ("im",))] == [1, 3, 2, 0]
    assert [t.number for t in search.ranked(trials, ("snd",))] == [0, 1, 2, 3]  # the earlier of equals


def test_a_trial_below_the_method_as_it_is_cannot_win():
    trials = [trial(0, im=1), trial(1, im=9, source_val=49.9), trial(2, im=0.5), trial(3, im=2)]
    assert [t.number for t in search.ranked(trials, ("im",))] == [3, 0, 1, 2]
    assert [t.number for t in search.ranked([trial(0), *trials[1:]], ("im",))] == [1, 3, 2]  # nothing to be below


def test_validators_agree_with_themselves_and_a_mirror_image_disagrees():
    trials = [Trial(i, {}, Path(), dict.fromkeys(VALIDATORS, float(i)) | {"snd": -float(i), "ami": 1.0}) for i in range(4)]
    rho = findings.agreement(trials)
    assert rho["im"]["bnm"] == rho["im"]["im"] == 1 and rho["im"]["snd"] == -1 and rho["ami"]["im"] is None


def test_a_trial_that_diverges_is_left_out_and_the_search_ends(small_file, tmp_path, monkeypatch):
    from cia_adapt.training.trainer import Trainer

    real = Trainer.epoch

    def broken(self):
        if self.setup.lr == 0.5:
            raise DivergedError("the loss is nan")
        return real(self)

    monkeypatch.setattr(Trainer, "epoch", broken)
    found = search.run(search_of(small_file, tmp_path, space={"setup.lr": Choice((0.5,))}, trials=1), print)
    assert [t.number for t in found.ranked] == [0] and [f.exit_code for f in found.failed] == [6]
    assert [path.name for path in found.files] == ["concat-searched.toml"]  # as it is: no set-up of its own
    monkeypatch.setattr(Trainer, "epoch", lambda self: 1 / 0)
    with pytest.raises(
        DataError, match="no trial finished; the first that failed: concat-trial000 here → there seed 0: unexpected"
    ):
        search.run(search_of(small_file, tmp_path / "x", trials=1), print)


def test_trials_that_do_not_fit_fail_and_a_method_that_does_not_fit_is_refused(small_file, tmp_path):
    asked = search_of(small_file, tmp_path, method="att", space={"att.kernel": Choice((4, 7))})
    first = search._written(asked, 1, {"att.kernel": 4})
    (same,), (failed,) = search._trained(asked, [first], print)
    assert same.scores is None and failed.what == "att-trial001" and "--set att.kernel=4: must be odd" in failed.message
    with pytest.raises(UsageError, match="MC exchanges between modalities"):
        cold = search_of(small_file, tmp_path, method="cia", space={"sc.temperature": Choice((0.05, 0.1))})
        search.run(replace(cold, request=replace(cold.request, modalities=("rgb",))), print)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"space": {"setup.lr": Range(1e-3, 2e-2, log=True)}}, r"space.setup.lr.high: 0.01 → 0.02"),
        ({"seed": 1}, "sampler.seed: 0 → 1"),
        ({"sampler": "tpe"}, "sampler.by"),
    ],
)
def test_another_search_in_the_same_folder_is_refused(searched, small_file, changes, message):
    asked, _ = searched
    with pytest.raises(MismatchError, match=message):
        search.run(search_of(small_file, asked.request.runs, **changes), print)


def test_another_direction_is_another_search_where_the_record_has_directions(searched, small_file):
    asked, _ = searched
    one = replace(asked, request=replace(asked.request, sources=("there",), target="here"))
    with pytest.raises(MismatchError, match="sources"):
        search._check_same(one)
    path = asked.folder / "search.json"
    text = path.read_text()
    path.write_text(json.dumps({key: value for key, value in json.loads(text).items() if key not in ("sources", "target")}))
    search._check_same(one)
    path.write_text(text)


@pytest.mark.parametrize("text", ["", "[setup]\nlr = 0.5\nreversal = 0.5", "[setup]\nlr = 'x'\nreversal = 0.5", "[setup"])
def test_a_trial_of_somebody_elses_is_refused(small_file, tmp_path, text):
    asked = search_of(small_file, tmp_path, trials=1)
    asked.folder.mkdir(parents=True)
    (asked.folder / "concat-trial001.toml").write_text(text)
    with pytest.raises(DataError, match=r"concat-trial001\.toml: is (not a trial of this search|no TOML)"):
        search.run(asked, print)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"setup": 3, "method": {}}'])
def test_a_damaged_record_of_the_search_is_refused(small_file, tmp_path, text):
    asked = search_of(small_file, tmp_path)
    asked.folder.mkdir(parents=True)
    (asked.folder / "search.json").write_text(text)
    with pytest.raises(DataError, match=r"search\.json"):
        search.run(asked, print)
