"""`cia-adapt search` as a user meets it."""

import json
import subprocess
import sys
import time
from pathlib import Path

import h5py
import pytest
from cia_adapt.runs import files

from tests.adapt.cli.test_application import cia_adapt
from tests.command_line import gone

QUICK = ["--setup", "demo", "--method", "concat", "--epochs", 2, "--batch", 6, "--modality", "rgb", "--source", "here"]


def command(file: Path, *more: object) -> list[object]:
    return ["search", "--features", file, *QUICK, "--trials", 4, "--by", "im,bnm", *more]


@pytest.fixture(scope="module")
def searched(small_file, tmp_path_factory) -> tuple[Path, dict]:
    folder = tmp_path_factory.mktemp("searched")
    run = cia_adapt(*command(small_file, "--json"), cwd=folder)
    assert run.returncode == 0, run.stderr
    return folder, json.loads(run.stdout)


def test_the_winner_trains_and_is_the_trial(searched, small_file):
    folder, found = searched
    winner = found["winner"]["number"]
    assert winner > 0 and found["by"] == ["im", "bnm"] and len(found["trials"]) == 5
    method = found["files"][0]
    run = cia_adapt("--features", small_file, *QUICK, "--method", method, "--json", cwd=folder)
    assert run.returncode == 0, run.stderr
    (alone,) = files.find([folder / "runs/demo/concat-searched"])
    (trial,) = files.find([folder / f"searches/demo/concat/runs/demo/concat-trial{winner:03d}"])
    assert (alone / "metrics.jsonl").read_bytes() == (trial / "metrics.jsonl").read_bytes()
    searched = files.read_config(alone)["method"]["searched"]
    assert searched == {"trial": f"{winner} of 4", "by": "im, bnm", "settings": ", ".join(found["winner"]["values"])}
    assert not files.read_config(trial)["method"]["searched"]


def test_the_winners_set_up_trains_other_methods(searched, small_file):
    folder, found = searched
    words = ["--features", small_file, *QUICK, "--method", "dann,concat", "--setup", found["files"][1], "--seeds", 1]
    run = cia_adapt("sweep", *words, "--json", cwd=folder)
    assert run.returncode == 0, run.stderr
    configs = [files.read_config(path) for path in files.find([folder / "runs/demo-searched"])]
    assert {config["setup"]["lr"] for config in configs} == {found["winner"]["values"]["setup.lr"]} and len(configs) == 2


def test_a_search_that_was_killed_goes_on_to_the_same_winner(searched, small_file, tmp_path):
    _, found = searched
    program = [sys.executable, "-c", "from cia_adapt.cli import main; main()", *map(str, command(small_file, "--json"))]
    process = subprocess.Popen(program, cwd=tmp_path, stderr=subprocess.DEVNULL, start_new_session=True)
    deadline = time.monotonic() + 60
    while len(list(tmp_path.glob("searches/**/done"))) < 2 and time.monotonic() < deadline:
        time.sleep(0.02)
    process.kill()
    process.wait()
    assert gone(process.pid, within_s=15)
    done = {path: path.stat().st_mtime_ns for path in tmp_path.glob("searches/**/seed0/done")}
    assert 2 <= len(done) < 5
    run = cia_adapt(*command(small_file, "--json"), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    again = json.loads(run.stdout)
    assert {key: again[key] for key in ("winner", "trials", "agreement")} == {
        key: found[key] for key in ("winner", "trials", "agreement")
    }
    assert all(path.stat().st_mtime_ns == time_ns for path, time_ns in done.items())


@pytest.mark.slow
def test_ray_trains_the_trials_to_the_same_winner(searched, small_file, tmp_path):
    run = cia_adapt(*command(small_file, "--ray", "local", "--json"), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout)["winner"]["number"] == searched[1]["winner"]["number"]


def test_several_sources_are_searched_together(small_file, tmp_path):
    with h5py.File(small_file) as file, h5py.File(tmp_path / "three.h5", "w") as out:
        for name, like in (("here", "here"), ("there", "there"), ("third", "here")):
            file.copy(like, out, name)
    run = cia_adapt(*command(tmp_path / "three.h5", "--source", "third", "--trials", 1), cwd=tmp_path)
    assert run.returncode == 0 and "winner: trial" in run.stdout, run.stderr
    assert [folder.parent.name for folder in files.find([tmp_path / "searches"])] == ["here+third-there"] * 2


def test_the_report_is_printed_and_kept(searched, small_file):
    folder, found = searched
    run = cia_adapt(*command(small_file), cwd=folder)
    assert run.returncode == 0 and run.stdout == (folder / "searches/demo/concat/report.txt").read_text()
    assert f"winner: trial {found['winner']['number']}" in run.stdout
    assert "Remark, WITH TARGET LABELS" in run.stdout.splitlines()[-1]


def test_tpe_searches_over_the_settings_of_a_file(small_file, tmp_path):
    (tmp_path / "s.toml").write_text("[setup]\ndropout = [0.0, 0.5]\n[adversarial]\nframe = {low = 0, high = 1}\n")
    run = cia_adapt(*command(small_file, "--space", "s.toml", "--sampler", "tpe", "--trials", 2, "--json"), cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    tried = [trial["values"] for trial in json.loads(run.stdout)["trials"] if trial["number"]]
    assert all(values["setup.dropout"] in (0.0, 0.5) and 0 <= values["adversarial.frame"] <= 1 for values in tried)


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        ("--by magic", 2, "--by magic: unknown, choose from source_val, entropy, im, snd, bnm, ami"),
        ("--by im,imm", 2, "did you mean im?"),
        ("--by im,im", 2, "--by im,im: write each validator once"),
        ("--by ,", 2, "--by ,: unknown"),
        ("--space magic", 2, "--space magic: unknown, choose from default"),
        ("--space none.toml", 2, "--space none.toml: no such file"),
        ("--space bad.toml", 2, "--space bad.toml: setup.lr: low must be below high"),
        ("--space worse.toml", 3, "worse.toml: is no TOML"),
        ("--method none.toml", 2, "--method none.toml: no such file"),
        ("--method worse.toml", 3, "worse.toml: is no TOML"),
        ("--lr 0.1", 2, "--lr: --space default varies it; leave one of both out"),
        ("--method cia --set sc.temperature=1", 2, "--set sc.temperature: --space default varies it"),
        ("--sampler grid", 2, "--sampler grid: unknown, choose from random, tpe"),
        ("--trials 0", 2, "--trials 0: give a whole number from 1 to 10000"),
        ("--search-seed -1", 2, "--search-seed -1: give a whole number"),
        ("--source mars", 2, "--source mars: not in the file"),
    ],
)
def test_a_users_mistake_is_one_line(small_file, tmp_path, words, code, message):
    (tmp_path / "bad.toml").write_text("[setup]\nlr = {low = 0.1, high = 0.01}\n")
    (tmp_path / "worse.toml").write_text("[setup\n")
    run = cia_adapt(*command(small_file, *words.split()), cwd=tmp_path)
    assert run.returncode == code and message in run.stderr, run.stderr
    assert len(run.stderr.splitlines()) == 1 and run.stdout == ""


def test_without_optuna_one_line_says_how_to_get_it_and_random_trials_need_none(small_file, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "optuna", None)
    at_random = cia_adapt(*command(small_file, "--trials", 1), cwd=tmp_path)
    assert at_random.returncode == 0 and "winner: trial" in at_random.stdout, at_random.stderr
    run = cia_adapt(*command(small_file, "--sampler", "tpe", "--runs", "tpe"), cwd=tmp_path)
    assert run.returncode == 2 and "pip install 'cia-video[search]'" in run.stderr and "unexpected" not in run.stderr


def test_a_search_that_was_begun_in_the_earlier_space_goes_on_in_it(small_file, tmp_path):
    begun = cia_adapt(*command(small_file, "--trials", 1, "--space", "earlier"), cwd=tmp_path)
    assert begun.returncode == 0, begun.stderr
    record = (tmp_path / "searches/demo/concat/search.json").read_bytes()
    goes_on = cia_adapt(*command(small_file, "--trials", 2, "--json"), cwd=tmp_path)
    assert goes_on.returncode == 0, goes_on.stderr
    assert (tmp_path / "searches/demo/concat/search.json").read_bytes() == record
    assert len(json.loads(goes_on.stdout)["trials"]) == 3
    anew = cia_adapt(*command(small_file, "--trials", 1, "--runs", "anew"), cwd=tmp_path)
    assert anew.returncode == 0 and (tmp_path / "anew/demo/concat/search.json").read_bytes() != record
    other = cia_adapt(*command(small_file, "--runs", "anew", "--space", "earlier"), cwd=tmp_path)
    assert other.returncode == 4 and "setup.lr" in other.stderr


def test_a_search_that_was_begun_in_the_default_space_before_it_went_around_the_set_up_goes_on_in_it(small_file, tmp_path):
    """Set-up uh has λ = 1, and the file's range, which was the space then, ends at it."""
    (tmp_path / "then.toml").write_text(
        "[setup]\nlr = { low = 3e-5, high = 5e-2, log = true }\ndropout = { low = 0.0, high = 0.8 }\n"
        "reversal = { low = 0.01, high = 1.0, log = true }\n"
    )
    uh = [word if word != "demo" else "uh" for word in command(small_file, "--trials", 1)]
    begun = cia_adapt(*uh, "--space", "then.toml", cwd=tmp_path)
    assert begun.returncode == 0, begun.stderr
    record = tmp_path / "searches/uh/concat/search.json"
    before = record.read_bytes()
    goes_on = cia_adapt(*uh, cwd=tmp_path)
    assert goes_on.returncode == 0 and record.read_bytes() == before, goes_on.stderr
    anew = cia_adapt(*uh, "--runs", "anew", cwd=tmp_path)
    assert anew.returncode == 0, anew.stderr
    assert json.loads((tmp_path / "anew/uh/concat/search.json").read_text())["space"]["setup.reversal"]["high"] == 10


def test_features_are_asked_for(tmp_path):
    run = cia_adapt("search", cwd=tmp_path)
    assert run.returncode == 2 and "--features is missing" in run.stderr
