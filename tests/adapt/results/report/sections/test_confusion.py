"""Confusion matrices and accuracies by class, against counts by hand from predictions.csv."""

from collections import Counter
from pathlib import Path

import pytest
from cia_adapt.results.report import study
from cia_adapt.results.report.sections import confusion
from cia_adapt.runs import files

from tests.adapt.results.report.run_folders import write_runs


@pytest.fixture(scope="module")
def read(tmp_path_factory):
    root = tmp_path_factory.mktemp("confusion")
    write_runs(root, seeds=3)
    (one,) = study.read(files.find([root]), study.Wanted(), print)
    return one


def by_hand(folders: list[Path]) -> dict[tuple[str, str], float]:
    counts: Counter[tuple[str, str]] = Counter()
    clips: Counter[str] = Counter()
    for folder in folders:
        for row in files.read_predictions(folder):
            counts[row["label"], row["selected"]] += 1
            clips[row["label"]] += 1
    return {cell: 100 * count / clips[cell[0]] for cell, count in counts.items()}


def test_a_matrix_is_the_share_of_each_class_s_clips(read):
    section = confusion.section(read)
    cells = section.figures[0].numbers
    for (method, pair), group in read.groups.items():
        rows = cells[(cells["method"] == method) & (cells["direction"] == study.direction(pair))]
        shown = {(row["class"], row["predicted"]): row["share"] for _, row in rows.iterrows() if row["share"] > 0}
        assert shown == pytest.approx(by_hand(list(group.folders)))


def test_a_change_is_the_difference_of_two_matrices(read):
    cells = confusion.section(read).figures[1].numbers
    pair = read.pairs[0]
    ours, theirs = (by_hand(list(read.groups[method, pair].folders)) for method in ("cia", "source-only"))
    rows = cells[(cells["method"] == "cia") & (cells["direction"] == study.direction(pair))]
    shown = {(row["class"], row["predicted"]): row["change"] for _, row in rows.iterrows()}
    assert shown == pytest.approx({cell: ours.get(cell, 0) - theirs.get(cell, 0) for cell in ours | theirs})


def test_accuracy_by_class_is_the_diagonal(read):
    by_class = confusion.section(read).figures[2].numbers
    assert len(by_class) == 3 * 2 * 4
    for _, row in by_class.iterrows():
        group = next(g for g in read.groups.values() if g.method == row["method"] and study.direction(g.pair) == row["direction"])
        assert row["accuracy"] == pytest.approx(by_hand(list(group.folders)).get((row["class"], row["class"]), 0))
        assert row["change"] == pytest.approx(row["accuracy"] - row["baseline"]) and row["clips"] == 6


def test_a_class_that_the_source_lacks_is_named_and_right_in_no_run(tmp_path):
    folders = write_runs(tmp_path, ["cia"], [("ucf", "hmdb")], seeds=1)
    path = folders[0] / "predictions.csv"
    lines = path.read_text().splitlines()
    path.write_text("\n".join([lines[0], *(",".join([line.split(",")[0], "", *line.split(",")[2:]]) for line in lines[1:])]))
    (one,) = study.read(files.find([tmp_path]), study.Wanted(), print)
    section = confusion.section(one)
    assert set(section.figures[0].numbers["class"]) == {confusion.NO_CLASS}
    assert not next(iter(one.groups.values())).right("selected").any()
