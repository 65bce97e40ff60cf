"""The page of a sweep and the crosswalk in a real browser: no fault for axe-core, no request, nothing too wide."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from koda.audit.crosswalk import read_crosswalk
from koda.report import render
from koda.report.sweep import render_sweep
from tests.report.page import small
from tests.report.test_sweep import broken, ran, record_of

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))), None)
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        opened = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield opened
        opened.close()


@pytest.fixture(scope="module")
def pages(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("pages")
    cells = [ran("old", "mid", "pass"), ran("old", "new", "fail"), broken("new", "old"), ran("mid", "new", "warn")]
    (folder / "sweep.html").write_bytes(render_sweep(record_of(*cells)))
    record = small().model_copy(update={"crosswalk": read_crosswalk()})
    return {"sweep": folder / "sweep.html", "crosswalk": render(record, {}, folder, pdf=False).html}


@pytest.mark.parametrize("name", ["sweep", "crosswalk"])
@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_a_browser_finds_no_fault(browser: Any, pages: dict[str, Path], name: str, width: int, scheme: str) -> None:
    part = {"include": [["section[aria-labelledby=crosswalk]"]]} if name == "crosswalk" else None
    context = browser.new_context(viewport={"width": width, "height": 900}, color_scheme=scheme)
    page, said, asked = context.new_page(), list[str](), list[str]()
    page.on("console", lambda message: said.append(message.text))
    page.on("request", lambda request: asked.append(request.url))
    page.goto(pages[name].as_uri())
    found = axe.Axe().run(page, context=part)
    assert found.response["passes"] and [fault["id"] for fault in found.response["violations"]] == []
    assert (said, [url for url in asked if not url.startswith("data:")]) == ([], [pages[name].as_uri()])
    tables = page.locator("table.pairs, table.crosswalk")
    assert tables.count() > 0
    over = tables.evaluate_all("all => all.map(t => t.scrollWidth - t.closest('.wide').clientWidth)")
    assert max(over) <= 1, "a reader has to scroll sideways"
    if name == "sweep":
        assert page.locator("main").bounding_box()["x"] < 50, "the place of a sidebar that there is none of"
    context.close()


def test_a_narrow_screen_names_the_column_of_each_cell(browser: Any, pages: dict[str, Path]) -> None:
    page = browser.new_page(viewport={"width": 360, "height": 900})
    page.goto(pages["sweep"].as_uri())
    shown = page.locator("table.pairs td[data-column=old]").first.evaluate(
        "cell => getComputedStyle(cell, '::before').content"
    )
    assert shown == '"old"'
    page.close()
