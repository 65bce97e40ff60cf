"""What `koda doctor` says of Prefect: which server, which settings are heeded, and what stands in the way."""

from __future__ import annotations

import os
from importlib.util import find_spec

from flows.environment import make_prefect_home, profile_settings, profiles_path, without_proxies
from flows.prefect_database import fault_of
from koda.checks import Check
from koda.errors import MachineError


def look_at_prefect() -> list[Check]:
    """Look at the Prefect server that a run will use, at its settings, and at the proxies."""
    make_prefect_home()
    from prefect.settings import get_current_settings

    from flows.engine import ask_server

    settings = get_current_settings()
    checks = []
    if settings.api.url:
        try:
            ask_server()
        except MachineError as error:
            checks.append(Check("Prefect", "fault", error.message, error.remedy))
        else:
            checks.append(Check("Prefect", "ok", f"the server at {settings.api.url} answers ({_source()})"))
    else:
        limit = f"PREFECT_HOME={settings.home} prefect gcl create gpu --limit 1"
        checks.append(Check("Prefect", "ok", f"runs in process, no server is set; a limit of the GPU: {limit}"))
        fault = fault_of(settings.home / "prefect.db")
        if fault is not None:
            what = f"{settings.home / 'prefect.db'}: {fault}; the next run will set it aside"
            checks.append(Check("Prefect's database", "note", what))
    heeded = sorted(profile_settings())
    if heeded:
        checks.append(Check("Prefect's profile", "ok", f"{profiles_path()} sets {', '.join(heeded)}"))
    return checks + _proxies()


def _source() -> str:
    return "set in the environment" if "PREFECT_API_URL" in os.environ else "set in a profile or a prefect.toml"


def _proxies() -> list[Check]:
    proxies = {name: url for name, url in os.environ.items() if name not in without_proxies(os.environ) and url}
    socks = [name for name, url in proxies.items() if url.startswith("socks")]
    if socks and find_spec("socksio") is None:
        what = f"{', '.join(socks)} names a SOCKS proxy; downloads through it need a package, an audit does not"
        return [Check("proxies", "note", what, "pip install 'httpx[socks]'")]
    if proxies:
        return [
            Check("proxies", "ok", f"{', '.join(sorted(proxies))}, for downloads; this machine is reached directly")
        ]
    return []
