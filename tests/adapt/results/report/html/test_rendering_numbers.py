"""What the page's script is given: numbers and names that cannot end the script, or act as a formula."""

import json

import pandas as pd
from cia_adapt.results.report.html.rendering import as_json, columns
from cia_adapt.results.report.section import Figure, Section, Table

HOSTILE = "</script><script>alert(1)</script><!--"


def test_json_in_a_script_cannot_end_it():
    text = as_json({"name": HOSTILE, "line": "\u2028"})
    assert "<" not in text and ">" not in text and "\u2028" not in text
    assert json.loads(text) == {"name": HOSTILE, "line": "\u2028"}


def test_columns_keep_every_cell():
    table = pd.DataFrame({"name": ["a", "b", "a", "a", "b", "a\x1b", "a"], "x": [1.23456, None, 3, 4, 5, 6, 7], "n": range(7)})
    kept = columns(table)
    assert [kept["name"]["values"][i] for i in kept["name"]["at"]] == ["a", "b", "a", "a", "b", "a\\x1b", "a"]
    assert kept["x"] == [1.2346, None, 3, 4, 5, 6, 7] and kept["n"] == list(range(7))


def test_a_page_without_charts_needs_no_library():
    from cia_adapt.results.report.html import Page, render

    section = Section("Only words", ["one & two"], tables=[Table("t", "T", pd.DataFrame({"a": [HOSTILE]}))])
    html = render(Page("A page", {"uh": [section]}, ["what <is> missing"]))
    assert len(html) < 30_000 and "one &amp; two" in html and "what &lt;is&gt; missing" in html
    assert "alert(1)</script>" not in html
    drawn = Section("One chart", figures=[Figure("f", "F", "a chart", chart={"mark": "bar"}, numbers=pd.DataFrame({"a": [1]}))])
    assert len(render(Page("A page", {"uh": [drawn]}))) > 300_000
