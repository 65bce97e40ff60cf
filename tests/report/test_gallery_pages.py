"""A report whose pictures weigh too much: it stays under 5 MB, and pages beside it have what it lacks."""

from __future__ import annotations

import io
import shutil
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from koda.records import AuditRecord, ShownSample
from koda.report import render
from koda.report.environment import template_folder
from koda.report.former import pictures_in
from koda.report.gallery_pages import fitted, notes_on, pages
from koda.report.render import RenderedReport
from tests.report import factory, factory_looks
from tests.report.page import Page, known

N, LOBE = 8, 20  # findings, and samples of a lobe
PAGES = [f"gallery-{side}-{k}.html" for side, n in (("lost", N - 2), ("gained", 2)) for k in range(1, n + 1)]


def grain(seed: int, side: int = 160) -> bytes:
    """Draw nothing but noise, which no compression makes light."""
    pixels = np.random.default_rng(seed).integers(0, 256, (side, side, 3), dtype=np.uint8)
    out = io.BytesIO()
    Image.fromarray(pixels).save(out, "JPEG", quality=85)
    return out.getvalue()


def heavy(thumbnails: dict[str, bytes]) -> dict[str, bytes]:
    pictures = [grain(seed) for seed in range(7)]
    return {key: pictures[place % 7] for place, key in enumerate(thumbnails)}


@dataclass(frozen=True)
class Made:
    record: AuditRecord
    thumbnails: dict[str, bytes]
    report: RenderedReport
    page: Page
    pages: dict[str, Page]


def drawn(record: AuditRecord, thumbnails: dict[str, bytes], folder: Path) -> Made:
    report = render(record, thumbnails, folder, pdf=False)
    pages = {path.name: Page(path.read_text(encoding="utf-8")) for path in sorted(folder.glob("gallery-*.html"))}
    return Made(record, thumbnails, report, Page(report.html.read_text(encoding="utf-8")), pages)


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Made:
    record = factory_looks.record(N, gallery=LOBE, map_points=60)
    return drawn(record, heavy(factory_looks.thumbnails(record)), tmp_path_factory.mktemp("heavy"))


def test_the_report_stays_under_5_mb_and_each_finding_has_a_page(made: Made) -> None:
    assert sum(map(len, made.thumbnails.values())) > 5_000_000 > made.report.html.stat().st_size
    assert sorted(made.pages) == sorted(PAGES)
    assert len(made.report.notes) == 1 and "8 pages beside it" in made.report.notes[0].replace("\u00a0", " ")
    assert made.report.notes[0].replace("\u00a0", " ") in made.page.text


def test_every_picture_can_be_reached_as_it_is(made: Made) -> None:
    found: dict[str, bytes] = {}
    for name in made.pages:
        found |= pictures_in((made.report.html.parent / name).read_text(encoding="utf-8"))
    shown = {s.key for f in made.record.findings for lobe in (f.positive, f.negative) for s in lobe.samples}
    near = {n.key for s in made.record.looks.neighbours for n in (*s.baseline, *s.candidate)}
    assert found == {key: made.thumbnails[key] for key in shown | near}
    tiles = known(made.page)["sheet"]["tiles"]
    assert len(shown | near | {known(made.page)["keys"][int(place)] for place in tiles}) == len(made.thumbnails)


def test_report_and_pages_are_linked_both_ways_and_ask_nothing_of_anyone(made: Made) -> None:
    linked = [str(a["href"]) for a in made.page.named("a") if str(a["href"]).startswith("gallery")]
    assert linked == PAGES
    ids = {attributes["id"] for _, attributes in made.page.tags if "id" in attributes}
    for name, page in made.pages.items():
        links = [str(a["href"]) for a in page.named("a")]
        assert links[0].startswith("report.html#") and links[0].split("#")[1] in ids
        place = PAGES.index(name)
        assert links[1:] == [*PAGES[max(0, place - 1) : place], *PAGES[place + 1 : place + 2]]
        assert all(str(source["src"]).startswith("data:") for source in page.named("img"))
        assert "default-src 'none'" in str(page.named("meta")) and not page.named("script", "link")


def test_captions_of_all_samples_stay_in_the_report_and_its_first_pictures_too(made: Made) -> None:
    shots = [a for a in made.page.named("figure") if a.get("class") == "shot"]
    assert len(shots) == N * 2 * LOBE and made.page.text.count("on the gallery page") > N * LOBE
    first = pictures_in(made.report.html.read_text(encoding="utf-8"))
    assert N * 2 <= len(first) < len(shots)


def test_a_report_that_has_room_has_no_pages_and_takes_away_those_that_koda_made_alone(
    tmp_path: Path, made: Made
) -> None:
    record = factory.record(1, gallery=2, map_points=0)
    shutil.copy(made.report.html.parent / PAGES[0], tmp_path)
    others = {"gallery-lost-9.html": "mine", "gallery-holidays.html": (tmp_path / PAGES[0]).read_text()}
    for name, text in others.items():
        (tmp_path / name).write_text(text)
    light = drawn(record, factory.thumbnails(record), tmp_path)
    assert light.pages.keys() == others.keys() and light.report.notes == []
    assert "gallery page" not in light.page.text


def test_a_map_with_long_captions_leaves_no_room_and_goes_without_pictures(tmp_path: Path) -> None:
    record = factory_looks.record(1, map_points=1500)
    said = {f"s{place}": ShownSample(caption="😀" * 400, metadata={"said": "😀" * 300}) for place in range(1500)}
    looks = record.looks.model_copy(update={"samples": record.looks.samples | said})
    tile = grain(1, 40)
    thumbnails = factory_looks.thumbnails(record) | dict.fromkeys(said, tile)
    made = drawn(record.model_copy(update={"looks": looks}), thumbnails, tmp_path)
    assert made.report.html.stat().st_size < 5_000_000 and "sheet" not in known(made.page)
    assert "Samples of the map that no gallery shows have no picture" in made.report.notes[1]


@pytest.mark.parametrize("n_findings", [0, 2])
def test_a_report_that_is_long_by_its_texts_makes_no_pages_of_pictures_that_it_does_not_have(n_findings: int) -> None:
    record = factory.record(n_findings, gallery=2, map_points=0)
    page, pictures = fitted(record, {}, lambda some: "; ".join(notes_on(record, some)) + "x" * 5_000_001)
    (note,) = notes_on(record, pictures)
    assert (
        not pictures.is_paged and note == "report.html is over 5 MB by its texts alone, such as captions and metadata."
    )
    assert page.startswith(note.encode())


def test_where_no_gallery_has_a_picture_the_map_goes_without() -> None:
    record = factory_looks.record(1, gallery=2, map_points=0)
    near = {key: grain(place, 40) for place, key in enumerate(record.looks.samples) if key.startswith("near")}
    _, pictures = fitted(record, near, lambda some: "x" * (5_000_000 + len(some.neighbours)))
    assert not pictures.is_paged and not pictures.neighbours and not pictures.is_over
    assert "Samples of the map and neighbours have no picture" in " ".join(notes_on(record, pictures))


def test_hostile_texts_do_nothing_on_a_page_of_pictures(made: Made) -> None:
    first = made.record.findings[0]
    samples = [
        s.model_copy(update={"caption": "</style><script>alert(1)</script>\u202e"}) for s in first.positive.samples
    ]
    evil = first.model_copy(update={"positive": first.positive.model_copy(update={"samples": samples})})
    changed = made.record.model_copy(update={"findings": [evil, *made.record.findings[1:]]})
    (raw,) = (page for name, page in pages(changed, made.thumbnails, [evil], template_folder()))
    page = Page(raw.decode("utf-8"))
    assert [tag for tag, _ in page.tags if tag != "a"] == [tag for tag, _ in made.pages[PAGES[0]].tags if tag != "a"]
    assert "\u202e" not in page.text and "<script>alert(1)</script>" in page.text
