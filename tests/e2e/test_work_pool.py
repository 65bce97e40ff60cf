"""prefect.yaml as it stands: deployed to work pools, and a run of it done by a worker of type process."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from pathlib import Path
from typing import Any

from koda.storage.database import AuditStore
from tests import prefect_server
from tests.flows.workplace import make_workplace

_ROOT = Path(__file__).parents[2]


def test_a_worker_runs_what_prefect_yaml_deploys(tmp_path: Path) -> None:
    prefect_server.start()
    place = make_workplace(tmp_path / "work")
    project = tmp_path / "project"
    project.mkdir()
    text = (_ROOT / "prefect.yaml").read_text(encoding="utf-8")
    for path, own in (("/srv/koda/audit.yaml", place.config), ("/srv/koda/koda-runs", place.home)):
        assert path in text
        text = text.replace(path, str(own))  # all that is to be adapted
    (project / "prefect.yaml").write_text(text, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": str(_ROOT), "OMP_NUM_THREADS": "1"}
    del environment["KODA_HOME"]  # which is the worker's to set

    def prefect(*arguments: str) -> None:
        done = subprocess.run(
            [sys.executable, "-m", "prefect", "--no-prompt", *arguments],
            cwd=project, env=environment, capture_output=True, text=True, timeout=300,
        )  # fmt: skip
        assert done.returncode == 0, done.stdout + done.stderr

    def ask(path: str, body: Any) -> Any:
        request = urllib.request.Request(
            os.environ["PREFECT_API_URL"] + path, json.dumps(body).encode(), {"content-type": "application/json"}
        )
        with urllib.request.urlopen(request, timeout=30) as answer:
            return json.load(answer)

    prefect("work-pool", "create", "koda", "--type", "process")
    prefect("deploy", "--name", "process", "--name", "checkpoints")
    deployed = {f"{each['name']} {each['entrypoint']}": each for each in ask("/deployments/filter", {})}
    assert sorted(deployed) == [
        "checkpoints flows.deployments.checkpoint", "checkpoints flows.deployments.watch",
        "process flows.deployments.audit",
    ]  # fmt: skip
    audit = deployed["process flows.deployments.audit"]
    assert set(audit["parameter_openapi_schema"]["properties"]) == {"config", "home", "candidate", "overrides"}
    (schedule,) = audit["schedules"]
    assert schedule["schedule"]["cron"] == "0 3 * * *"

    prefect("deployment", "run", "koda-audit/process", "--param", 'overrides={"discrepancy.n_directions": "1"}')
    prefect("worker", "start", "--pool", "koda", "--run-once")
    runs = ask("/flow_runs/filter", {"deployments": {"id": {"any_": [audit["id"]]}}})
    (run,) = [each for each in runs if each["state_type"] != "SCHEDULED"]
    assert run["state_type"] == "COMPLETED", run["state"]
    assert run["name"] == "new vs old on pairs"
    store = AuditStore(place.home)
    (row,) = store.query("SELECT state FROM runs")
    assert row["state"] == "finished"
    (folder,) = (place.home / "audits").iterdir()
    assert len(json.loads((folder / "audit.json").read_bytes())["findings"]) <= 2
    assert (folder / "report.html").is_file()
