"""The HTML report in a real browser: what can be clicked, walked and read, and that it asks nothing of anyone."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from koda.report import render, template_folder
from koda.report.gallery_pages import pages
from tests.report import factory_looks

api = pytest.importorskip("playwright.sync_api")
axe = pytest.importorskip("axe_playwright_python.sync_playwright")
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
FOUND = next((path for name in BROWSERS if (path := shutil.which(name))), None)
pytestmark = pytest.mark.skipif(FOUND is None, reason="no Chromium is installed")


@pytest.fixture(scope="module")
def report(tmp_path_factory: pytest.TempPathFactory) -> str:
    record = factory_looks.record()
    made = render(record, factory_looks.thumbnails(record), tmp_path_factory.mktemp("browser"), pdf=False)
    return made.html.as_uri()


@pytest.fixture(scope="module")
def short(tmp_path_factory: pytest.TempPathFactory) -> str:
    """The report of a record with one thing of each kind; what looks at all elements takes seconds for a long one."""
    record = factory_looks.record(2, gallery=2, map_points=10)
    made = render(record, factory_looks.thumbnails(record), tmp_path_factory.mktemp("short"), pdf=False)
    return made.html.as_uri()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with api.sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=FOUND, args=["--no-sandbox"])
        yield started
        started.close()


@pytest.fixture
def page(browser: Any, report: str) -> Iterator[Any]:
    context = browser.new_context(viewport={"width": 1200, "height": 900}, reduced_motion="reduce")
    opened = context.new_page()
    opened.said = []
    opened.asked = []
    opened.on("console", lambda message: opened.said.append(message.text))
    opened.on("pageerror", lambda error: opened.said.append(str(error)))
    opened.on("request", lambda request: opened.asked.append(request.url))
    opened.goto(report)
    yield opened
    assert opened.said == []
    assert [url for url in opened.asked if not url.startswith("data:")] == [report]
    context.close()


@pytest.mark.parametrize(("width", "scheme"), [(1200, "light"), (360, "light"), (1200, "dark"), (360, "dark")])
def test_axe_finds_nothing_with_everything_open(browser: Any, short: str, width: int, scheme: str) -> None:
    context = browser.new_context(viewport={"width": width, "height": 800}, color_scheme=scheme)
    page = context.new_page()
    page.goto(short)
    page.evaluate("document.querySelectorAll('details').forEach(part => { part.open = true; })")
    assert page.evaluate("document.documentElement.scrollWidth") <= width
    options = {"resultTypes": ["violations"], "elementRef": False}
    found = axe.Axe().run(page, options=options).response["violations"]
    if (width, scheme) in ((1200, "light"), (360, "dark")):
        page.locator(".shot button").first.click()
        found += axe.Axe().run(page, context="#detail", options=options).response["violations"]
    assert [(v["id"], v["nodes"][0]["html"][:160]) for v in found] == []
    context.close()


def test_axe_finds_nothing_on_a_page_of_pictures(browser: Any, tmp_path: Path) -> None:
    record = factory_looks.record(2, gallery=4, map_points=0)
    drawn = dict(pages(record, factory_looks.thumbnails(record), record.findings[:1], template_folder()))
    (tmp_path / "gallery-lost-1.html").write_bytes(drawn["gallery-lost-1.html"])
    context = browser.new_context(viewport={"width": 360, "height": 800}, color_scheme="dark")
    page = context.new_page()
    page.goto((tmp_path / "gallery-lost-1.html").as_uri())
    assert page.evaluate("document.documentElement.scrollWidth") <= 360
    found = axe.Axe().run(page, options={"resultTypes": ["violations"], "elementRef": False}).response["violations"]
    assert [v["id"] for v in found] == []
    context.close()


def test_a_sample_opens_with_its_neighbours_and_gives_the_focus_back(page: Any) -> None:
    first = page.locator("#lost-1-positive .shot button").first
    first.focus()
    page.keyboard.press("Enter")
    dialog = page.locator("#detail")
    assert dialog.is_visible()
    key = dialog.locator("h2").inner_text()
    for said in ("A purple umbrella", "held out", "top of the ranking", "colour\u00a0purple"):
        assert said in dialog.inner_text()
    lists = dialog.locator(".near ol")
    assert [lists.nth(i).locator("li").count() for i in range(2)] == [5, 5]
    shared = dialog.locator(".near .both").count()
    assert shared % 2 == 0 and f"{shared // 2} are in both lists" in dialog.inner_text()
    assert dialog.locator(".near img").count() == 10  # of samples that no gallery shows
    page.keyboard.press("ArrowRight")
    assert dialog.locator("h2").inner_text() != key
    page.keyboard.press("ArrowLeft")
    assert dialog.locator("h2").inner_text() == key
    dialog.locator(".near li button").first.click()
    assert "Neighbour number" in dialog.inner_text()
    page.keyboard.press("Escape")
    assert dialog.is_hidden()
    assert first.evaluate("button => button === document.activeElement")


def test_search_and_filters_fold_away_what_does_not_fit(page: Any) -> None:
    shots, told = page.locator(".shot:visible"), page.locator("#found")
    total = page.locator(".shot").count()
    page.fill("#find", "PURPLE umbrella")
    assert 0 < shots.count() < total and told.inner_text().startswith("4 of 24 samples, in 1 of 3 findings")
    assert page.locator(".finding:visible").count() == 1
    page.fill("#find", "camera")  # metadata, that no caption says
    assert page.locator(".finding:visible").count() == 3
    assert page.locator(".refuted[open]").count() == 1  # what is found in a finding not confirmed is opened
    page.locator(".refuted").evaluate("part => { part.open = false; }")
    page.fill("#find", "nothing of the kind")
    assert shots.count() == 0 and page.locator(".finding:visible").count() == 0
    assert told.inner_text() == "Nothing found" and page.locator("#nothing").is_visible()
    page.click("#reset")
    assert page.locator(".finding:visible").count() == 3 and told.inner_text() == ""
    page.check("#confirmed")
    assert page.locator(".finding:visible").count() == 2
    assert not page.locator(".refuted[open]").count()
    page.check("#held")
    assert page.locator(".shot[data-split=discovery]:visible").count() == 0 < shots.count()
    page.click("#reset")
    page.select_option("#theme", "lost 1")
    assert page.locator(".finding:visible").count() == 1
    page.select_option("#side", "gained")
    assert page.locator(".finding:visible").count() == 0


def test_the_keys_that_are_copied_are_those_shown(page: Any) -> None:
    page.context.grant_permissions(["clipboard-read", "clipboard-write"])
    page.check("#held")
    button = page.locator("button[data-copy=lost-1-positive]")
    assert "of the 3 shown; all 46 are in slices.csv" in button.locator("..").inner_text()
    button.click()
    page.wait_for_function("text => document.querySelector('[data-copy]').textContent === text", arg="Copied")
    shown = page.locator("#lost-1-positive .shot:visible").evaluate_all("all => all.map(shot => shot.dataset.key)")
    assert page.evaluate("navigator.clipboard.readText()").split("\n") == shown and len(shown) == 3


def test_what_is_chosen_in_one_map_is_marked_in_both(page: Any) -> None:
    page.locator(".legend button").first.click()
    assert page.locator("#chosen").inner_text() == "4 samples marked in both maps"
    marks = page.locator(".map .picked").evaluate_all(
        "all => all.map(mark => mark.getAttribute('d').split('M').length)"
    )
    assert marks == [5, 5]
    assert page.locator(".chosen li").count() == 4
    page.click("[data-chosen=clear]")
    assert page.locator("#chosen").is_hidden()
    page.locator(".map").first.scroll_into_view_if_needed()
    box = page.locator(".map").first.bounding_box()
    x, y, w, h = (box[name] for name in ("x", "y", "width", "height"))
    page.mouse.move(x + 2, y + 2)
    page.mouse.down()
    for across, down in ((0.5, 0.01), (0.99, 0.01), (0.99, 0.5), (0.99, 0.99), (0.01, 0.99), (0.01, 0.01)):
        page.mouse.move(x + across * w, y + down * h)
    page.mouse.up()
    assert page.locator("#chosen").inner_text() == "84 samples marked in both maps; the first 60:"
    page.locator(".chosen li button").nth(1).click()
    assert page.locator("#detail").is_visible()


def test_a_number_of_a_confusion_leads_to_its_samples_by_mouse_and_keyboard(page: Any) -> None:
    lobe = page.locator(".lobe").first
    lobe.locator(".more summary").click()
    numbers, told, samples = lobe.locator(".shaded button"), lobe.locator("[role=status]"), lobe.locator(".chosen li")
    assert numbers.count() == 3  # of the cells whose samples the record shows
    numbers.nth(2).click()
    words = "Candidate: ViT-B-32 step 9000. purple taken for blue: 30 samples; 2 of them are in this report."
    assert told.inner_text() == words and samples.count() == 2
    numbers.nth(0).focus()
    page.keyboard.press("Enter")
    assert "purple taken for purple: 45 samples; 3 of them" in told.inner_text() and samples.count() == 3
    assert lobe.locator("[aria-pressed=true]").count() == 1
    samples.nth(1).locator("button").click()
    assert page.locator("#detail").is_visible() and "A purple umbrella" in page.locator("#detail").inner_text()
    page.keyboard.press("ArrowRight")
    page.keyboard.press("Escape")
    numbers.nth(0).click()
    assert told.is_hidden()


def test_a_map_is_walked_with_the_arrow_keys(page: Any) -> None:
    spots = page.locator(".map .spot")
    page.locator(".map").nth(1).focus()
    page.keyboard.press("ArrowRight")
    first = page.locator(".pointed").inner_text()
    assert all(spots.nth(i).get_attribute("d") for i in range(2)) and first
    page.keyboard.press("ArrowDown")
    assert page.locator(".pointed").inner_text() != first
    page.keyboard.press("ArrowLeft")
    assert page.locator(".pointed").inner_text() == first
    page.keyboard.press("Enter")
    assert first.split("\n")[0] in page.locator("#detail h2").inner_text()


def test_contents_say_where_one_is_and_open_what_is_folded(page: Any) -> None:
    assert not page.locator("details.fold[open]").count()
    page.locator(".sidebar a[href='#data']").click()
    page.wait_for_function("() => document.querySelector('#data').parentNode.querySelector('details').open")
    page.wait_for_function("() => document.querySelector('.sidebar [aria-current]').hash === '#data'")
    page.set_viewport_size({"width": 360, "height": 740})
    assert page.locator(".sidebar").is_hidden()
    page.click(".menu")
    assert page.locator(".menu").get_attribute("aria-expanded") == "true"
    page.locator(".sidebar a[href='#lost-1']").click()
    assert page.locator(".sidebar").is_hidden()
    assert page.evaluate("document.querySelector('#lost-1').getBoundingClientRect().top") < 300


def test_every_tab_stop_has_a_name_and_the_keyboard_comes_to_the_end(page: Any) -> None:
    seen: list[str] = []
    for _ in range(400):
        page.keyboard.press("Tab")
        name = page.evaluate(
            "() => { const e = document.activeElement; return e === document.body ? null : e.getAttribute('aria-label')"
            " || e.textContent.trim() || (e.labels && e.labels[0] && e.labels[0].textContent.trim())"
            " || (e.querySelector('[alt], [aria-label]') || { getAttribute: () => '' }).getAttribute('aria-label')"
            " || (e.querySelector('[alt]') || { alt: '' }).alt }"
        )
        if name is None:
            break
        assert name, page.evaluate("document.activeElement.outerHTML.slice(0, 200)")
        seen.append(name)
    assert any("Skip" in name for name in seen) and any(name.startswith("Map under") for name in seen)
    assert len(seen) < 399


def test_print_is_light_wide_and_open_and_the_script_is_not_needed(browser: Any, report: str, page: Any) -> None:
    page.emulate_media(media="print", color_scheme="dark")
    assert page.evaluate("getComputedStyle(document.body).backgroundColor") == "rgb(255, 255, 255)"
    page.evaluate("dispatchEvent(new Event('beforeprint'))")
    assert page.locator("details:not([open])").count() == 0
    page.evaluate("dispatchEvent(new Event('afterprint'))")
    assert page.locator("details.fold[open]").count() == 0
    context = browser.new_context(java_script_enabled=False, viewport={"width": 360, "height": 740})
    plain = context.new_page()
    plain.goto(report)
    for part in (".contents", "#findings", ".shot img", ".map svg"):
        assert plain.locator(part).first.is_visible(), part
    assert plain.locator(".tools, .menu, dialog, button").locator("visible=true").count() == 0
    context.close()
