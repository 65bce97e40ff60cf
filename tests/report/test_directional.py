"""No text of a record turns what stands beside it: in no drawing, cell, name or title of the page."""

from __future__ import annotations

import json
import re
from typing import Any

import pytest

from koda.audit.crosswalk import read_crosswalk
from koda.records import AuditRecord, IntendedUse
from tests.report import factory
from tests.report.page import Page, page_of

EVIL = "\u202egnp\u2066\u202d\x1b[31m\x9b\u2067"
OBEYED = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")
# keys whose values are of a closed set, moments, or names that are read again
CLOSED = {
    *("side", "sign", "split", "pick", "role", "result", "direction", "subset", "finding", "findings", "share_unit"),
    *("started", "ended", "queries", "as_of"),
}


def poisoned(value: Any, key: str = "") -> Any:
    """Put directional and control characters behind every text whose place takes any text."""
    if isinstance(value, dict):
        return {name: poisoned(inner, name) for name, inner in value.items()}
    if isinstance(value, list):
        return [poisoned(inner, key) for inner in value]
    return f"{value}{EVIL}" if isinstance(value, str) and key not in CLOSED else value


def hostile() -> AuditRecord:
    record = factory.record(6, map_points=60)
    record = record.model_copy(
        update={"crosswalk": read_crosswalk(), "intended_use": IntendedUse(purpose="search", owner="the lab")}
    )
    raw = poisoned(json.loads(record.to_json()))
    raw["verdict"]["status"] = record.verdict.status
    for row, known in zip(raw["crosswalk"]["rows"], record.crosswalk.rows, strict=True):  # type: ignore[union-attr]
        row["status"] = known.status
    return AuditRecord.from_json(json.dumps(raw))


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> tuple[Page, str]:
    read, made = page_of(hostile(), tmp_path_factory.mktemp("hostile"))
    return read, made.html.read_text(encoding="utf-8")


def test_the_record_is_hostile_in_all_that_is_drawn() -> None:
    text = json.dumps(json.loads(hostile().to_json()), ensure_ascii=False)
    assert text.count("\u202e") > 500 and f"step 9000{EVIL[0]}" in text


def test_nothing_that_is_obeyed_stands_in_the_page(page: tuple[Page, str]) -> None:
    found = [page[1][max(0, match.start() - 60) : match.end() + 20] for match in OBEYED.finditer(page[1])]
    assert found == []


def test_what_was_there_is_seen_in_drawings_and_words(page: tuple[Page, str]) -> None:
    svg = "".join(re.findall(r"<svg.*?</svg>", page[1], re.DOTALL))
    assert "step 9000\ufffdgnp" in svg and "step 9000\ufffdgnp" in page[0].text
