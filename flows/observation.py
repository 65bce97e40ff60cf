"""What Prefect knows of a run, and is told of it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any


def of_prefect() -> dict[str, Any]:
    """Return how the run that goes on is known to Prefect: its id, and the server, "" where that is its own."""
    from prefect.context import FlowRunContext
    from prefect.settings import PREFECT_API_URL

    with suppress(Exception):  # without Prefect an audit runs all the same
        context = FlowRunContext.get()
        if context is not None and context.flow_run is not None:
            return {"flow_run": str(context.flow_run.id), "server": PREFECT_API_URL.value() or ""}
    return {}
