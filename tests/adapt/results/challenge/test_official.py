"""The challenge's classes and tail against the official csvs, and ids of a csv."""

import csv

import pytest
from cia_adapt.results.challenge import official
from cia_extract.common.errors import DataError


def test_the_tail_is_that_of_the_csvs(shared):
    folder = shared / "splits/epic100_uda"
    names = official.classes()
    for task, columns in (("verb", "verb"), ("noun", "noun")):
        rows = list(csv.DictReader((folder / f"EPIC_100_tail_{task}s.csv").open()))
        assert official.tail()[task] == {names[task][int(row[columns])] for row in rows}
        keys = [row["key"] for row in csv.DictReader((folder / f"EPIC_100_{task}_classes.csv").open())]
        assert names[task] == keys


def test_the_ids_are_those_of_the_csv(shared):
    ids = official.ids(shared / "splits/epic100_uda/UDA_annotations/EPIC_100_uda_target_test_timestamps.csv")
    assert (len(ids), ids[0]) == (5909, "P01_101_0")


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("narration_id,x\nP01_1_0,1\nP01_1_0,2\n", "lists P01_1_0 twice"),
        ("id\nP01_1_0\n", "has no column narration_id"),
        ("narration_id\n", "or no clip"),
        ("x,narration_id\n1,P01_1_0\n2\n", "has a row that is too short"),
    ],
)
def test_a_csv_that_is_none_of_timestamps(tmp_path, text, said):
    (tmp_path / "t.csv").write_text(text)
    with pytest.raises(DataError, match=said):
        official.ids(tmp_path / "t.csv")
