"""Two commands at once on one KODA_HOME: both reports come out, and nothing is written twice or torn."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tests import prefect_server
from tests.flows.workplace import make_workplace


def test_two_audits_of_one_configuration_at_once_both_come_out(tmp_path: Path) -> None:
    place = make_workplace(tmp_path)
    environment = {**prefect_server.without(), "KODA_HOME": str(place.home), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-c", "from flows.cli import main; main()", "audit", str(place.config), "--json"]
    running = [
        subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    ended = [(process, *process.communicate(timeout=300)) for process in running]
    results = []
    for process, out, told in ended:
        assert process.returncode in (0, 1), told
        results.append(json.loads(out))
    assert results[0]["id"] == results[1]["id"]
    executed = [step["name"] for result in results for step in result["steps"] if step["executed"]]
    assert sorted(executed) == sorted(step["name"] for step in results[0]["steps"])  # each once, by one of the two
    folder = Path(results[0]["paths"]["folder"])
    assert json.loads((folder / "audit.json").read_bytes())["id"] == results[0]["id"]
    check = subprocess.run(
        [sys.executable, "-c", "from flows.cli import main; main()", "verify", str(folder)],
        env=environment, capture_output=True, text=True,
    )  # fmt: skip
    assert check.returncode == 0, check.stderr
    marks = list((place.home / "artifacts" / "embeddings").glob("*/complete.json"))
    assert len(marks) == 2
    assert not list(place.home.rglob("*.tmp"))
