"""Runs that ended without a word: stored as crashed, and Prefect, which takes them for running still, told of it."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from flows.terminal import escape, notes, say
from koda.audit.runs import CRASHED, Run, crashed, note_crashed, take_untold
from koda.errors import StoreError
from koda.secrets import redact
from tasks.prefect_settings import ASK_ONCE, changed_settings, url_that_is_set

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

_SECONDS = 5  # that a server gets to take note


def show_crashed(home: Path) -> None:
    """Say which runs ended without a word, and take note of them where the home can be written."""
    for run in crashed(home):
        say(
            f"[yellow]crashed[/] {escape(run.audit)}, begun {run.started:%Y-%m-%d %H:%M} UTC on {escape(run.host)}: "
            "its process ended without a word; the same command again finishes it.",
            to=notes,
        )
    with contextlib.suppress(StoreError, OSError):
        note_crashed(home)


def take_note(home: Path) -> None:
    """As a run begins, store the runs that crashed in its home, and tell Prefect of them.

    The server in use is told at once, which takes milliseconds; another one meanwhile, if it is there.

    Raises:
        StoreError: the disk is full, read-only or forbidden.
    """
    note_crashed(home)
    if not (untold := take_untold(home)):
        return
    here = redact(url_that_is_set())
    _tell("", [run for run in untold if run.server == here])
    for server in {run.server for run in untold} - {here, ""}:
        of_it = [run for run in untold if run.server == server]
        threading.Thread(target=_tell, args=(server, of_it), daemon=True, name="koda-crashed").start()


def _tell(server: str, runs: Sequence[Run]) -> None:
    """Have a Prefect server, "" for the one in use, store runs as crashed, as far as it is there and knows them."""
    if not runs:
        return
    from httpx import TransportError
    from prefect.client.orchestration import get_client

    which = {"api.url": server} if server else {}
    with (
        contextlib.suppress(Exception),
        changed_settings({**ASK_ONCE, **which}),
        get_client(httpx_settings={"timeout": _SECONDS}, sync_client=True) as client,
    ):
        for run in runs:
            try:
                _set_crashed(client, run)
            except TransportError:
                return  # it is not there, nor will it be for the others
            except Exception:
                continue  # it does not know this one


def _set_crashed(client: SyncPrefectClient, run: Run) -> None:
    from uuid import UUID

    from prefect.states import Crashed

    flow_run = client.read_flow_run(UUID(run.flow_run))
    if flow_run.state is None or not flow_run.state.is_final():
        client.set_flow_run_state(flow_run.id, Crashed(message=CRASHED), force=True)
