"""Both pages in Chromium, in both themes, at a desk's width and a phone's, with hostile names."""

import numpy as np
import pytest
from cia_extract import recipes
from cia_extract.datasets import check
from cia_extract.pages import overview, preview
from PIL import Image

from tests.browser import HOSTILE, LOOKS, PHONE, opened, serious
from tests.extract.clips.test_audio import write_video
from tests.extract.pages.test_overview import write_file

SEEN = [name for name in HOSTILE if "\u202e" not in name]  # the last one reverses what follows it, and is shown as \u202e


@pytest.fixture(scope="module")
def pages(tmp_path_factory):
    """{kind: its page} of clips and classes with hostile names."""
    root = tmp_path_factory.mktemp("pages")
    names = [f"{name} {i}" for i in range(2) for name in HOSTILE][:12]
    overview.write(write_file(root / "<b>feats & 'co'.h5", labels=HOSTILE, names=names), root / "overview.html", print)
    write_video(root / "a.mkv", 0.3 * np.sin(np.arange(48_000) * 0.3), seconds=2)
    (root / "b").mkdir()
    for t in range(8):
        Image.new("RGB", (320, 256), (t, t, t)).save(root / f"b/{t}.png")
    rows = [{"clip": n, "path": "b" if i else "a.mkv", "label": n, "split": "val"} for i, n in enumerate(HOSTILE)]
    rows.append({"clip": "<i>lost", "path": "lost.mp4", "label": "x", "split": "val"})
    recipe = recipes.load("kinetics", {"sampling.frames": 3, "flow.algorithm": "dis"})
    manifest = check("m", rows)
    preview.write(root / "preview.html", manifest, range(len(rows)), root, recipe, ("rgb", "flow", "audio"), print)
    return {kind: root / f"{kind}.html" for kind in ("overview", "preview")}


@LOOKS
@pytest.mark.parametrize("kind", ["overview", "preview"])
def test_a_page_opens_fits_and_axe_finds_nothing_serious(chromium, pages, kind, scheme, size):
    with opened(chromium, pages[kind], scheme, size) as page:
        assert page.evaluate("document.documentElement.scrollWidth") <= size["width"]
        assert serious(page) == []
        dark = page.evaluate("getComputedStyle(document.body).backgroundColor") != "rgb(255, 255, 255)"
        assert dark == (scheme == "dark")
        for image in page.locator("img").all():
            box = image.bounding_box()
            assert box["width"] >= 90 and box["height"] >= 90 and len(image.get_attribute("alt")) > 15
            assert image.evaluate("image => image.complete && image.naturalWidth > 0")
        assert page.locator("img").count() == 0 or kind == "preview"


@pytest.mark.parametrize("kind", ["overview", "preview"])
def test_names_are_text(chromium, pages, kind):
    with opened(chromium, pages[kind]) as page:
        text = page.locator("main").inner_text()
        for name in SEEN:
            assert name in text, name
        assert "a\\u202eb" in text and "\u202e" not in page.content()
        assert page.locator("main b, main i:not(.bars i), img[src=x], main script").count() == 0
    assert "<b>feats & 'co'.h5" in text or "<i>lost: " in text


def test_the_key_shows_red_for_motion_to_the_right_and_bars_lie_under_the_sound(chromium, pages):
    with opened(chromium, pages["preview"]) as page:
        assert page.locator(".key img").first.get_attribute("alt").startswith("Key of the colours: red is motion to the right")
        track = page.locator(".track img").bounding_box()
        bars = [bar.bounding_box() for bar in page.locator(".track .bars i").all()]
        assert len(bars) == 3
        for bar in bars:
            assert track["x"] - 2 <= bar["x"] and bar["x"] + bar["width"] <= track["x"] + track["width"] + 2
            assert bar["width"] > 20 and bar["y"] > track["y"] + track["height"] - 2


def test_a_keyboard_reaches_the_tables_that_scroll(chromium, pages):
    with opened(chromium, pages["overview"], size=PHONE) as page:
        regions = page.locator("[tabindex='0']").count()
        reached = set()
        for _ in range(regions):
            page.keyboard.press("Tab")
            reached.add(page.evaluate("document.activeElement.getAttribute('aria-label')"))
        assert len(reached) == regions > 4


def test_paper_is_white_in_a_dark_theme(chromium, pages):
    with opened(chromium, pages["overview"], "dark") as page:
        page.emulate_media(media="print")
        assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
