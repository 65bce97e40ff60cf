"""The page over all audits as its readers use it, in a headless Chromium."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from koda.audit.annotations import Statement
from koda.audit.redrawing import annotate
from koda.site import build_site
from tests.audit.published import put, small_record

sync_api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def index(tmp_path_factory: pytest.TempPathFactory) -> Path:
    home = tmp_path_factory.mktemp("home")
    for number in range(4):
        record = small_record(id=f"audit-{number}", title=f"Audit {number}")
        changes: dict[str, Any] = {"ended": record.ended.replace(day=1 + number, year=2025)}
        label = {"label": f"epoch {number}" if number else "<script>alert(1)</script>"}
        changes["candidate"] = record.candidate.model_copy(update=label)
        if number == 3:
            changes["data"] = record.data.model_copy(update={"digest": "0" * 64})
            changes["verdict"] = record.verdict.model_copy(update={"status": "pass"})
        put(home, record.model_copy(update=changes))
    annotate(home, "audit-1", Statement("approved", "Ada"))
    other = small_record(id="audit-9")
    put(home, other.model_copy(update={"data": other.data.model_copy(update={"name": "products"})}))
    (home / "audits" / "audit-2" / "slices.csv").write_text("x", encoding="utf-8")
    return build_site(home).index


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with sync_api.sync_playwright() as playwright:
        made = playwright.chromium.launch(executable_path=CHROMIUM, args=["--no-sandbox"])
        yield made
        made.close()


class Visit:
    """A page that is open, with what its console and its network said."""

    def __init__(
        self, browser: Any, index: Path, width: int = 1200, scheme: str = "light", scripts: bool = True
    ) -> None:
        self.context = browser.new_context(
            viewport={"width": width, "height": 900}, color_scheme=scheme, java_script_enabled=scripts
        )
        self.page = self.context.new_page()
        self.said: list[str] = []
        self.asked: list[str] = []
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(index.as_uri())

    def shown(self) -> list[str]:
        return [
            name.inner_text()
            for name in self.page.query_selector_all(".audits tbody th bdi:first-child")
            if name.is_visible() and name.evaluate("e => !e.closest('.under')")
        ]


@pytest.fixture
def visit(browser: Any, index: Path) -> Iterator[Visit]:
    made = Visit(browser, index)
    yield made
    assert made.said == [] and made.asked == [index.as_uri()]
    made.context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "dark")])
def test_axe_finds_nothing_and_nothing_scrolls_sideways(browser: Any, index: Path, width: int, scheme: str) -> None:
    visit = Visit(browser, index, width, scheme)
    visit.page.click(".trends summary")
    visit.page.click("#lines details summary")
    visit.page.wait_for_selector("#lines table")
    found = axe.Axe().run(visit.page)
    assert [item["id"] for item in found.response["violations"]] == []
    assert visit.page.evaluate("document.documentElement.scrollWidth") == width
    assert visit.said == []
    visit.context.close()


def test_search_filters_and_sorting(visit: Visit) -> None:
    page = visit.page
    newest = ["ViT-B-32 step 9000", "epoch 3", "epoch 2", "epoch 1", "<script>alert(1)</script>"]
    assert visit.shown() == newest
    page.fill("#find", "ada APPROVED")
    assert visit.shown() == ["epoch 1"]
    assert page.inner_text("#told") == "1 of 5 audits"
    page.fill("#find", "nobody of that name")
    assert visit.shown() == [] and page.is_visible("#none")
    page.click("button[type=reset]")
    page.wait_for_function("() => document.getElementById('told').textContent === '5 audits'")
    page.select_option("#verdict", "damaged")
    assert visit.shown() == ["epoch 2"]
    page.select_option("#verdict", "pass")
    assert visit.shown() == ["epoch 3"]
    page.select_option("#verdict", "")
    page.select_option("#dataset", "products")
    assert visit.shown() == newest[:1]
    page.select_option("#dataset", "")
    page.fill("#since", "2025-11-03")
    assert visit.shown() == newest[:3]
    page.fill("#since", "")
    page.click("th[data-sort=candidate] button")
    assert visit.shown()[0] == "<script>alert(1)</script>"
    assert page.get_attribute("th[data-sort=candidate]", "aria-sort") == "ascending"
    page.press("th[data-sort=candidate] button", "Enter")
    assert visit.shown()[-1] == "<script>alert(1)</script>"
    page.click("th[data-sort=verdict] button")
    assert visit.shown()[-1] == "epoch 3"


def test_the_trend_follows_the_filters_and_breaks_where_the_data_changed(visit: Visit) -> None:
    page = visit.page
    page.focus(".trends summary")
    page.keyboard.press("Enter")
    page.wait_for_selector("#lines .line svg[role=img]")
    assert page.locator("#lines .line svg[role=img]").count() == 2
    assert page.locator("#lines .break").count() == 1
    assert "changed: data" in page.locator("#lines .break title").text_content()
    page.click("#lines details summary")
    page.wait_for_selector("#lines table")
    cells = page.locator("#lines table tbody tr").nth(3).locator("td").all_inner_texts()
    assert cells == ["2025-11-04 02:11", "epoch 3", "0.81\u00a0%", "0.73\u00a0% to 0.90\u00a0%", "pass", "data"]
    page.select_option("#verdict", "pass")
    assert page.locator("#lines .line svg[role=img]").count() == 1
    page.select_option("#figure", "rejections.count")
    assert "the first 17" in page.get_attribute("#lines .line svg[role=img]", "aria-label")


@pytest.mark.parametrize(
    ("values", "axis", "value", "interval"),
    [
        ([0.00299, 0.003, 0.00301], ["0.299\u00a0%", "0.300\u00a0%", "0.301\u00a0%"], "0.30\u00a0%", "–"),
        ([0.0, 0.00002, 0.000041], ["0.000\u00a0%", "0.002\u00a0%", "0.004\u00a0%"], "0.0041\u00a0%", "–"),
        (
            [0.5, 0.0995, 0.1005],
            ["0\u00a0%", "25\u00a0%", "50\u00a0%"],
            "10.1\u00a0%",
            "9.5\u00a0% to 10.2\u00a0%",
        ),
    ],
)
def test_figures_have_the_decimals_that_tell_them_apart(
    browser: Any, index: Path, tmp_path: Path, values: list[float], axis: list[str], value: str, interval: str
) -> None:
    text = index.read_text(encoding="utf-8")
    start = text.index(">", text.index('id="data"')) + 1
    end = text.index("</script>", start)
    data = json.loads(text[start:end])
    data["figures"], data["units"] = ["lost.max_share"], {"lost.max_share": "%"}
    audits = sorted((audit for audit in data["audits"] if audit), key=lambda audit: audit[3])
    for place, audit in enumerate(audits):
        audit[4] = [[values[place], None, None] if place < len(values) else 0]
    if interval != "–":
        audits[len(values) - 1][4] = [[values[-1], 0.095, 0.102]]
    (tmp_path / "index.html").write_text(text[:start] + json.dumps(data) + text[end:], encoding="utf-8")
    visit = Visit(browser, tmp_path / "index.html")
    visit.page.click(".trends summary")
    visit.page.click("#lines details summary")
    labels = visit.page.locator("#lines svg[role=img]").first.locator("text[x='50']").all_text_contents()
    cells = visit.page.locator("#lines table").first.locator("tbody tr").last.locator("td").all_inner_texts()
    assert (labels, cells[2:4], visit.said) == (axis, [value, interval], [])
    visit.context.close()


def test_it_can_be_read_without_its_script(browser: Any, index: Path) -> None:
    visit = Visit(browser, index, scripts=False)
    assert len(visit.page.query_selector_all(".audits tbody tr")) == 5
    assert not visit.page.is_visible(".filters") and not visit.page.is_visible(".trends")
    visit.context.close()
