"""The command tells those whom its configuration names, once for each verdict, and its secrets are written nowhere."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from flows.cli.app import app
from tests.catcher import catching
from tests.flows.workplace import Workplace, make_workplace

EVERY_VERDICT = ["pass", "warn", "fail", "inconclusive"]


def with_notify(place: Workplace, url: str, on: list[str]) -> None:
    settings = yaml.safe_load(place.config.read_text(encoding="utf-8"))
    settings["notify"] = [{"url": url, "on": on}]
    place.config.write_text(yaml.safe_dump(settings), encoding="utf-8")


def hold(folder: Path, secret: bytes) -> list[Path]:
    return [path for path in folder.rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_a_verdict_is_told_once_and_its_secrets_stay_in_the_environment(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = make_workplace(tmp_path)
    monkeypatch.setenv("KODA_TEST_TOKEN", "tok3n-of-a-service")
    with catching() as service:
        with_notify(place, service.url.replace("/hook", "/${KODA_TEST_TOKEN}"), EVERY_VERDICT)
        _, first, _ = place.run()
        _, again, _ = place.run()
        assert (again["id"], again["steps_executed"]) == (first["id"], 0)
        (message,) = service.received
    assert message["title"] == f"koda: {first['verdict'].upper()} new against old on pairs"
    assert first["id"] in message["message"] and first["paths"]["html"] in message["message"]
    assert hold(place.home, b"tok3n") == []
    assert hold(Path(os.environ.get("KODA_TEST_PREFECT", place.home)), b"tok3n") == []


def test_that_there_is_no_verdict_is_told(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    with catching() as service:
        with_notify(place, service.url, ["error"])
        (place.folder / "data" / "pairs.tsv").unlink()
        os.environ["KODA_HOME"] = str(place.home)
        done = CliRunner().invoke(app, ["audit", str(place.config)])
        assert done.exit_code == 2
        (message,) = service.received
    assert message["title"] == "koda: no verdict on new against old"
    assert "pairs.tsv" in message["message"]


def test_a_secret_in_the_file_stops_the_audit_before_it_begins(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    with_notify(place, "slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ", ["fail"])
    os.environ["KODA_HOME"] = str(place.home)
    done = CliRunner().invoke(app, ["audit", str(place.config)])
    assert done.exit_code == 2 and "written out" in done.stderr and "TIiajkd" not in done.stderr
    assert not place.home.exists()
