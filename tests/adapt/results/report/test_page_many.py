"""A report of one run, of two labels, and of five hundred runs."""

import time
from html import unescape

import pytest
from cia_adapt.results.report import page
from cia_adapt.results.report.html import rendering
from cia_adapt.runs import files

from tests.adapt.results.report.run_folders import write_runs
from tests.browser import opened


def report(root, out, **wanted):
    said: list[str] = []
    page.write(files.find([root]), out, page.Wanted(**wanted), said.append)
    return out.read_text(encoding="utf-8"), said


def test_one_run_makes_a_page_without_comparisons(tmp_path):
    write_runs(tmp_path / "runs", ["cia"], [("ucf", "hmdb")], seeds=1)
    html, _ = report(tmp_path / "runs", tmp_path / "report.html")
    assert "1 run: 1 method, 1 direction of domains, 1 seed each" in html
    assert "Paired differences" not in html and "Clips that changed" not in html and "Change against" not in html
    assert "Layout of table 3" in html and "90.56" in html


def test_published_numbers_are_called_the_papers_or_another_papers(tmp_path):
    """JAN is not in the paper: its 74.72 are quoted by TranSVAE."""
    write_runs(tmp_path / "runs", ["concat", "jan"], [("ucf", "hmdb")], seeds=1)
    text = " ".join(unescape(report(tmp_path / "runs", tmp_path / "report.html")[0]).split())
    assert "86.11" in text and "74.72" in text and "not in the paper's table" in text
    assert text.count("or another paper's where the paper lacks the method") == 2  # below our numbers and below table 3
    assert "numbers are the paper's" not in text and "the paper's own numbers" not in text


def test_two_labels_have_verbs_nouns_and_actions(tmp_path):
    classes = {"label": ("open", "close"), "noun": ("door", "tap", "lid")}
    write_runs(tmp_path / "runs", ["source-only", "avg", "sc-1"], [("a", "b")], classes=classes)
    html, said = report(tmp_path / "runs", tmp_path / "report.html")
    assert "Accuracy by label" in html and "action, top-5" in html and "Layout of table 2" in html and "29.70" in html
    assert not [line for line in said if "feats.h5" not in line]


def test_a_long_table_shows_its_first_rows_and_its_csv_has_all(tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "MOST_ROWS", 7)
    write_runs(tmp_path / "runs", ["concat", "cia"], seeds=4)
    html, _ = report(tmp_path / "runs", tmp_path / "report.html")
    table = html.split('id="uh-runs"' if 'id="uh-runs"' in html else 'id="runs"')[1].split("</details>")[0]
    assert table.count("<tr>") == 1 + 7 and "The first 7 rows of 16; the CSV file has all." in table
    assert '"seed":[0,1,2,3,0,1,2,3,0,1,2,3,0,1,2,3]' in table


def test_runs_of_two_set_ups_stand_apart(tmp_path):
    for setup in ("uh", "demo"):
        write_runs(tmp_path / "runs", ["cia", "concat"], setup=setup, seeds=1)
    html, _ = report(tmp_path / "runs", tmp_path / "report.html")
    assert html.count('id="uh-results"') == html.count('id="demo-results"') == 1
    names = [part.split('"')[0] for part in html.split(' id="')[1:]]
    assert len(names) == len(set(names))


@pytest.mark.slow
def test_five_hundred_runs_take_half_a_minute_and_ten_megabytes(tmp_path, chromium):
    methods = ["source-only", "concat", "cia", *(f"cia-variant-{i}" for i in range(47))]
    classes = {"label": [f"class {i}" for i in range(12)]}
    write_runs(tmp_path / "runs", methods, seeds=5, classes=classes, clips=[f"clip {i:04d}" for i in range(500)], epochs=50)
    began = time.process_time()  # the machine may be busy with something else
    html, said = report(tmp_path / "runs", tmp_path / "report.html")
    assert time.process_time() - began < 30
    assert len(html.encode()) < 10e6 and "500 runs" in html
    assert not [line for line in said if "feats.h5" not in line]
    with opened(chromium, tmp_path / "report.html") as shown:
        menu = shown.locator("section", has=shown.locator("#class-loss")).get_by_label("method")
        assert len(menu.locator("option").all()) == 50
