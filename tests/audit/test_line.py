"""The audit before of a line, and the figures of its policy over it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

import koda.audit.line
from koda.audit.line import with_line
from koda.records import AuditRecord
from koda.storage.database import AuditStore
from tests.report import factory

START = datetime(2026, 11, 1, 3, tzinfo=UTC)


def night(day: int, **changes: Any) -> AuditRecord:
    made = factory.record(2, gallery=2, map_points=0, id=f"audit-{day:012d}", changes=None)
    return made.model_copy(update={"ended": START + timedelta(days=day), **changes})


def by_policy(record: AuditRecord, digest: str) -> AuditRecord:
    return record.model_copy(update={"verdict": record.verdict.model_copy(update={"policy_digest": digest})})


def over_data(record: AuditRecord, **changes: str) -> AuditRecord:
    return record.model_copy(update={"data": record.data.model_copy(update=changes)})


def against_itself(record: AuditRecord) -> AuditRecord:
    return record.model_copy(update={"candidate": record.baseline})


def write(home: Path, records: list[AuditRecord], stored: bool = True) -> None:
    store = AuditStore(home)
    for record in records:
        folder = home / "audits" / record.id
        folder.mkdir(parents=True)
        (folder / "audit.json").write_text(record.to_json(), encoding="utf-8")
        if stored:
            store.stage_audit(record, [])
    store.merge()


def before(record: AuditRecord) -> str | None:
    return None if record.changes is None else record.changes.before


@pytest.mark.parametrize("stored", [True, False])
def test_a_model_against_itself_is_of_a_line_of_its_own(tmp_path: Path, stored: bool) -> None:
    write(tmp_path, [night(0), against_itself(night(1)), over_data(night(2), name="indoor")], stored)
    told = with_line(tmp_path, night(5), [])
    assert before(told) == night(0).id
    assert [point.audit for point in told.trend.points] == [night(0).id, night(5).id]  # type: ignore[union-attr]
    assert before(with_line(tmp_path, against_itself(night(6)), [])) == night(1).id


def test_the_audit_before_is_the_latest_over_the_same_data_by_the_same_policy(tmp_path: Path) -> None:
    records = [night(0), night(1), by_policy(night(2), "other"), over_data(night(3), digest="other")]
    write(tmp_path, [*records, night(9)])
    assert before(with_line(tmp_path, night(5), [])) == night(1).id
    assert before(with_line(tmp_path, over_data(night(5), digest="new"), [])) == night(3).id  # none is alike
    assert before(with_line(tmp_path, night(0), [])) is None
    assert with_line(tmp_path, night(0), []).trend is None


def test_a_trend_has_the_figures_of_the_policy_and_says_where_it_breaks(tmp_path: Path) -> None:
    first = night(0)
    search = {**first.config, "discrepancy": {"n_directions": 5, "device": "cpu"}}
    elsewhere = {**first.config, "discrepancy": {"n_directions": 5, "device": "cuda", "of a later koda": 1}}
    other = {**first.config, "discrepancy": {"n_directions": 9, "device": "cpu"}}
    newer = first.provenance.model_copy(update={"koda_version": "9.0"})
    records = [
        night(0, config=search),
        night(1, config=elsewhere),
        by_policy(night(2, config=other), "other"),
        over_data(by_policy(night(3, config=other, provenance=newer), "other"), digest="other"),
    ]
    write(tmp_path, records)
    last = night(4, config=other, provenance=newer)
    trend = with_line(tmp_path, last, []).trend
    assert trend is not None and trend.left_out == 0
    assert [point.audit for point in trend.points] == [*(record.id for record in records), last.id]
    assert [point.breaks for point in trend.points] == [
        [],
        [],
        ["policy", "settings"],
        ["data", "koda"],
        ["data", "policy"],
    ]
    assert [point.ended for point in trend.points] == sorted(point.ended for point in trend.points)
    for point in trend.points:
        assert point.figures == {rule.figure: rule.observed for rule in last.verdict.rules}
        assert (point.verdict, point.candidate) == (last.verdict.status, last.candidate.label)


def test_a_long_line_is_cut_and_what_cannot_be_read_is_passed_over(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(koda.audit.line, "MAX_POINTS", 4)
    write(tmp_path, [night(day) for day in range(6)])
    (tmp_path / "audits" / night(5).id / "audit.json").write_text('{"version": 999}', encoding="utf-8")
    (tmp_path / "audits" / night(4).id / "audit.json").unlink()
    trend = with_line(tmp_path, night(7), []).trend
    assert trend is not None
    assert [point.audit for point in trend.points] == [night(day).id for day in (1, 2, 3, 7)]
    assert trend.left_out == 1
