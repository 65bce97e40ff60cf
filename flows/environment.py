"""Where koda works, and how Prefect is to behave there: quiet, at home, and without calling anyone.

Prefect reads its settings when it is imported, so this comes first. What a user has set stays.
"""

from __future__ import annotations

import os
from pathlib import Path
from urllib.parse import quote

_DEFAULTS = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    # a failed task would print its traceback before koda says in words what is wrong
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    # a first start makes a database, which a busy machine may not do in the 20 seconds of the default
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "90",
    # else the history of the tasks is lost when the process ends
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "0.5",
    # the loading code of models is never to phone home about itself
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # beside torch's, a second pool of threads only fights
    "OPENBLAS_NUM_THREADS": "1",
    # threads that wait by spinning take the cores from those that work: several times slower on a shared machine
    "OMP_WAIT_POLICY": "passive",
}


def koda_home() -> Path:
    """KODA_HOME as an absolute path."""
    return Path(os.environ.get("KODA_HOME") or "koda-runs").expanduser().absolute()


def settle() -> None:
    """Set the defaults of the process, before prefect, torch or numpy are imported."""
    for name, value in _DEFAULTS.items():
        os.environ.setdefault(name, value)
    os.environ.setdefault("PREFECT_HOME", str(koda_home() / "prefect"))
    # Prefect puts the path into a URL as it is, where a percent sign or a question mark has a meaning
    path = f"{Path(os.environ['PREFECT_HOME']).expanduser()}/prefect.db"
    named = ("PREFECT_API_DATABASE_CONNECTION_URL", "PREFECT_SERVER_DATABASE_CONNECTION_URL")
    if quote(path) != path and not any(name in os.environ for name in named):
        os.environ[named[0]] = f"sqlite+aiosqlite:///{quote(path)}"


def make_prefect_home() -> None:
    """Make Prefect's own folder: it would make none above it, and then its server never answers."""
    Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)
