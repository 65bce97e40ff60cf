"""A figure over audits, the selection of audits, and the table of all figures."""

from __future__ import annotations

import csv
import shutil
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest

from koda.audit.figures_of import figure_rows, figures_of
from koda.audit.history import list_audits, unfinished_audits
from koda.audit.selection import Selection, time_of
from koda.audit.spending import spending_of
from koda.audit.trends import trend_of, write_figures
from koda.errors import ConfigError
from koda.records import AuditRecord
from koda.storage.connection import DatabaseBusyError
from koda.storage.database import AuditStore
from tests.report import factory

START = datetime(2026, 11, 1, 3, tzinfo=UTC)


def a_record(day: int, **changes: Any) -> AuditRecord:
    record = factory.record(2 + day % 2, map_points=0, id=f"audit-{day:012d}")
    return record.model_copy(update={"ended": START + timedelta(days=day), **changes})


@pytest.fixture(scope="module")
def records() -> list[AuditRecord]:
    """Return four nights: the data change after the first, the policy after the second; one is of other data."""
    first = a_record(0)
    other_data = first.data.model_copy(update={"digest": "other", "n_rejected": 99})
    policy = {**first.config, "policy": [{"figure": "lost.max_share", "fail": 0.5}]}
    passed = first.verdict.model_copy(update={"status": "pass"})
    return [
        first,
        a_record(1, data=other_data),
        a_record(2, data=other_data, config=policy, verdict=passed),
        a_record(3, data=first.data.model_copy(update={"name": "indoor"})),
    ]


@pytest.fixture(params=["stored", "older koda", "busy", "folders alone"])
def home(request: pytest.FixtureRequest, tmp_path: Path, records: list[AuditRecord]) -> Any:
    """Return a KODA_HOME whose database knows all, or no figures, or cannot be read, or is not there."""
    store = AuditStore(tmp_path)
    for record in records:
        (tmp_path / "audits" / record.id).mkdir(parents=True)
        (tmp_path / "audits" / record.id / "audit.json").write_text(record.to_json(), encoding="utf-8")
        if request.param != "folders alone":
            store.stage_audit(record, [], figure_rows(record) if request.param == "stored" else [])
    store.merge()
    if request.param == "stored":  # the database alone tells
        shutil.rmtree(tmp_path / "audits")
    if request.param != "busy":
        yield tmp_path
        return

    def refuse(self: AuditStore, *_: Any) -> Any:
        raise DatabaseBusyError("The database is open elsewhere.")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(AuditStore, "query", refuse)
        yield tmp_path


def test_a_trend_is_by_line_and_marks_what_changed(home: Path, records: list[AuditRecord]) -> None:
    trend = trend_of(home, "lost.max_share")
    assert [(line.data, len(line.points)) for line in trend.lines] == [("street-pairs-2026", 3), ("indoor", 1)]
    points = trend.lines[0].points
    assert [point.id for point in points] == [record.id for record in records[:3]]
    assert [point.breaks for point in points] == [(), ("data",), ("policy",)]
    expected = figures_of(records[0])["lost.max_share"]
    assert (points[0].value, points[0].low, points[0].high) == (expected.value, expected.low, expected.high)
    assert [point.value for point in trend_of(home, "rejections.count").lines[0].points] == [17, 99, 99]


def test_only_the_audits_that_are_asked_for_are_there(home: Path, records: list[AuditRecord]) -> None:
    def ids(**wanted: Any) -> set[str]:
        selection = Selection.of(**wanted)
        found = {audit["id"][-1] for audit in list_audits(home, selection)}
        lines = trend_of(home, "lost.max_share", selection).lines
        assert found == {point.id[-1] for line in lines for point in line.points}
        return found

    assert ids() == {"0", "1", "2", "3"}
    assert ids(since="2026-11-03") == {"2", "3"}
    assert ids(verdicts=["pass", "warn"]) == {"2"}
    assert ids(data=["indoor"]) == {"3"}
    assert ids(baselines=[records[0].baseline.label]) == {"0", "1", "2", "3"}
    assert ids(baselines=["nobody"]) == set()


def test_all_figures_are_written_as_a_table(home: Path, records: list[AuditRecord], tmp_path: Path) -> None:
    written = write_figures(home, tmp_path / "out" / "figures.parquet")
    rows = pq.read_table(written["path"]).to_pylist()
    assert (written["audits"], written["rows"]) == (4, len(rows))
    assert {row["figure"] for row in rows if row["id"] == records[0].id} == set(figures_of(records[0]))
    row = next(row for row in rows if row["id"] == records[2].id and row["figure"] == "lost.max_share")
    assert row["low"] < row["value"] < row["high"]
    assert (row["verdict"], row["dataset_digest"], row["ended"]) == ("pass", "other", records[2].ended)
    assert row["baseline_weights"] == records[2].baseline.weights_digest
    write_figures(home, tmp_path / "figures.csv")
    with (tmp_path / "figures.csv").open(encoding="utf-8", newline="") as file:
        assert len(list(csv.DictReader(file))) == len(rows)


def test_what_cannot_be_meant_is_refused_in_words(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"lost\.max_share"):
        trend_of(tmp_path, "lost.max_shar")
    with pytest.raises(ConfigError, match="Did you mean 'fail'"):
        Selection.of(verdicts=["fial"])
    with pytest.raises(ConfigError, match="2026-11-01"):
        time_of("yesterday", START)
    with pytest.raises(ConfigError, match=r"\.parquet or \.csv"):
        write_figures(tmp_path, tmp_path / "figures.xlsx")


def test_times_are_ages_or_dates() -> None:
    assert time_of("12h", START) == START - timedelta(hours=12)
    assert time_of("2w", START) == START - timedelta(weeks=2)
    assert time_of("2026-10-31T03:00:00+01:00", START) == START - timedelta(days=1, hours=1)


def test_an_empty_home_has_no_trend_and_no_costs(tmp_path: Path) -> None:
    assert trend_of(tmp_path, "by.colour.retrieval_drop").lines == []
    assert spending_of(tmp_path) == {"steps": [], "total": None}
    assert not any(tmp_path.iterdir())


def test_runs_that_did_not_finish_are_told_with_their_state(tmp_path: Path) -> None:
    store, record = AuditStore(tmp_path), a_record(0)
    store.stage_audit(record, [])
    for number, (audit, state, error) in enumerate(
        [(record.id, "finished", None), (record.id, "crashed", "ended without a word"), ("audit-x", "failed", "why")]
    ):
        when = START + timedelta(hours=number)
        run = {"run_id": f"r{number}", "audit_id": audit, "started": when, "ended": when, "state": state}
        store.stage_run({**run, "error": error})
    store.merge()
    (audit,) = list_audits(tmp_path)
    assert (audit["last_state"], audit["last_error"], audit["runs"]) == ("crashed", "ended without a word", 2)
    (lost,) = unfinished_audits(tmp_path)
    assert (lost["id"], lost["last_state"], lost["last_error"]) == ("audit-x", "failed", "why")


def test_costs_are_summed_by_step(tmp_path: Path) -> None:
    store, record = AuditStore(tmp_path), a_record(0)
    store.stage_audit(record, [])
    for number, executed in enumerate((True, True, False)):
        run = {"run_id": f"r{number}", "audit_id": record.id, "started": START, "ended": START + timedelta(number)}
        steps = [
            {
                "run_id": f"r{number}", "audit_id": record.id, "place": place, "step": step, "executed": executed,
                "seconds": 1.0 + number, "peak_bytes": 100 + number, "peak_device_bytes": None,
                "device": "cpu" if executed else None,
            }
            for place, step in enumerate(("embed", "discover"))
        ]  # fmt: skip
        store.stage_run(run, steps)
    store.merge()
    spending = spending_of(tmp_path)
    assert [row["step"] for row in spending["steps"]] == ["embed", "discover"]
    row = spending["steps"][0]
    assert (row["executed"], row["cached"], row["seconds"], row["median_seconds"]) == (2, 1, 6.0, 1.5)
    assert (row["peak_bytes"], row["devices"]) == (102, ["cpu"])
    assert (spending["total"]["runs"], spending["total"]["seconds"]) == (3, 12.0)
    assert spending["total"]["between_seconds"] is None  # of runs of which nothing says how long they took
    late = spending_of(tmp_path, Selection(since=START + timedelta(days=1)))
    assert late["total"]["runs"] == 2


def test_what_runs_took_between_their_steps_is_told_apart(tmp_path: Path) -> None:
    store, record = AuditStore(tmp_path), a_record(0)
    store.stage_audit(record, [])
    for number, seconds in enumerate((10.5, 2.0, None)):  # the second has steps side by side, the third is old
        run = {"run_id": f"r{number}", "audit_id": record.id, "started": START, "ended": START, "seconds": seconds}
        step = {"audit_id": record.id, "executed": True, "peak_bytes": None, "peak_device_bytes": None, "device": None}
        steps = [
            {**step, "run_id": f"r{number}", "place": place, "step": name, "seconds": 3.0}
            for place, name in enumerate(("embed", "discover"))
        ]
        store.stage_run(run, steps)
    store.merge()
    total = spending_of(tmp_path)["total"]
    assert (total["seconds"], total["between_seconds"]) == (18.0, 4.5)
