"""The page of a sweep: what was asked and what ran, signs that differ, links to reports, intervals."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest

from koda.records import Estimate, SweepCell, SweepRecord, SweepSide
from koda.records.changes import Status
from koda.report.sweep import render_sweep
from tests.report.page import HOSTILE, Page

NOW = datetime(2026, 11, 27, 3, tzinfo=UTC)
MODELS = ["old", "mid", "new"]


def side(share: float | None, interval: bool = True) -> SweepSide:
    estimate = Estimate(value=share, low=share - 0.001, high=share + 0.001) if share is not None and interval else None
    return SweepSide(confirmed=1, share=share, estimate=estimate, name="purple against blue")


def ran(baseline: str, candidate: str, verdict: Status, **more: Any) -> SweepCell:
    known = {"lost": side(0.0081), "gained": side(None), "retrieval_drop": 0.02, **more}
    audit = f"audit-{baseline}-{candidate}"
    return SweepCell(
        data="pairs", baseline=baseline, candidate=candidate, exit_code=0, audit=audit, verdict=verdict,
        reasons=[f"it is {verdict}"], report=f"../../audits/{audit}/report.html", **known,
    )  # fmt: skip


def broken(baseline: str, candidate: str, error: str = "There is no such folder.\nSay where it is.") -> SweepCell:
    return SweepCell(data="pairs", baseline=baseline, candidate=candidate, exit_code=2, error=error)


def record_of(*cells: SweepCell, **changes: Any) -> SweepRecord:
    known = {"id": "sweep-1", "title": "Sweep", "data": ["pairs"], "baselines": MODELS, "candidates": MODELS}
    return SweepRecord(started=NOW, ended=NOW, cells=list(cells), **(known | changes))


def page_of(*cells: SweepCell, **changes: Any) -> Page:
    return Page(render_sweep(record_of(*cells, **changes)).decode())


@pytest.fixture(scope="module")
def page() -> Page:
    return page_of(
        ran("old", "mid", "pass"), ran("old", "new", "fail"), broken("mid", "old"), broken("new", "old"),
        ran("mid", "new", "warn", retrieval=Estimate(value=0.02, low=0.01, high=0.03)),
        ran("new", "mid", "inconclusive"),
    )  # fmt: skip


def pills(page: Page) -> list[str | None]:
    return [span.get("class") for span in page.named("span") if (span.get("class") or "").startswith("pill")]


def test_what_was_asked_for_and_what_ran_are_counted(page: Page) -> None:
    text = page.text.replace("\u00a0", " ")
    assert "6 audits asked for, 4 ran: 1 failed, 1 inconclusive, 1 warned, 1 passed." in text
    all_ran = page_of(ran("old", "mid", "pass"), ran("old", "new", "pass")).text.replace("\u00a0", " ")
    assert "2 audits asked for, all ran: 2 passed." in all_ran
    assert "1 audit asked for, none ran." in page_of(broken("old", "mid")).text.replace("\u00a0", " ")


def test_what_was_not_run_has_a_sign_that_is_no_verdicts(page: Page) -> None:
    assert page.text.count("– not run") == 2 * 2  # in the matrix and below it
    assert pills(page).count("pill quiet") == 4 and pills(page).count("pill fail") == 2
    assert page.text.count("There is no such folder. Say where it is.") == 2


def test_cells_lead_to_the_reports_and_what_was_not_run_to_its_reason(page: Page) -> None:
    ids = {attributes["id"] for _, attributes in page.tags if attributes.get("id")}
    links = [link["href"] or "" for link in page.named("a")]
    inside = [link for link in links if link.startswith("#")]
    assert {link[1:] for link in inside} <= ids and len(inside) == 2
    assert links.count("../../audits/audit-old-new/report.html") == 2  # in its cell, and below the matrix
    assert len([link for link in links if link.startswith("../../audits/")]) == 2 * 4


def test_shares_and_falls_have_intervals_where_the_summary_has_them(page: Page) -> None:
    text = page.text.replace("\u00a0", " ")
    assert "lost 0.81 % [0.71, 0.91]" in text and "nothing gained" in text
    assert "the largest share is 0.81 % (95 % interval 0.71 to 0.91 %): purple against blue" in text
    assert "a fall of 2.0 points (95 % interval 1.0 to 3.0)" in text
    older = page_of(ran("old", "mid", "pass", lost=side(0.0081, interval=False))).text.replace("\u00a0", " ")
    assert "lost 0.81 % nothing gained" in older and "fell by 2.0 points, in the retrieval direction" in older


def test_a_rise_is_said_to_be_one() -> None:
    risen = Estimate(value=-0.02, low=-0.03, high=-0.01)
    text = page_of(ran("old", "mid", "pass", retrieval_drop=-0.02, retrieval=risen)).text.replace("\u00a0", " ")
    assert "a rise, which is a negative fall, of −2.0 points (95 % interval −3.0 to −1.0)" in text


def test_a_matrix_has_an_empty_cell_where_a_model_would_meet_itself(page: Page) -> None:
    columns = [cell.get("data-column") for cell in page.named("td")]
    assert columns == MODELS * 3  # by which a narrow screen names the cells


def test_hostile_names_and_reasons_stay_in_their_places() -> None:
    evil = [text for text in HOSTILE if text]
    calm = page_of(
        *(broken("old", f"c{n}", "e") for n in range(len(evil))), candidates=[f"c{n}" for n in range(len(evil))]
    )
    names = [f"{text}{n}" for n, text in enumerate(evil)]
    cells = [broken("old", name, text.replace("\n", " ")) for name, text in zip(names, evil, strict=True)]
    page = page_of(*cells, candidates=names, title=evil[0])
    assert [tag for tag, _ in page.tags] == [tag for tag, _ in calm.tags]
    assert not any("\u202e" in word or "\x1b" in word for word in page.words)
