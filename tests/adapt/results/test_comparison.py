"""Which runs may stand in one table, and what a row says of a method's own searched settings."""

import copy
import json

import pytest
from cia_adapt.results import comparison
from cia_adapt.runs import RunKey
from cia_extract.common.errors import DataError, MismatchError

from tests.adapt.cli.test_application import cia_adapt
from tests.adapt.runs_of import chosen

SEARCHED = {"trial": "7 of 30", "by": "im, bnm", "settings": "setup.lr, setup.dropout, setup.reversal, adversarial.frame"}


@pytest.fixture
def runs(tmp_path):
    """A function that writes a run's config.json: set-up's and method's fields as given, all else equal. → its folder"""
    picked = chosen("concat")
    key = RunKey(picked.setup, picked.for_pair("here", "there"), "here", "there", ("rgb",), 0, "1+2")

    def write(name: str, searched: dict[str, str] | None = None, precision: str = "fp32", **setup: object):
        config = copy.deepcopy(key.fields()) | {"precision": precision}
        config["setup"] |= setup
        config["method"] |= {"name": name, "searched": searched or {}}
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").write_text(json.dumps(config))
        return tmp_path / name

    return write


def test_a_winner_of_a_search_stands_beside_others_with_what_was_searched(runs):
    comparison.check_comparable([runs("plain"), runs("own", SEARCHED, lr=0.5, dropout=0.1, reversal=0.3)])
    comparison.check_comparable([runs("first", SEARCHED, dropout=0.2), runs("second"), runs("third", SEARCHED, dropout=0.3)])


@pytest.mark.parametrize("changed", [{"dropout": 0.1}, {"reversal": 0.3}, {"normalise": False}])
def test_what_a_hand_set_is_no_searched_setting(runs, changed):
    with pytest.raises(MismatchError, match=rf"set by hand and .*plain are not comparable \(setup\.{next(iter(changed))}: "):
        comparison.check_comparable([runs("plain"), runs("set by hand", **changed)])


def test_a_winner_first_does_not_hide_two_that_differ(runs):
    """The winner is compared with neither in its dropout; they are with each other."""
    folders = [runs("own", SEARCHED, dropout=0.1), runs("one", dropout=0.5), runs("two", dropout=0.2)]
    with pytest.raises(MismatchError, match=r"two and .*one are not comparable \(setup\.dropout: 0\.5 → 0\.2\)"):
        comparison.check_comparable(folders)


@pytest.mark.parametrize("changed", [{"epochs": 9}, {"normalise": False}, {"segments": 3}, {"warm_up": 0.1}])
def test_what_was_not_searched_must_be_equal_for_a_winner_too(runs, changed):
    with pytest.raises(MismatchError, match=f"setup.{next(iter(changed))}"):
        comparison.check_comparable([runs("plain"), runs("own", SEARCHED, **changed)])
    with pytest.raises(MismatchError, match="precision: fp32 → bf16"):
        comparison.check_comparable([runs("other"), runs("mine", SEARCHED, precision="bf16")])


def test_a_built_in_method_stands_beside_others_with_its_toml_s_own_set_up(runs):
    """SHOT and CoMix smooth labels. Another smoothing than theirs is set by hand."""
    plain = runs("concat")
    comparison.check_comparable([plain, runs("shot-fl", smoothing=0.1), runs("comix-fl", smoothing=0.1)])
    with pytest.raises(MismatchError, match=r"setup\.smoothing: 0\.0 → 0\.2"):
        comparison.check_comparable([plain, runs("cleanadapt-fl", smoothing=0.2)])


def test_a_damaged_mark_of_a_search_is_a_line(runs):
    with pytest.raises(DataError, match=r"'method\.searched' has a wrong value"):
        comparison.check_comparable([runs("own", {"trial": "7"})])


def test_no_toml_is_read_that_a_run_names(runs, tmp_path):
    (tmp_path / "own.toml").write_text("no TOML")
    folder = runs("plain")
    config = json.loads((folder / "config.json").read_text())
    for wrong in ({"setup": {"name": f"{tmp_path}/own.toml"}}, {"method": {"name": f"{tmp_path}/own.toml"}}):
        foreign = {key: config[key] | wrong.get(key, {}) for key in ("setup", "method")}
        assert comparison._changed(config | foreign) == ("no method or set-up of that name here",)


def test_the_table_marks_the_row_and_says_what_was_searched(small_file, tmp_path):
    """End to end: a method's TOML as a search writes it, beside a method at the set-up's own settings."""
    (tmp_path / "own.toml").write_text(
        'objectives = ["adversarial"]\n[setup]\ndropout = 0.25\n[adversarial]\nframe = 0.125\n'
        '[searched]\ntrial = "3 of 9"\nby = "im"\nsettings = "setup.dropout, adversarial.frame"\n'
    )
    words = ["--features", small_file, "--setup", "demo", "--epochs", 1, "--batch", 6, "--source", "here"]
    for method in ("own.toml", "concat"):
        run = cia_adapt(*words, "--method", method, cwd=tmp_path)
        assert run.returncode == 0, run.stderr
    table = cia_adapt("table", "runs", "--baseline", "concat", "--format", "markdown", cwd=tmp_path)
    assert table.returncode == 0, table.stderr
    assert "own*" in table.stdout.replace(r"\*", "*")
    # What the run had: the set-up's reversal of 0.1 multiplies the method's 0.125.
    said = "own: its own searched settings: trial 3 of 9 by im: setup.dropout = 0.25, adversarial.frame = 0.0125"
    assert said in table.stdout.replace("\\", "")
    hand = cia_adapt(*words, "--method", "dann", "--dropout", 0.25, cwd=tmp_path)
    assert hand.returncode == 0
    refused = cia_adapt("table", "runs", cwd=tmp_path)
    assert refused.returncode == 4 and "setup.dropout: 0.5 → 0.25" in refused.stderr
