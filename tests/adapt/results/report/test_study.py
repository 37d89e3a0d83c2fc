"""Which runs a report is about: damaged ones and those of other versions are named and left out, the rest is shown."""

import json
import shutil

import pytest
from cia_adapt.results.report import study
from cia_adapt.runs import files
from cia_extract.common.errors import DataError, MismatchError, UsageError

from tests.adapt.results.report.run_folders import write_runs


def changed(path, **fields):
    path.write_text(json.dumps(json.loads(path.read_text()) | fields))


def read(root, **wanted):
    said: list[str] = []
    return study.read(files.find([root]), study.Wanted(**wanted), said.append), said


def without_options(folder):
    method = json.loads((folder / "config.json").read_text())["method"]
    changed(folder / "config.json", method={k: v for k, v in method.items() if k != "options"})


def without_oracle(folder):
    result = json.loads((folder / "result.json").read_text())
    (folder / "result.json").write_text(json.dumps({k: v for k, v in result.items() if k != "oracle"}))


def of_a_later_version(folder):
    setup = json.loads((folder / "config.json").read_text())["setup"]
    changed(folder / "config.json", setup=setup | {"tomorrow": 1})


DAMAGE = {
    "no result": lambda folder: (folder / "result.json").unlink(),
    "half a configuration": lambda folder: (folder / "config.json").write_text("{"),
    "a method without its options": without_options,
    "no classes": lambda folder: changed(folder / "config.json", classes={}),
    "metrics of a number that is none": lambda folder: (folder / "metrics.jsonl").write_text('{"class_loss": "x"}'),
    "no predictions": lambda folder: (folder / "predictions.csv").unlink(),
    "predictions of other clips": lambda folder: (folder / "predictions.csv").write_text("clip,label,last,selected\nx,a,a,a\n"),
    "predictions without a column": lambda folder: (folder / "predictions.csv").write_text("clip,label,last\nclip0,climb,run\n"),
    "a result of a version without oracles": without_oracle,
    "a set-up of a later version": of_a_later_version,
    "a stamp of another kind": lambda folder: (folder / "stamp.json").write_text("[]"),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE)
def test_a_damaged_run_is_named_and_the_rest_shown(tmp_path, damage):
    folders = write_runs(tmp_path, seeds=3)
    damage(folders[4])
    (one,), said = read(tmp_path)
    assert set(one.runs) == set(folders) - {folders[4]}
    assert len(said) == 1 and str(folders[4]) in said[0]
    assert [group.seeds for group in one.in_order()].count((0, 2)) == 1


def test_no_readable_run_is_an_error(tmp_path):
    for folder in write_runs(tmp_path, ["cia"], seeds=2):
        (folder / "predictions.csv").unlink()
    with pytest.raises(DataError, match="none of these runs can be read"):
        read(tmp_path)


def test_each_set_up_is_a_study_of_its_own(tmp_path):
    write_runs(tmp_path, ["cia"], setup="uh")
    write_runs(tmp_path, ["cia"], setup="demo")
    studies, _ = read(tmp_path)
    assert [one.setup for one in studies] == ["demo", "uh"]


def test_runs_that_differ_in_more_than_the_seed_are_refused(tmp_path):
    folders = write_runs(tmp_path, ["cia"], seeds=2)
    config = json.loads((folders[0] / "config.json").read_text())
    changed(folders[0] / "config.json", setup=config["setup"] | {"lr": 0.5})
    with pytest.raises(MismatchError, match=r"setup\.lr"):
        read(tmp_path)


def test_the_baseline_is_source_only_unless_the_reader_says_otherwise(tmp_path):
    write_runs(tmp_path / "a", ["cia", "source-only", "concat"])
    (one,), _ = read(tmp_path / "a")
    assert one.baseline == "source-only" == one.methods[0] and one.best == "concat"
    (one,), _ = read(tmp_path / "a", baseline="concat")
    assert one.baseline == "concat" and one.best == "source-only"
    with pytest.raises(UsageError, match=r"--baseline concta: no run of that method; .*did you mean concat"):
        read(tmp_path / "a", baseline="concta")
    shutil.rmtree(tmp_path / "a/uh/source-only")
    (one,), _ = read(tmp_path / "a")
    assert one.baseline == "concat"
    shutil.rmtree(tmp_path / "a/uh/concat")
    (one,), _ = read(tmp_path / "a")
    assert one.baseline is None and one.best == "cia"
