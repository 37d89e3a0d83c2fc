"""`cia-adapt sweep --set part.option=a,b,c`: every value is a run of its own, and other runs stay as they are."""

import json

import pytest
from cia_adapt.cli.grids import Point, points
from cia_adapt.runs import files

from tests.adapt.cli.test_application import cia_adapt

QUICK = ["--setup", "demo", "--epochs", 1, "--batch", 6, "--modality", "rgb", "--source", "here", "--seeds", 1]


def test_one_value_each_is_no_grid():
    assert points([]) == [Point()]
    entries = ["sc.scales=2", "cross_modal.x=[1, 2]", 'mc.mode="a,b"', "setup.lr = 0.5"]
    assert points(entries) == [Point("", ["sc.scales=2", "cross_modal.x=[1, 2]", 'mc.mode="a,b"'], {"lr": 0.5})]


def test_every_combination_is_a_point():
    grid = points(["setup.lr=1e-3, 1e-2", "mc.ratio=8", "mc.mode=recalibrate,inject_vec"])
    assert [point.suffix for point in grid] == [
        f"@setup.lr={lr}@mc.mode={mode}" for lr in ("1e-3", "1e-2") for mode in ("recalibrate", "inject_vec")
    ]
    assert grid[3] == Point("@setup.lr=1e-2@mc.mode=inject_vec", ["mc.ratio=8", "mc.mode=inject_vec"], {"lr": 0.01})


def test_a_grid_trains_beside_the_method_as_it_is(small_file, tmp_path):
    command = ["sweep", "--features", small_file, *QUICK, "--json"]
    assert cia_adapt(*command, "--method", "dann,source-only", cwd=tmp_path).returncode == 0
    before = {path: path.stat().st_mtime_ns for path in tmp_path.glob("runs/**/done")}
    grid = ["--set", "adversarial.frame=0.1,0.2", "--set", "setup.lr=1e-3,1e-2"]
    run = cia_adapt(*command, "--method", "dann,source-only", *grid, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    results = json.loads(run.stdout)["runs"]
    rates = ("1e-3", "1e-2")
    names = [f"dann@adversarial.frame={frame}@setup.lr={lr}" for frame in (0.1, 0.2) for lr in rates]
    assert [r["method"] for r in results] == names + [f"source-only@setup.lr={lr}" for lr in rates]  # it has no such part
    config = files.read_config(tmp_path / "runs/demo" / names[3] / "here-there/seed0")
    assert config["setup"]["lr"] == 0.01 and config["method"]["options"]["adversarial"]["frame"] == 0.2
    assert before == {path: path.stat().st_mtime_ns for path in before} and len(before) == 2
    assert cia_adapt("table", "runs/demo", cwd=tmp_path).returncode == 0


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--set sc.scales=1,1", "--set sc.scales=1,1: write values with commas between, each once"),
        ("--set sc.scales=1,,2", "write values with commas between"),
        ("--set sc.scales=1,two", "--set sc.scales=two: give a whole number"),
        ("--set setup.lrr=1,2", "--set setup.lrr=1: unknown; did you mean lr? cia-adapt sweep --help lists all "),
        ("--set setup.name=a,b", "--set setup.name=a: unknown"),
        ("--set setup.lr=1e-3,-1", "--lr -1: give a number"),
        ("--set setup.lr=1e-3,1e-2 --lr 0.1", "--set setup.lr: is given by --lr too"),
        ("--set setup=1,2", "--set setup=1,2: none of these methods has a part setup"),
        ("--set scs.scales=1,2", "none of these methods has a part scs; did you mean sc?"),
    ],
)
def test_a_mistake_in_a_grid_is_one_line(small_file, tmp_path, words, message):
    run = cia_adapt("sweep", "--features", small_file, "--method", "cia", *words.split(), cwd=tmp_path)
    assert run.returncode == 2 and message in run.stderr and len(run.stderr.splitlines()) == 1
