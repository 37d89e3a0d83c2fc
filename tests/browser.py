"""Pages of ours in a real browser: Chromium of the distribution, without a network."""

import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

PHONE = {"width": 390, "height": 844}
DESK = {"width": 1200, "height": 900}
# How a page is looked at. The quick suite has each colour scheme and each size, not all four pairs.
LOOKS = pytest.mark.parametrize(
    ("scheme", "size"),
    [
        pytest.param("light", DESK, id="light-desk"),
        pytest.param("dark", PHONE, id="dark-phone"),
        pytest.param("light", PHONE, id="light-phone", marks=pytest.mark.slow),
        pytest.param("dark", DESK, id="dark-desk", marks=pytest.mark.slow),
    ],
)
# Names of clips and classes that must appear as text.
HOSTILE = ("<img src=x onerror=alert(1)>", "\"quoted\" & 'single'", "👋🏽 wave", "שלום עולם", "=1+1", "</script><b>", "a\u202eb")


@pytest.fixture(scope="session")
def chromium() -> Iterator[Any]:
    """A browser; tests that want it skip where there is none."""
    sync_api = pytest.importorskip("playwright.sync_api", reason="no playwright: pip install playwright axe-playwright-python")
    program = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
    if program is None:
        pytest.skip("no Chromium: apt-get install chromium")
    with sync_api.sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=program)
        yield browser
        browser.close()


@contextmanager
def opened(browser: Any, path: Path, scheme: str = "light", size: dict[str, int] = DESK) -> Iterator[Any]:
    """The page in `path`, once its charts are drawn. Fails where it logs an error or asks for anything outside itself."""
    context = browser.new_context(color_scheme=scheme, viewport=size, offline=True, accept_downloads=True)
    page = context.new_page()
    wrong: list[str] = []
    page.on("console", lambda message: wrong.append(message.text) if message.type == "error" else None)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    page.on("dialog", lambda dialog: (wrong.append(f"dialog: {dialog.message}"), dialog.dismiss()))
    page.on("request", lambda request: wrong.append(request.url) if _leaves(request.url, path) else None)
    page.goto(path.as_uri())
    if page.locator("script").count():
        page.wait_for_selector("html[data-ready=yes]", state="attached", timeout=120_000)
    yield page
    context.close()
    assert not wrong, wrong


def _leaves(url: str, path: Path) -> bool:
    return not url.startswith((path.as_uri(), "data:", "blob:"))


def serious(page: Any) -> list[str]:
    """What axe finds that is serious or critical, a line each."""
    from axe_playwright_python.sync_playwright import Axe

    violations = Axe().run(page).response["violations"]
    return [
        f"{violation['id']}: {node['html'][:200]} {node.get('failureSummary', '')[:300]}"
        for violation in violations
        if violation["impact"] in ("serious", "critical")
        for node in violation["nodes"][:3]
    ]
