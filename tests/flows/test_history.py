"""`koda history` with its filters, trends and costs, and `koda export --figures`, on made-up records."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from flows.cli.show_trends import sparkline
from koda.audit.figures_of import figure_rows
from koda.audit.trends import trend_of
from koda.storage.database import AuditStore
from tests.report import factory

NIGHT = datetime(2026, 11, 1, 3, tzinfo=UTC)


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a KODA_HOME with three nights, the last run of one of which crashed, and an audit that never ended."""
    home = tmp_path_factory.mktemp("home")
    store = AuditStore(home)
    for day, status in enumerate(("pass", "fail", "fail")):
        record = factory.record(2 + day, map_points=0, id=f"audit-night{day}")
        verdict = record.verdict.model_copy(update={"status": status})
        data = record.data.model_copy(update={"digest": "new" if day == 2 else "old", "n_rejected": 10 * day})
        record = record.model_copy(update={"ended": NIGHT + timedelta(days=day), "verdict": verdict, "data": data})
        folder = home / "audits" / record.id
        folder.mkdir(parents=True)
        (folder / "audit.json").write_text(record.to_json(), encoding="utf-8")
        store.stage_audit(record, [], figure_rows(record))
        run = {
            "run_id": f"r{day}", "audit_id": record.id, "started": record.started, "ended": record.ended,
            "state": "crashed" if day == 1 else "finished", "error": "the power \x1b[2Jwent" if day == 1 else None,
        }  # fmt: skip
        step = {
            "run_id": f"r{day}", "audit_id": record.id, "place": 0, "step": "embed baseline", "executed": True,
            "seconds": 2.0, "peak_bytes": 300 * 2**20, "peak_device_bytes": None, "device": "cpu",
        }  # fmt: skip
        store.stage_run({**run, "seconds": 2.5}, [step])
    lost = {"run_id": "r9", "audit_id": "audit-lost", "started": NIGHT, "ended": NIGHT, "state": "failed"}
    store.stage_run({**lost, "error": "no room"})
    store.merge()
    return home


def told(home: Path, *arguments: str, code: int = 0) -> str:
    result = CliRunner(env={"KODA_HOME": str(home)}).invoke(app, list(arguments))
    assert result.exit_code == code, result.stderr
    return result.stdout if code == 0 else result.stderr


def as_json(home: Path, *arguments: str) -> Any:
    return json.loads(told(home, *arguments, "--json"))


def test_the_list_says_what_did_not_finish(home: Path) -> None:
    shown = told(home, "history")
    assert r"the last run of audit-night1 crashed: the power \x1b[2Jwent" in shown
    assert "audit-lost never finished; its last run, 2026-11-01 03:00, failed: no room" in shown
    states = {audit["id"]: audit["last_state"] for audit in as_json(home, "history")}
    assert states == {"audit-night0": "finished", "audit-night1": "crashed", "audit-night2": "finished"}


def test_filters_leave_out_the_others(home: Path) -> None:
    shown = told(home, "history", "--verdict", "fail", "--since", "2026-11-03")
    assert "audit-night2" in shown and "audit-night1" not in shown and "audit-lost" not in shown
    assert len(as_json(home, "history", "--verdict", "pass", "--verdict", "fail")) == 3
    assert as_json(home, "history", "--baseline", "nobody") == []
    assert "Did you mean 'fail'?" in told(home, "history", "--verdict", "fial", code=2)
    assert "7d" in told(home, "history", "--since", "soon", code=2)


def test_a_figure_is_followed_with_its_breaks(home: Path) -> None:
    shown = told(home, "history", "--figure", "rejections.count")
    places = [shown.index(text) for text in ("night0", "night1", "the data are others", "night2")]
    assert places == sorted(places)
    assert "0 at first, 20 at last; from 0 to 20" in shown
    assert "█" not in shown, "a bar in what is no terminal"
    (line,) = as_json(home, "history", "--figure", "rejections.count", "--since", "2026-11-02")["lines"]
    assert [point["value"] for point in line["points"]] == [10, 20]
    assert "Did you mean 'rejections.count'?" in told(home, "history", "--figure", "rejection.count", code=2)
    assert "one at a time" in told(home, "history", "--figure", "rejections.count", "--costs", code=2)
    assert sparkline(trend_of(home, "rejections.count").lines[0]) == "▁▅│█"


def test_costs_are_shown_by_step_and_in_all(home: Path) -> None:
    shown = told(home, "history", "--costs")
    assert "embed baseline" in shown and "300 MiB" in shown and "over 3 runs" in shown
    between, total = (next(line for line in shown.splitlines() if name in line) for name in ("between", "total"))
    assert between.split() == ["between", "the", "steps", "1.5"] and " 7.5 " in total
    costs = as_json(home, "history", "--costs", "--verdict", "fail")
    assert costs["steps"][0]["seconds"] == costs["total"]["seconds"] == 4


def test_export_writes_figures_or_embeddings_and_not_both(home: Path, tmp_path: Path) -> None:
    path = tmp_path / "figures.csv"
    written = as_json(home, "export", "--figures", str(path))
    assert (written["audits"], len(path.read_text(encoding="utf-8").splitlines())) == (3, written["rows"] + 1)
    assert "of 3 audits in" in told(home, "export", "--figures", str(tmp_path / "figures.parquet"))
    assert "--out FOLDER" in told(home, "export", code=2)
    assert "--out FOLDER" in told(home, "export", "audit-night0", code=2)
    assert "of all audits" in told(home, "export", "audit-night0", "--figures", str(path), code=2)


def test_looking_writes_nothing(home: Path) -> None:
    before = {path: path.stat().st_mtime_ns for path in home.rglob("*")}
    for arguments in (["--figure", "lost.max_share"], ["--costs"], ["--verdict", "fail"], []):
        told(home, "history", *arguments)
    assert {path: path.stat().st_mtime_ns for path in home.rglob("*")} == before
