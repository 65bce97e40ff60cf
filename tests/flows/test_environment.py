"""What the import of `flows` settles, for the command and for whoever calls a flow from Python."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from flows.environment import is_loopback

_PREFECT = (
    "import json, os; from prefect.settings import get_current_settings as now; s = now(); "
    "print(json.dumps({'home': str(s.home), 'url': s.api.url, 'level': s.logging.level, "
    "'analytics': s.server.analytics_enabled, **os.environ}))"
)
_VARIABLES = "import json, os; print(json.dumps(dict(os.environ)))"


def told(folder: Path, before: str = "import flows", after: str = _VARIABLES, **variables: str) -> dict[str, object]:
    """Return what a Python of a user has settled after an import, of `folder`, his home."""
    kept = {name: os.environ[name] for name in ("PATH", "PYTHONPATH") if name in os.environ}
    environment = {**kept, "HOME": str(folder), "KODA_HOME": str(folder / "runs"), **variables}
    done = subprocess.run(
        [sys.executable, "-c", f"{before}; {after}"], env=environment, capture_output=True, text=True, check=True
    )
    return dict(json.loads(done.stdout), warned=done.stderr)


@pytest.mark.parametrize("before", ["import flows", "import prefect; import flows"])
def test_prefect_lives_in_koda_home_and_calls_nobody_whoever_is_imported_first(tmp_path: Path, before: str) -> None:
    found = told(tmp_path, before, _PREFECT)
    assert (found["home"], found["analytics"]) == (str(tmp_path / "runs" / "prefect"), False)
    assert (found["OMP_WAIT_POLICY"], found["level"]) == ("passive", "CRITICAL")
    assert "no_proxy" not in found


def test_what_a_user_has_set_stays(tmp_path: Path) -> None:
    found = told(tmp_path, PREFECT_HOME=str(tmp_path / "mine"), PREFECT_LOGGING_LEVEL="DEBUG", OMP_WAIT_POLICY="active")
    assert found["PREFECT_HOME"] == str(tmp_path / "mine")
    assert (found["PREFECT_LOGGING_LEVEL"], found["OMP_WAIT_POLICY"]) == ("DEBUG", "active")


def test_the_active_profile_of_the_users_prefect_is_heeded(tmp_path: Path) -> None:
    (tmp_path / ".prefect").mkdir()
    (tmp_path / ".prefect" / "profiles.toml").write_text(
        'active = "team"\n[profiles.team]\nPREFECT_API_URL = "http://team:4200/api"\nPREFECT_LOGGING_LEVEL = "ERROR"\n'
        '[profiles.alone]\nPREFECT_LOGGING_LEVEL = "INFO"\n',
        encoding="utf-8",
    )
    found = told(tmp_path, after=_PREFECT)
    assert (found["url"], found["level"]) == ("http://team:4200/api", "ERROR")
    assert (found["home"], found["analytics"]) == (str(tmp_path / "runs" / "prefect"), False)
    alone = told(tmp_path, after=_PREFECT, PREFECT_PROFILE="alone")
    assert (alone["url"], alone["level"]) == (None, "INFO")


def test_torch_that_was_imported_before_is_told_of(tmp_path: Path) -> None:
    early = "import sys, types; sys.modules['torch'] = types.ModuleType('torch'); import flows"
    assert "torch was imported before flows" in str(told(tmp_path, early)["warned"])
    assert told(tmp_path, early, OMP_WAIT_POLICY="passive")["warned"] == ""


def test_this_machine_is_excepted_from_proxies_and_what_was_excepted_stays(tmp_path: Path) -> None:
    proxy = "http://proxy.example:3128"
    found = told(tmp_path, HTTP_PROXY=proxy)
    assert found["NO_PROXY"] == found["no_proxy"] == "127.0.0.1,localhost,::1"
    found = told(tmp_path, all_proxy=proxy, NO_PROXY="intranet, localhost")
    assert found["NO_PROXY"] == found["no_proxy"] == "intranet,localhost,127.0.0.1,::1"
    assert told(tmp_path, HTTPS_PROXY=proxy, no_proxy="*")["no_proxy"] == "*"


@pytest.mark.parametrize("proxy", ["socks5://127.0.0.1:9", "socks4://127.0.0.1:9", "http://127.0.0.1:9"])
def test_a_client_of_prefect_reaches_this_machine_whatever_proxy_is_set(tmp_path: Path, proxy: str) -> None:
    make = (
        "import flows.engine; from prefect.client.orchestration import SyncPrefectClient as Client; "
        "Client('http://127.0.0.1:4200/api')"
    )
    told(tmp_path, make, ALL_PROXY=proxy)


def test_addresses_of_this_machine_are_known() -> None:
    for url in ("http://localhost:4200/api", "http://127.0.0.1/", "http://[::1]:8", "http://0.0.0.0:4200/api"):
        assert is_loopback(url)
    for url in ("https://api.prefect.cloud/api", "http://localhost.example:4200", "", "no url"):
        assert not is_loopback(url)
