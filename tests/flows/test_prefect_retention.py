"""What koda prune removes of Prefect: of its own alone."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from prefect.settings import PREFECT_HOME, PREFECT_SERVER_DATABASE_CONNECTION_URL, temporary_settings

from flows import prefect_retention
from flows.prefect_retention import forget


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / "prefect" / "storage").mkdir(parents=True)
    (tmp_path / "prefect" / "storage" / "koda-made-embed-abc").touch()
    (tmp_path / "prefect" / "prefect.db").touch()
    return tmp_path


@pytest.mark.parametrize(
    "settings",
    [
        {PREFECT_HOME: "elsewhere"},
        {PREFECT_SERVER_DATABASE_CONNECTION_URL: "postgresql+asyncpg://team@host/prefect"},
    ],
    ids=["another home", "another database"],
)
def test_nothing_is_done_to_a_prefect_of_others(home: Path, settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(prefect_retention, "_forget_runs", lambda *_: pytest.fail("runs of others were deleted"))
    with temporary_settings({PREFECT_HOME: home / "prefect", **settings}):
        assert forget(home, timedelta(days=1)) == []
    assert (home / "prefect" / "storage" / "koda-made-embed-abc").exists()


def test_results_whose_artifact_is_gone_are_removed(home: Path) -> None:
    with temporary_settings({PREFECT_HOME: home / "prefect"}):
        assert forget(home, None) == ["1 record of pruned artifacts removed from Prefect's results."]
