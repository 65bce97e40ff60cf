"""`koda verify` draws the HTML again: each change of a word fails, and what cannot be compared is said to be so."""

from __future__ import annotations

import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from koda.audit.annotations import Statement
from koda.audit.folders import MANIFEST, replace_files
from koda.audit.redrawing import annotate, redraw
from koda.evidence.printed import check_reports
from koda.evidence.redrawn import DRAWN, check_drawn
from koda.evidence.result import Evidence
from koda.records import AuditRecord
from koda.report import page_software
from koda.report.gallery_pages import fitted
from koda.report.own_pictures import own_gallery
from koda.report.render import draw_page
from tests.audit.published import put, small_record
from tests.report import factory, factory_alignment, factory_looks

RECORD = small_record()
RICH = factory_looks.record(2, gallery=8, map_points=40)
PAGE = "report.html"


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return put(tmp_path_factory.mktemp("made"), RECORD, paged=True).parents[1]


@pytest.fixture(scope="module")
def mapped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An audit whose report has a map with pictures."""
    folder, page = put(tmp_path_factory.mktemp("mapped"), RICH, paged=True), tmp_path_factory.mktemp("drawn") / PAGE
    pictures = factory_looks.thumbnails(RICH)
    page.write_bytes(fitted(RICH, pictures, lambda some: draw_page(RICH, some, with_pdf=False))[0])
    replace_files(folder, {PAGE: page})
    assert told(alone(folder))[PAGE, DRAWN].state == "verified"
    return folder.parents[1]


@pytest.fixture
def folder(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(made, tmp_path / "home")) / "audits" / RECORD.id


def told(folder: Path, home: Path | None = None) -> dict[tuple[str, str], Evidence]:
    record = AuditRecord.from_json((folder / "audit.json").read_bytes())
    return {(check.name, check.what): check for check in check_drawn(folder, record, home)}


def alone(folder: Path) -> Path:
    """Copy a folder to where no pictures are stored."""
    return Path(shutil.copytree(folder, folder.parents[2] / "alone"))


def write(folder: Path, name: str, old: str, new: str) -> None:
    """Change a page, and list it as it is then, as someone would who wants it to pass."""
    page = (folder / name).read_text(encoding="utf-8")
    assert old in page
    changed = folder.parent / "changed"
    changed.write_text(page.replace(old, new, 1), encoding="utf-8")
    replace_files(folder, {name: changed})


def test_a_report_and_its_pages_are_what_the_record_gives(folder: Path) -> None:
    checks = told(folder)
    assert {name for name, _ in checks} == {PAGE, "gallery-lost-1.html", "gallery-lost-2.html"}
    assert {check.state for check in checks.values()} == {"verified"} and len(checks) == 3


@pytest.mark.parametrize("name", [PAGE, "gallery-lost-2.html"])
@pytest.mark.parametrize("is_alone", [False, True])
def test_a_changed_word_fails_and_both_readings_are_given(folder: Path, name: str, is_alone: bool) -> None:
    place = alone(folder) if is_alone else folder
    write(place, name, "colour", "color")
    check = told(place)[name, DRAWN]
    assert check.state == "FAILED" and "color" in check.why and "colour" in check.why and "in line " in check.why


@pytest.mark.parametrize("is_alone", [False, True])
def test_an_added_script_and_a_cut_end_fail(folder: Path, is_alone: bool) -> None:
    place = alone(folder) if is_alone else folder
    write(place, PAGE, "</body>", "<script>1</script></body>")
    assert told(place)[PAGE, DRAWN].state == "FAILED"
    write(place, PAGE, "<script>1</script></body>\n</html>", "")
    assert "nothing more" in told(place)[PAGE, DRAWN].why
    write(place, PAGE, '<script type="application/json" id="known">', "<b>")
    assert told(place)[PAGE, DRAWN].state == "FAILED"


@pytest.mark.parametrize("is_alone", [False, True])
@pytest.mark.parametrize(
    ("name", "old", "new"),
    [
        (PAGE, 'id="known">', 'id="known">' + 200_000 * "["),
        (PAGE, '"tiles":{', '"tiles":{"0":[1],'),
        (PAGE, '"columns":', '"columns":0,"of":'),
        (PAGE, "</main>", "<![x y></main>"),
        (PAGE, "data:image/jpeg;base64,", "https://example.org/"),
        ("gallery-lost-2.html", "</main>", "<![x y></main>"),
    ],
)
def test_what_stops_a_parser_or_is_no_picture_is_no_way_around_the_comparison(
    mapped: Path, tmp_path: Path, name: str, old: str, new: str, is_alone: bool
) -> None:
    folder = Path(shutil.copytree(mapped, tmp_path / "home")) / "audits" / RICH.id
    place = alone(folder) if is_alone else folder
    write(place, name, old, new)
    assert told(place)[name, DRAWN].state == "FAILED"
    assert all("Error" not in check.why for check in check_reports(place, (place / "audit.json").read_bytes(), RICH))


def test_pictures_are_compared_where_they_are_stored_and_said_not_to_be_elsewhere(folder: Path) -> None:
    first, second = re.findall('data:image/jpeg;base64,[^"]+', (folder / PAGE).read_text(encoding="utf-8"))[:2]
    assert first != second
    place = alone(folder)
    write(place, PAGE, first, second)
    checks = told(place)
    assert checks[PAGE, DRAWN].state == "verified" and checks[PAGE, "its pictures"].state == "not verified"
    checks = told(place, folder.parents[1])  # the home of the audit
    assert checks[PAGE, "its pictures"].state == "FAILED"
    assert "are not the stored ones" in checks[PAGE, "its pictures"].why


def test_what_people_said_stands_in_it_and_nothing_else(folder: Path) -> None:
    home = folder.parents[1]
    annotate(home, RECORD.id, Statement("approved", "Ada"))
    assert told(folder)[PAGE, DRAWN].state == told(alone(folder))[PAGE, DRAWN].state == "verified"
    write(folder, PAGE, "Ada", "Eve")
    assert told(folder)[PAGE, DRAWN].state == "FAILED"
    (folder / "annotations.json").write_text("[]", encoding="utf-8")
    check = told(folder)[PAGE, DRAWN]
    assert check.state == "not verified" and "annotations.json, which it shows, cannot be read" in check.why


def test_a_report_that_was_put_back_without_what_people_said_is_said_to_lack_it(folder: Path) -> None:
    before = (folder / PAGE).read_bytes()
    annotate(folder.parents[1], RECORD.id, Statement("approved", "Ada"))
    raw = json.loads((folder / MANIFEST).read_bytes())
    (folder / PAGE).write_bytes(before)
    entries = {**raw["files"], PAGE: raw["as_audited"][PAGE]}
    (folder / MANIFEST).write_text(json.dumps({"audit": RECORD.id, "files": entries}), encoding="utf-8")
    check = told(folder)[PAGE, DRAWN]
    assert check.state == "verified" and "drawn before annotations.json" in check.why


def test_a_report_drawn_elsewhere_is_checked_too(folder: Path, tmp_path: Path) -> None:
    redraw(folder.parents[1], RECORD.id, tmp_path / "out", pdf=False)
    assert told(tmp_path / "out", folder.parents[1])[PAGE, DRAWN].state == "verified"
    assert told(tmp_path / "out")[PAGE, DRAWN].state == "verified"


def test_keys_that_a_page_spells_alike_are_no_failure_where_only_its_folder_is(tmp_path: Path) -> None:
    text = RECORD.to_json()
    for key, other in zip(
        (sample.key for sample in RECORD.findings[0].positive.samples), ("a\\tb", "a b"), strict=False
    ):
        text = text.replace(f'"{key}"', f'"{other}"')
    folder = put(tmp_path / "home", AuditRecord.from_json(text), paged=True)
    assert {check.state for check in told(folder).values()} == {"verified"}
    place = Path(shutil.copytree(folder, tmp_path / "alone"))
    checks = told(place)
    assert len(checks) == 3 and {check.state for check in checks.values()} == {"not verified"}
    assert all("keys of samples are spelled alike" in check.why for check in checks.values())


def test_other_software_is_named_and_no_failure(folder: Path) -> None:
    write(folder, PAGE, "Jinja2 ", "Jinja2 0.")
    check = told(folder)[PAGE, DRAWN]
    assert check.state == "not verified" and "Jinja2 0." in check.why and "Pillow" not in check.why
    write(folder, PAGE, "Jinja2 0.", "Jinja2 ")
    write(folder, PAGE, ", Python ", ", Pillow 0, Python ")  # which has all that is here, and more
    assert "not verified, because Pillow 0 drew it, and here is koda " in told(folder)[PAGE, DRAWN].in_words()
    write(folder, PAGE, '<meta name="drawn-by"', '<meta name="drawn"')
    assert "does not say what drew it" in told(folder)[PAGE, DRAWN].why


def test_own_templates_are_other_software(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    templates = Path(shutil.copytree(page_software.template_folder(), tmp_path / "templates"))
    monkeypatch.setattr(page_software, "template_folder", lambda: templates)
    page_software.page_software.cache_clear()
    before = page_software.page_software()
    (templates / "report.css").write_text("main { color: red }", encoding="utf-8")
    page_software.page_software.cache_clear()
    try:
        assert page_software.page_software() != before
    finally:
        page_software.page_software.cache_clear()


def test_a_record_that_cannot_be_drawn_is_said(folder: Path) -> None:
    record = RECORD.model_copy(update={"metrics": factory.record(1, map_points=5).metrics})
    points = record.metrics.map
    assert points is not None
    points.keys.append("one more")
    (check, *_) = check_drawn(folder, record, None)
    assert check.state == "not verified" and "cannot be drawn here: The map of the audit record is damaged" in check.why


@pytest.mark.parametrize(
    ("record", "most", "is_paged"),
    [
        (RICH, 5_000_000, False),
        (RICH, 460_000, True),
        (RICH, 10_000, True),
        (factory.record(1, gallery=2, map_points=0, alignment=factory_alignment.aligned(1)), 5_000_000, False),
        (factory.record(0, map_points=0), 10_000, False),
    ],
)
def test_a_report_is_drawn_again_around_its_own_pictures(
    record: AuditRecord, most: int, is_paged: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    pictures = factory_looks.thumbnails(record)
    for place in ("gallery_pages", "own_pictures"):
        monkeypatch.setattr(f"koda.report.{place}.MOST_BYTES", most)
    page, shown = fitted(record, pictures, lambda some: draw_page(record, some, with_pdf=True))
    own = own_gallery(record, page.decode(), pictures if shown.is_paged else ())
    assert own is not None and (own.is_paged, own.is_over) == (is_paged, len(page) > most)
    assert draw_page(record, replace(own, is_whole=shown.is_whole), with_pdf=True).encode() == page
