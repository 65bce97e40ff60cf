"""The section of references of frameworks: grouped, in words and signs, linked, and left out where there is none."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path

import pytest

from koda.audit.crosswalk import read_crosswalk
from koda.records import AuditRecord, Crosswalk, CrosswalkRow
from tests.report.page import FORBIDDEN, HOSTILE, Page, page_of, small


def with_rows(*rows: CrosswalkRow) -> AuditRecord:
    crosswalk = Crosswalk(title="Ours", as_of=date(2026, 11, 1), kept_by="the lab", rows=list(rows), digest="0" * 64)
    return small().model_copy(update={"crosswalk": crosswalk})


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Page:
    record = small().model_copy(update={"crosswalk": read_crosswalk()})
    return page_of(record, tmp_path_factory.mktemp("crosswalk"))[0]


def section_of(page: Page) -> str:
    """Return the words of the section, from its heading on to the first annex."""
    text = page.text[page.text.rindex("Crosswalk to frameworks") :]
    return text[: text.index("Annex:")]


def test_rows_stand_by_framework_with_status_owner_and_section(page: Page) -> None:
    text = section_of(page)
    places = [
        text.index(name) for name in ("EU AI Act", "NIST AI RMF 1.0", "ISO/IEC 42001", "Model cards", "Datasheets")
    ]
    assert places == sorted(places)
    assert "it is no conformity assessment" in text
    row = text[text.index("Annex IV 2(g)") :]
    assert re.match(r"Annex IV 2\(g\) procedures of validation.*? ● filled One kind of test", row)
    assert "Art. 15 accuracy, robustness and cybersecurity of the system ○ not here nothing owner: product team" in text
    assert "→ link only" in text and "◐ part" in text
    counts = {word: len(re.findall(f"[●◐○→] {word}", text)) - 1 for word in ("filled", "part", "not here", "link only")}
    for word, count in counts.items():
        assert count == sum(row.status == word for row in read_crosswalk().rows)
        assert re.search(rf"\b{count} [●◐○→] {word}", text)
    assert "It states no dates" in text and "applies from" not in text


def test_sections_that_the_report_has_are_linked(page: Page) -> None:
    ids = {attributes["id"] for _, attributes in page.tags if attributes.get("id")}
    links = [link["href"] for link in page.named("a")]
    assert "#policy" in links and "#crosswalk" in links
    assert {link[1:] for link in links if link and link.startswith("#")} <= ids
    assert re.search(r"See section \d+, Policy \.", page.text.replace("\u00a0", " "))
    assert "trend" not in ids  # which a row names, and this report has not
    followed = page.text[page.text.index("MEASURE 3.1") :]
    assert "over the audits of this line. Not in this report , which has no such section." in followed[:250]


def test_the_words_of_the_section_are_modest(page: Page) -> None:
    text = section_of(page).lower()
    assert [pattern for pattern in FORBIDDEN if re.search(pattern, text)] == []


def test_dates_that_a_team_states_are_shown_as_its_own(tmp_path: Path) -> None:
    row = CrosswalkRow(
        framework="House", reference="1", asks_for="x", status="part", section="gone", applies_from=date(2027, 1, 1)
    )
    text = section_of(page_of(with_rows(row), tmp_path)[0])
    assert "applies from 2027-01-01" in text and "koda knows no law" in text and "kept by: the lab" in text


def test_a_record_without_one_leaves_the_section_out(tmp_path: Path) -> None:
    assert "Crosswalk" not in page_of(small(), tmp_path)[0].text


def test_no_text_of_a_row_gets_out_of_its_place(tmp_path: Path) -> None:
    rows = [
        CrosswalkRow(
            framework=f"{evil}{number % 2}", reference=f"{evil}{number}", asks_for=evil, status="filled", supplies=evil,
            owner=evil, section=evil,
        )
        for number, evil in enumerate(text for text in HOSTILE if text)
    ]  # fmt: skip
    page, made = page_of(with_rows(*rows), tmp_path)
    words = dict.fromkeys(("asks_for", "supplies", "owner", "section"), "calm")
    calm, _ = page_of(with_rows(*(row.model_copy(update=words) for row in rows)), tmp_path / "calm")
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in calm.tags]
    raw = made.html.read_text(encoding="utf-8")
    assert not re.search("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]", raw)
    assert section_of(page).count("applies from") == 0
