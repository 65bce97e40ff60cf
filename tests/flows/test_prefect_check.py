"""What `koda doctor` says of Prefect and of the proxies."""

from __future__ import annotations

from pathlib import Path

import pytest
from prefect.settings import PREFECT_API_URL, PREFECT_HOME, temporary_settings

from flows.prefect_check import look_at_prefect
from koda.checks import Check
from tests import prefect_server


@pytest.fixture(autouse=True)
def _no_proxy(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def looked() -> dict[str, Check]:
    return {check.name: check for check in look_at_prefect()}


def test_a_server_that_does_not_answer_is_a_fault_and_one_that_does_is_named() -> None:
    prefect_server.start()
    found = looked()["Prefect"]
    assert (found.state, "answers (set in the environment)" in found.found) == ("ok", True)
    with temporary_settings({PREFECT_API_URL: "http://127.0.0.1:9/api"}):
        found = looked()["Prefect"]
    assert (found.state, "http://127.0.0.1:9/api" in found.found) == ("fault", True)
    assert found.remedy is not None and "unset PREFECT_API_URL" in found.remedy


def test_without_a_server_it_is_said_where_limits_lie_and_that_the_database_is_damaged(tmp_path: Path) -> None:
    (tmp_path / "prefect.db").write_bytes(b"no database" * 1000)
    with temporary_settings({PREFECT_HOME: tmp_path}, restore_defaults={PREFECT_API_URL}):
        found = looked()
    assert f"PREFECT_HOME={tmp_path} prefect gcl create gpu" in found["Prefect"].found
    assert found["Prefect's database"].state == "note"
    assert (tmp_path / "prefect.db").is_file()  # looking changes nothing


def test_a_proxy_that_needs_a_package_is_told_with_the_command(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", "http://me:secret@proxy.example:3128")
    assert looked()["proxies"].state == "ok"
    monkeypatch.setenv("ALL_PROXY", "socks5://me:secret@127.0.0.1:1080")
    monkeypatch.setattr("flows.prefect_check.find_spec", lambda _: None)
    found = looked()["proxies"]
    assert (found.state, found.remedy) == ("note", "pip install 'httpx[socks]'")
    assert "ALL_PROXY" in found.found and "secret" not in str(found)


def test_the_settings_of_the_active_profile_are_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    profiles = tmp_path / "profiles.toml"
    profiles.write_text('active = "team"\n[profiles.team]\nPREFECT_API_KEY = "secret"\n', encoding="utf-8")
    monkeypatch.setenv("PREFECT_PROFILES_PATH", str(profiles))
    found = looked()["Prefect's profile"].found
    assert found == f"{profiles} sets PREFECT_API_KEY"
