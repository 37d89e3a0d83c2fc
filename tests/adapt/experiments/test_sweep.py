"""`sweep`, `table`, `validators`: many runs and what is said of them."""

import csv
import dataclasses
import io
import json
import multiprocessing
import re
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from cia_adapt.experiments import Request, runner, sweep
from cia_adapt.results import comparison, formats, statistics, table
from cia_adapt.runs import files
from cia_adapt.training import health
from cia_extract.common.errors import MismatchError, UsageError

from tests.adapt.cli.test_application import cia_adapt
from tests.adapt.runs_of import chosen, copied

METHODS = ("source-only", "concat", "mmtm-fl")
QUICK = ["--setup", "demo", "--epochs", 2, "--batch", 6]


def requests(file: Path, folder: Path, methods=METHODS, seeds=(0, 1, 2)) -> list[Request]:
    return [
        Request(features=file, chosen=chosen(m), modalities=("rgb", "flow"), seeds=seeds, runs=folder, keep_state=False)
        for m in methods
    ]


@pytest.fixture(scope="module")
def swept(small_file, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("sweep")
    results, failed = sweep.run(requests(small_file, folder), 1, None, print)
    assert not failed and len(results) == 3 * 2 * 3
    return folder


def test_results_come_in_the_order_asked_for(small_file, swept):
    results, _ = sweep.run(requests(small_file, swept), 1, None, print)
    assert [(r["method"], r["source"], r["seed"]) for r in results] == [
        (m, s, k) for m in METHODS for s in ("here", "there") for k in (0, 1, 2)
    ]


def test_several_processes_give_the_same_runs_and_go_on_where_others_stopped(small_file, swept, tmp_path):
    sweep.run(requests(small_file, tmp_path, ("concat",), (0,)), 1, None, print)
    sweep.run(requests(small_file, tmp_path, ("concat",), (0, 1)), 2, None, print)
    found = files.find([tmp_path])
    assert len(found) == 4
    for other in found:
        folder = swept / other.relative_to(tmp_path)
        assert (other / "metrics.jsonl").read_bytes() == (folder / "metrics.jsonl").read_bytes()


def test_one_failing_run_does_not_stop_the_others(small_file, tmp_path, monkeypatch):
    from cia_adapt.training.trainer import Trainer
    from cia_extract.common.errors import DivergedError

    real = Trainer.epoch

    def broken(self):
        if self.method.name == "concat" and self.task.source == "here":
            raise DivergedError("the loss is nan")
        return real(self)

    monkeypatch.setattr(Trainer, "epoch", broken)
    results, failed = sweep.run(requests(small_file, tmp_path, ("concat", "source-only"), (0,)), 1, None, print)
    assert len(results) == 3 and len(failed) == 1
    assert failed[0].what == "concat here → there seed 0" and failed[0].exit_code == 6


def test_a_method_that_does_not_fit_is_listed_and_a_mistake_of_all_is_raised(small_file, tmp_path):
    asked = requests(small_file, tmp_path, ("cia", "concat"), (0,))
    asked = [replace(request, modalities=("rgb",)) for request in asked]
    results, failed = sweep.run(asked, 1, None, print)
    assert len(results) == 2 and failed[0].what == "cia" and "needs two" in failed[0].message
    with pytest.raises(UsageError, match="--source mars"):
        sweep.run([replace(request, sources=("mars",)) for request in asked], 1, None, print)


@pytest.mark.slow
def test_ray(small_file, tmp_path):
    pytest.importorskip("ray", reason="the extra [ray] is not installed")
    command = ["sweep", "--features", small_file, *QUICK, "--method", "concat", "--seeds", 2, "--ray", "local", "--json"]
    found = json.loads(cia_adapt(*command, cwd=tmp_path).stdout)
    assert len(found["runs"]) == 4 and not found["failed"]


def test_the_command_lists_failures_and_exits_with_their_code(small_file, tmp_path):
    command = ["sweep", "--features", small_file, *QUICK, "--method", "mmsada-fl,concat", "--seeds", 1, "--modality", "rgb"]
    run = cia_adapt(*command, "--json", cwd=tmp_path)
    assert run.returncode == 2
    found = json.loads(run.stdout)
    assert len(found["runs"]) == 2 and len(found["failed"]) == 1
    assert "1 of 3 runs failed" in run.stderr and "correspondence: compares modalities" in run.stderr


def test_table_has_every_row_the_published_numbers_and_ours(swept):
    groups = comparison.groups(files.find([swept]))
    grid = table.paper_table("3", groups, "selected", "source-only")
    rows = {row[1]: row for row in grid.rows}
    assert len(grid.rows) == 15 and grid.header[2:4] == ["here → there", "there → here"]
    cia, concat = rows["CIA (Ours)★ [cia]"], rows["Concat★ [concat]"]
    assert cia[2:6] == ["–", "–", "–", "–"] and cia[-2:] == ["90.56", "94.22"]
    assert concat[-2:] == ["86.11", "92.99"] and re.fullmatch(r"[\d.]+ ± [\d.]+ \[[\d.]+, [\d.]+\]", concat[2])
    means = [np.mean([r["selected"] for r in groups["concat", pair].results]) for pair in (("here", "there"), ("there", "here"))]
    assert [float(cell.split()[0]) for cell in concat[2:4]] == pytest.approx(means, abs=0.06)
    base = [
        np.mean([r["selected"] for r in groups["source-only", pair].results]) for pair in (("here", "there"), ("there", "here"))
    ]
    assert float(concat[5].split()[0]) == pytest.approx(np.mean(means) - np.mean(base), abs=0.06)
    assert rows["Concat★ [source-only]"][5] == "–"


def test_interquartile_mean_is_over_seeds_and_pairs(swept):
    groups = comparison.groups(files.find([swept]))
    known = {("here", "there"): (10.0, 50.0, 60.0), ("there", "here"): (70.0, 80.0, 99.0)}
    for key in [key for key in groups if key[0] == "concat"]:
        given = tuple({**result, "oracle": value} for result, value in zip(groups[key].results, known[key[1]], strict=True))
        groups[key] = dataclasses.replace(groups[key], results=given)
    grid = table.paper_table("3", groups, "oracle", None)
    (concat,) = (row for row in grid.rows if row[1] == "Concat★ [concat]")
    assert grid.header[4] == "IQM, all pairs" and concat[4] == f"{(50 / 2 + 60 + 70 + 80 / 2) / 3:.1f}"


def test_formats(swept):
    grid = table.paper_table("3", comparison.groups(files.find([swept])), "last", None)
    rows = list(csv.reader(io.StringIO(formats.render(grid, "csv"))))
    assert rows[0] == [*grid.header, "ours", "departs from the method in"] and len(rows) == 16
    assert {row[-2] for row in rows[1:]} == {"last"}
    markdown = formats.render(grid, "markdown")
    assert markdown.count("\n|") == 17 and table.PUBLISHED_NOTE in markdown
    latex = formats.render(grid, "latex")
    assert latex.count(r"\\") == 16 and r"$\pm$" in latex and r"Concat$\star$" in latex and "★" not in latex
    assert "Concat★ [concat]" in formats.render(grid, "terminal")


def test_the_oracle_says_what_it_is(swept):
    grid = table.paper_table("3", comparison.groups(files.find([swept])), "oracle", None)
    assert "uses target labels: no honest result" in grid.notes[0]
    for form in ("terminal", "markdown", "latex", "csv"):
        assert "uses target labels" in formats.render(grid, form), form
    assert "uses target labels" in formats.render(grid, "latex").split(r"\end{tabular}")[1]  # printed, not a comment


def test_runs_that_end_in_trouble_are_counted(swept):
    groups = comparison.groups(files.find([swept]))
    collapse = str(health.advice([{"target_top_class_share": 0.95}], 5, 1.0))
    outweighed = [str(health.advice([{"domain_to_task_gradient": ratio}], 5, 1.0)) for ratio in (30.0, 40.0)]
    for key, advice in zip([key for key in groups if key[0] == "concat"], outweighed, strict=True):
        results = [dict(result) for result in groups[key].results]
        results[0]["advice"], results[1]["advice"] = collapse, advice
        groups[key] = dataclasses.replace(groups[key], results=tuple(results))
    notes = table.paper_table("3", groups, "selected", None).notes
    assert "! concat: 4 of 6 runs in trouble at their last epoch (2 × collapse, 2 × outweighed)" in notes
    assert sweep.trouble({"advice": "collapse"}) == "  ! collapse" and sweep.trouble({"advice": ""}) == ""


def test_table_2_has_columns_by_label(tmp_path, small_file):
    import h5py

    path = tmp_path / "f.h5"
    shutil.copy(small_file, path)
    with h5py.File(path, "a") as file:
        for name in ("here", "there"):
            file[f"{name}/clips/noun"] = np.array(["cup", "pan"] * 9, dtype="S")
    asked = Request(
        features=path,
        chosen=chosen("avg", labels="label,noun"),
        sources=("here",),
        target="there",
        modalities=("rgb", "flow"),
        seeds=(0, 1),
        runs=tmp_path / "r",
    )
    runner.run(asked, print)
    groups = comparison.groups(files.find([tmp_path / "r"]))
    grid = table.paper_table("2", groups, "selected", None)
    assert grid.header[2:] == ["verb", "noun", "action", "IQM, all pairs", "verb published", "noun published", "action published"]
    (ours,) = (row for row in grid.rows if row[1] == "avg" or "[avg]" in row[1])
    result = files.read(tmp_path / "r/demo/avg/here-there/seed0")
    assert ours[-3:] == ["47.96", "29.08", "19.19"] and set(result["selected_by_label"]) >= {"label@1", "noun@5", "action@1"}
    both = [files.read(tmp_path / f"r/demo/avg/here-there/seed{k}")["selected_by_label"]["action@1"] for k in (0, 1)]
    assert float(ours[4].split()[0]) == float(ours[5]) == pytest.approx(np.mean(both), abs=0.06)


def test_runs_over_other_features_or_labels_are_refused(swept, tmp_path):
    copied(swept, tmp_path / "x")
    one = tmp_path / "x/demo/concat/here-there/seed1/config.json"
    one_kept = f"{'0' * 64}+{json.loads(one.read_text())['features'].split('+')[1]}"  # the other domain's are others
    for change, message in (
        ({"features": "0" * 64}, "their features were extracted or labelled differently"),
        ({"features": one_kept}, "their features were extracted or labelled differently"),
        ({"modalities": ["rgb"]}, "modalities"),
        ({"precision": "bf16"}, "precision: fp32 → bf16|precision: bf16 → fp32"),
    ):
        config = json.loads((swept / "demo/concat/here-there/seed1/config.json").read_text())
        one.write_text(json.dumps(config | change))
        with pytest.raises(MismatchError, match=message):
            comparison.groups(files.find([tmp_path / "x"]))
    run = cia_adapt("report", tmp_path / "x", "--out", tmp_path / "r.html")
    assert run.returncode == 4 and not (tmp_path / "r.html").exists()


def test_both_directions_read_the_same_features(swept, tmp_path):
    copied(swept, tmp_path / "x")
    for path in tmp_path.glob("x/demo/*/there-here/*/config.json"):
        path.write_text(json.dumps(json.loads(path.read_text()) | {"features": f"{'1' * 64}+{'2' * 64}"}))
    with pytest.raises(MismatchError, match="their features were extracted or labelled differently"):
        comparison.groups(files.find([tmp_path / "x"]))


def test_table_2_of_one_label_has_columns_by_pair(swept):
    grid = table.paper_table("2", comparison.groups(files.find([swept])), "selected", None)
    assert grid.header[2:4] == ["here → there", "there → here"]


def test_what_waits_in_a_workers_queue_is_not_begun_after_an_interrupt(small_file, tmp_path, monkeypatch):
    stop = multiprocessing.get_context("spawn").Event()
    monkeypatch.setattr(sweep._process, "stop", stop)
    request = next(sweep._single(requests(small_file, tmp_path, ("concat",), (0,))[0], print))
    stop.set()
    assert isinstance(sweep.train_one(request), sweep.Failed) and not list(tmp_path.iterdir())
    stop.clear()
    assert not isinstance(sweep.train_one(request), sweep.Failed)


def test_comparison_pairs_clips_and_seeds(swept):
    groups = comparison.groups(files.find([swept]))
    a, b = ([g for (m, _), g in groups.items() if m == name] for name in ("concat", "source-only"))
    points, low, high, p, seeds = comparison.compare(a, b, "selected")
    assert low <= points <= high and 0 < p <= 1 and seeds == 3
    same = comparison.compare(a, a, "selected")
    assert same[:4] == (0, 0, 0, 1)


def test_unknown_baseline_and_table(swept):
    groups = comparison.groups(files.find([swept]))
    with pytest.raises(UsageError, match="--baseline cia: no run of that method, choose from concat"):
        table.paper_table("3", groups, "selected", "cia")
    with pytest.raises(UsageError, match="--table 7: choose from 2, 3"):
        table.paper_table("7", groups, "selected", None)


def test_validators_command(swept):
    run = cia_adapt("validators", swept)
    assert run.returncode == 0
    lines = run.stdout.splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["source_val", "entropy", "im", "snd", "bnm", "ami"]
    summary = statistics.validator_summary([files.read_metrics(folder) for folder in files.find([swept])])
    assert list(summary["validator"]) == ["source_val", "entropy", "im", "snd", "bnm", "ami"]


def test_table_command_writes_a_file(swept, tmp_path):
    run = cia_adapt("table", swept, "--format", "markdown", "--baseline", "concat", "--out", tmp_path / "t.md")
    assert run.returncode == 0 and run.stdout == ""
    assert "− concat, all pairs" in (tmp_path / "t.md").read_text()


def test_a_row_that_departs_from_its_method_says_so(small_file, tmp_path):
    asked = replace(requests(small_file, tmp_path, ("concat",), (0,))[0], chosen=chosen("concat", lr=0.01, supervision="target"))
    runner.run(asked, print)
    grid = table.paper_table("3", comparison.groups(files.find([tmp_path])), "selected", None)
    (row,) = (row for row in grid.rows if "[concat]" in row[1])
    assert row[1].endswith("*")
    assert grid.notes[-1] == "* concat: method.supervision: source → target; setup.lr: 0.003 → 0.01"


def test_an_unexpected_failure_of_one_run_is_listed(small_file, tmp_path, monkeypatch):
    from cia_adapt.training.trainer import Trainer

    monkeypatch.setattr(Trainer, "epoch", lambda self: 1 / 0)
    results, failed = sweep.run(requests(small_file, tmp_path, ("concat",), (0,)), 1, None, print)
    assert not results and {one.message for one in failed} == {"unexpected ZeroDivisionError: division by zero"}


def test_report_draws_methods_without_a_frame_level(small_file, tmp_path):
    runner.run(replace(requests(small_file, tmp_path / "runs", ("dann",), (0,))[0], sources=("here",), target="there"), print)
    run = cia_adapt("report", tmp_path / "runs", cwd=tmp_path)
    assert run.returncode == 0, run.stderr
