"""Where Prefect keeps its own files."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests import prefect_server
from tests.flows.workplace import make_workplace


def test_a_home_for_prefect_that_is_not_there_is_made(tmp_path: Path) -> None:
    """Its server would not start in one whose parent is missing, and the audit would wait for it in vain."""
    place = make_workplace(tmp_path)
    environment = {
        **prefect_server.without(), "KODA_HOME": str(place.home), "OMP_NUM_THREADS": "1",
        "PREFECT_HOME": str(tmp_path / "not" / "there" / "prefect"),
    }  # fmt: skip
    command = [sys.executable, "-c", "from flows.cli import main; main()", "audit", str(place.config), "--json"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300)
    assert done.returncode in (0, 1), done.stderr
    assert json.loads(done.stdout)["verdict"] in ("pass", "warn", "fail", "inconclusive")
