"""The report as a reader meets it: in Chromium, in both themes, at a desk's width and a phone's."""

import csv
import re

import pytest
from cia_adapt.results.report import page as pages
from cia_adapt.runs import files

from tests.adapt.results.report.run_folders import write_runs
from tests.browser import HOSTILE, LOOKS, opened, serious


@pytest.fixture(scope="module")
def report(tmp_path_factory):
    """Of 12 runs whose classes and clips have hostile names, one of them damaged."""
    root = tmp_path_factory.mktemp("report")
    clips = [f"{name} {i}" for i in range(2) for name in HOSTILE]
    folders = write_runs(root / "runs", classes={"label": HOSTILE}, clips=clips)
    (folders[-1] / "metrics.jsonl").write_text("{")
    out = root / "report.html"
    pages.write(files.find([root / "runs"]), out, pages.Wanted(), lambda line: None)
    return out


@LOOKS
def test_every_figure_is_drawn_and_axe_finds_nothing_serious(chromium, report, scheme, size):
    with opened(chromium, report, scheme, size) as page:
        figures = page.locator("figure").all()
        assert len(figures) >= 10
        for figure in figures:
            drawing = figure.locator(".drawing[role=img], img").first
            box = drawing.bounding_box()
            assert box["width"] > 200 and box["height"] > 60
            assert len(drawing.get_attribute("aria-label") or drawing.get_attribute("alt")) > 30
            if figure.locator(".drawing").count():
                assert figure.locator("svg").bounding_box()["height"] > 40 and figure.locator("svg path").count() > 5
        assert page.locator("#differences svg line[stroke-dasharray]").count() == 1  # no difference
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        for summary in [*page.locator("details:not(.numbers) > summary").all(), page.locator("#accuracy summary")]:
            summary.click()
        assert serious(page) == []


def test_colours_follow_the_theme_and_paper_is_white(chromium, report):
    ink, paper = (
        "getComputedStyle(document.querySelector('figure svg text')).fill",
        "getComputedStyle(document.body).backgroundColor",
    )
    with opened(chromium, report, "light") as page:
        light = page.evaluate(ink), page.evaluate(paper)
    with opened(chromium, report, "dark") as page:
        dark = page.evaluate(ink), page.evaluate(paper)
        assert light[0] != dark[0] and light[1] != dark[1]
        page.emulate_media(media="print")
        assert (page.evaluate(ink), page.evaluate(paper)) == light


def test_the_table_sorts_by_numbers_and_by_text(chromium, report):
    with opened(chromium, report) as page:
        table = page.locator("#results")

        def column(number):
            return table.locator(f"tbody td:nth-child({number})").all_inner_texts()

        table.get_by_role("button", name="selected").click()
        values = [float(re.match(r"[\d.]+", text)[0]) for text in column(3)]
        assert values == sorted(values, reverse=True) and len(set(values)) > 2
        table.get_by_role("button", name="selected").click()
        assert [float(re.match(r"[\d.]+", text)[0]) for text in column(3)] == sorted(values)
        assert table.locator("th[aria-sort=ascending]").inner_text().startswith("selected")
        table.get_by_role("button", name="method").press("Enter")
        assert column(2) == sorted(column(2))


def test_hover_shows_what_a_point_stands_for(chromium, report):
    with opened(chromium, report) as page:
        point = page.locator("#accuracy svg .mark-symbol path").first
        point.scroll_into_view_if_needed()
        point.hover()
        tip = page.locator("#vg-tooltip-element.visible")
        tip.wait_for()
        assert "method" in tip.inner_text() and "accuracy" in tip.inner_text()


def test_menus_choose_what_is_drawn_and_listed(chromium, report):
    with opened(chromium, report) as page:
        section = page.locator("section", has=page.locator("#confusion"))
        drawn = section.locator("#confusion svg").inner_html()
        section.locator("#confusion summary").click()
        listed = section.locator("#confusion .numbers table").inner_text()
        section.get_by_label("method").select_option("source-only")
        page.wait_for_timeout(300)
        assert section.locator("#confusion svg").inner_html() != drawn
        assert section.locator("#confusion .numbers table").inner_text() != listed


def test_a_keyboard_reaches_everything(chromium, report):
    reachable = (
        "[...document.querySelectorAll('a[href], button, select, summary, [tabindex=\"0\"]')].filter(e => e.checkVisibility())"
    )
    with opened(chromium, report) as page:
        page.evaluate(f"{reachable}.forEach((e, i) => e.dataset.number = i)")
        count = page.evaluate(f"{reachable}.length")
        reached = set()
        for _ in range(count + 5):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.dataset.number"))
        assert {str(i) for i in range(count)} <= reached


def test_names_are_text(chromium, report):
    with opened(chromium, report) as page:
        for details in page.locator("details > summary").all():
            details.click()
        text = page.locator("main").inner_text()
        for name in HOSTILE[:-1]:
            assert f"{name} 0" in text, name
        assert "a\\u202eb" in text and "\u202e" not in page.content()
        assert page.locator("img[src=x]").count() == 0
        axis = page.locator("#classes svg").text_content()
        assert "שלום" in axis and "👋🏽 wave" in axis


def test_every_number_can_be_saved(chromium, report, tmp_path):
    with opened(chromium, report) as page:
        assert page.locator("[data-csv]").count() >= page.locator("table").count() + page.locator("figure.chart").count()
        page.locator("#classes summary").click()
        with page.expect_download() as download:
            page.locator("#classes [data-csv]").click()
        download.value.save_as(tmp_path / "classes.csv")
    assert download.value.suggested_filename == "classes.csv"
    with (tmp_path / "classes.csv").open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert {row["class"] for row in rows} == {*HOSTILE[:4], "'=1+1", HOSTILE[5], "a\\u202eb"}
    assert len(rows) == 3 * 2 * len(HOSTILE) and all(0 <= float(row["accuracy"]) <= 100 for row in rows)


def test_what_is_left_out_is_named(chromium, report):
    with opened(chromium, report) as page:
        assert "seed1/metrics.jsonl" in page.locator(".left-out").all_inner_texts()[0]
        assert "11 runs" in page.locator("h1").inner_text()
