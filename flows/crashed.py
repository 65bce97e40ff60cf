"""Runs that ended without a word: stored as crashed, and Prefect, which takes them for running still, told of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from koda.audit.runs import CRASHED, Run, note_crashed

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_SECONDS = 5  # that a server gets to take note


def take_note(home: Path) -> list[Run]:
    """Store the runs that crashed in a home, tell Prefect of them, and return them.

    The server in use is told at once, which takes milliseconds; another one meanwhile, if it is there.

    Raises:
        StoreError: the disk is full, read-only or forbidden.
    """
    lost = note_crashed(home)
    known = [run for run in lost if run.flow_run is not None]
    if known:
        from prefect.settings import PREFECT_API_URL

        here = PREFECT_API_URL.value() or ""
        _tell(here, [run for run in known if run.server == here])
        for server in {run.server for run in known} - {here, ""}:
            of_it = [run for run in known if run.server == server]
            threading.Thread(target=_tell, args=(server, of_it), daemon=True, name="koda-crashed").start()
    return lost


def _tell(server: str, runs: Sequence[Run]) -> None:
    """Have a Prefect server store runs as crashed, as far as it is there and knows them."""
    if not runs:
        return
    from prefect.client.orchestration import get_client
    from prefect.settings import PREFECT_API_URL, PREFECT_CLIENT_MAX_RETRIES, temporary_settings

    which = {PREFECT_API_URL: server} if server else {}
    with (
        contextlib.suppress(Exception),
        temporary_settings({PREFECT_CLIENT_MAX_RETRIES: 0, **which}),
        get_client(httpx_settings={"timeout": _SECONDS}, sync_client=True) as client,
    ):
        for run in runs:
            with contextlib.suppress(Exception):
                _set_crashed(client, run)


def _set_crashed(client: SyncPrefectClient, run: Run) -> None:
    from uuid import UUID

    from prefect.states import Crashed

    flow_run = client.read_flow_run(UUID(run.flow_run))
    if flow_run.state is None or not flow_run.state.is_final():
        client.set_flow_run_state(flow_run.id, Crashed(message=CRASHED), force=True)
