import re

import pytest
from cia_adapt.config import library, overview
from cia_extract.common.errors import UsageError


def test_every_method_is_in_one_group_and_no_group_is_empty():
    grouped = library.grouped()
    assert list(grouped) == list(overview.GROUPS.values())
    assert sorted(name for members in grouped.values() for name in members) == library.names("methods")


def test_the_papers_rows_are_in_the_group_of_their_table():
    for group, paper in (("table-2", "Table 2"), ("table-3", "Table 3"), ("figure-1", "Figure 1")):
        members = library.grouped()[overview.GROUPS[group]]
        assert members == [
            name for name in library.names("methods") if library.load("uh", name, {}).method.paper.startswith(paper)
        ]


def test_a_group_that_is_none_is_named(tmp_path):
    path = tmp_path / "mine.toml"
    path.write_text('group = "tabel-3"\n')
    with pytest.raises(UsageError, match=r"mine\.toml: group = tabel-3: choose from table-3, .*; did you mean table-3\?"):
        library.load("uh", str(path), {})


def test_what_others_publish_is_as_the_notes_have_it(shared):
    """`methods-after.md`, some of it rounded to one decimal place."""
    rows, note = overview.published()
    published = {row.work.split(" (")[0]: (row.to_hmdb, row.to_ucf) for row in rows if row.features != "ResNet-101"} | {
        row.work.split(" (")[0]: (row.to_hmdb, row.to_ucf) for row in rows if row.work.startswith(("JAN", "AdaBN", "MCD"))
    }
    text = " ".join((shared.parent / "methods-after.md").read_text().split()).partition("Published by others on U-H")[2]
    listed = re.findall(r"([A-Z][A-Za-z0-9-]+) (\d\d\.\d+)/(\d\d\.\d+)", text)
    assert len(listed) == 10
    for work, *numbers in listed:
        ours = published[{"CleanAdapt": "CleanAdapt + TS"}.get(work, work)]
        for number, own in zip(numbers, ours, strict=True):
            assert own == pytest.approx(float(number), abs=0.06 if len(number) == 4 else 1e-9), work
    assert "target's labels" in note and all(row.source for row in rows)
