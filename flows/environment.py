"""Where koda works, and how Prefect is to behave there: quiet, at home, and without calling anyone.

Prefect, torch and numpy read these settings when they are imported, so this comes first: with the import of `flows`.
What a user has set stays, in the environment or in the active profile of his own Prefect.
"""

from __future__ import annotations

import os
import sys
import tomllib
import warnings
from collections.abc import Mapping
from ipaddress import ip_address
from pathlib import Path
from urllib.parse import urlsplit

_PREFECT = {
    "PREFECT_SERVER_ANALYTICS_ENABLED": "false",
    "DO_NOT_TRACK": "1",
    "PREFECT_SERVER_LOGGING_LEVEL": "CRITICAL",
    # a failed task would print its traceback before koda says in words what is wrong
    "PREFECT_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_INTERNAL_LOGGING_LEVEL": "CRITICAL",
    "PREFECT_LOGGING_TO_API_ENABLED": "false",
    "PREFECT_CLI_PROMPT": "false",
    # where no server is set, a run starts its own
    "PREFECT_SERVER_EPHEMERAL_ENABLED": "true",
    # a first start makes a database, which a busy machine may not do in the 20 seconds of the default; a server that
    # ends instead is noticed at once
    "PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS": "300",
    # else the history of the tasks is lost when the process ends. Prefect cuts the seconds to whole ones, and with none
    # its server looks again without a pause, which takes a whole core
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_READ_BATCH_SIZE": "200",
    "PREFECT_SERVER_SERVICES_TASK_RUN_RECORDER_FLUSH_INTERVAL": "1",
}
_OTHERS = {
    # the loading code of models is never to phone home about itself
    "HF_HUB_DISABLE_TELEMETRY": "1",
    # beside torch's, a second pool of threads only fights
    "OPENBLAS_NUM_THREADS": "1",
    # threads that wait by spinning take the cores from those that work: several times slower on a shared machine
    "OMP_WAIT_POLICY": "passive",
}
_LOOPBACK = ("127.0.0.1", "localhost", "::1")
_PROXIES = ("http_proxy", "https_proxy", "all_proxy")


def koda_home() -> Path:
    """KODA_HOME as an absolute path."""
    return Path(os.environ.get("KODA_HOME") or "koda-runs").expanduser().absolute()


def settle() -> None:
    """Set the defaults of the process, before prefect, torch or numpy are imported.

    Where Prefect was imported before, it reads its settings again; where torch was, a warning says what is too late.
    """
    late = "torch" in sys.modules and "OMP_WAIT_POLICY" not in os.environ
    for name, value in _OTHERS.items():
        os.environ.setdefault(name, value)
    if late:
        warnings.warn(
            "torch was imported before flows: its threads wait by spinning, which is several times slower on a shared "
            "machine. Import flows first, or set OMP_WAIT_POLICY=passive in the environment.",
            stacklevel=3,
        )
    _reach_loopback_directly()
    if "PREFECT__FLOW_RUN_ID" in os.environ:
        return  # a worker of the user's runs this flow, with settings of its own
    theirs = profile_settings()
    for name, value in _PREFECT.items():
        if name not in theirs:
            os.environ.setdefault(name, value)
    if "PREFECT_HOME" not in os.environ and "PREFECT_HOME" not in theirs:
        if profiles_path().is_file():
            os.environ.setdefault("PREFECT_PROFILES_PATH", str(profiles_path()))
        os.environ["PREFECT_HOME"] = str(koda_home() / "prefect")
    if "prefect.context" in sys.modules:
        make_prefect_home()
        sys.modules["prefect.context"].refresh_global_settings_context()


def profiles_path() -> Path:
    """Return where the user's Prefect keeps its profiles."""
    home = os.environ.get("PREFECT_HOME") or "~/.prefect"
    return Path(os.environ.get("PREFECT_PROFILES_PATH") or Path(home) / "profiles.toml").expanduser()


def profile_settings() -> Mapping[str, str]:
    """Return what the user's active Prefect profile sets: `prefect config set` writes it there."""
    try:
        profiles = tomllib.loads(profiles_path().read_text(encoding="utf-8"))
        active = os.environ.get("PREFECT_PROFILE") or profiles.get("active")
        settings = profiles.get("profiles", {}).get(active, {})
    except (OSError, ValueError, AttributeError):
        return {}  # Prefect says itself that it cannot read them
    return settings if isinstance(settings, dict) else {}


def make_prefect_home() -> None:
    """Make Prefect's own folder: it would make none above it, and then its server never answers."""
    if "PREFECT_HOME" in os.environ:
        from koda.storage.places import check_place

        check_place(Path(os.environ["PREFECT_HOME"]))
        Path(os.environ["PREFECT_HOME"]).mkdir(parents=True, exist_ok=True)


def without_proxies(environment: Mapping[str, str]) -> dict[str, str]:
    """Return an environment without proxies, for a process that talks to nobody outside this machine."""
    return {name: value for name, value in environment.items() if name.lower() not in _PROXIES}


def is_loopback(url: str) -> bool:
    """Tell whether a URL is on this machine."""
    host = urlsplit(url).hostname or ""
    try:
        return host == "localhost" or ip_address(host).is_loopback or ip_address(host).is_unspecified
    except ValueError:
        return False


def _reach_loopback_directly() -> None:
    """Except this machine's own addresses from the proxies: Prefect's server listens there."""
    if not any(name.lower() in _PROXIES for name in os.environ):
        return
    either = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    for name in ("no_proxy", "NO_PROXY"):
        hosts = [host.strip() for host in (os.environ.get(name) or either).split(",") if host.strip()]
        if "*" not in hosts:
            os.environ[name] = ",".join([*hosts, *(host for host in _LOOPBACK if host not in hosts)])
