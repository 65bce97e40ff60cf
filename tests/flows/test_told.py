"""What `koda show` and `koda history` tell of an audit of an aligned model."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.testing import CliRunner

from flows.cli.app import app
from koda.storage.database import AuditStore
from tests.report import factory


@pytest.fixture
def home(tmp_path: Path) -> Path:
    """Return a KODA_HOME with an audit and the one of the aligned model that followed."""
    first = factory.record(2, map_points=0, id="audit-77b0aa")
    second = factory.record(2, map_points=0, id="audit-c3d4e5", alignment=factory.aligned())
    store = AuditStore(tmp_path)
    for record in (first, second):
        store.stage_audit(record, [])
        store.merge()
        path = tmp_path / "audits" / record.id / "audit.json"
        path.parent.mkdir(parents=True)
        path.write_text(record.to_json(), encoding="utf-8")
    store.add_alignment(factory.aligned(), second.id, str(tmp_path / "model"))
    return tmp_path


def told(home: Path, *arguments: str) -> str:
    result = CliRunner(env={"KODA_HOME": str(home)}).invoke(app, list(arguments))
    assert result.exit_code == 0, result.stderr
    return result.stdout


def test_show_says_who_learnt_from_whom_after_which_audit(home: Path) -> None:
    line = "aligned: ViT-B-32 step 8900 with ViT-B-32 step 8000, recovered 0.88 of the AMI held out, from audit-77b0aa"
    assert line in told(home, "show", "audit-c3d4e5")
    assert "aligned" not in told(home, "show", "audit-77b0aa")


def test_show_states_no_recovery_that_means_nothing(home: Path) -> None:
    record = factory.record(2, map_points=0, id="audit-c3d4e5", alignment=factory.aligned(recovery=None))
    (home / "audits" / record.id / "audit.json").write_text(record.to_json(), encoding="utf-8")
    assert "with ViT-B-32 step 8000, from audit-77b0aa" in told(home, "show", "audit-c3d4e5")


def test_history_names_the_audit_before_and_cuts_no_id(home: Path) -> None:
    listed = told(home, "history")
    assert "audit-c3d4e5 is of a model aligned after audit-77b0aa" in listed
    assert listed.count("audit-77b0aa") == 2 and listed.count("2026-11-23") == 2
