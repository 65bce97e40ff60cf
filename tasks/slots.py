"""Places in Prefect's concurrency limits `gpu` and `koda-home`, which are made when they are first needed.

A place is a lock of the kernel's in KODA_HOME, of as many as the limit says, and free the moment its holder is killed.
On a Prefect server that is set it is leased too, for all homes that use the server, and comes free there a minute
later. The server that a command starts for itself forgets its leases when it ends, and would keep the place of a killed
command for ever: so there the lock is all. It holds between `koda serve` and a command without its server too.
"""

from __future__ import annotations

import contextlib
import os
import random
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from koda.errors import MachineError
from koda.storage import ArtifactStore
from tasks.prefect_settings import ASK_ONCE, changed_settings, url_that_is_set
from tasks.waiting import not_counted

if TYPE_CHECKING:
    from prefect.client.orchestration import SyncPrefectClient

GPU, HOME = "gpu", "koda-home"
_LEASE_SECONDS = 60
_SECONDS_BEFORE_TOLD = 3
_SECONDS_BETWEEN_LOOKS = 0.3


def places_of_home() -> int:
    """Return how many runs work in one home at once unless the limit says otherwise: memory is what they share."""
    return max(2, (os.cpu_count() or 1) // 4)


@contextlib.contextmanager
def place(name: str, home: Path, default: int, tell: Callable[[], object]) -> Iterator[None]:
    """Hold a place in a concurrency limit; who has to wait for one is told after some seconds, and not timed.

    Args:
        name: of the limit. One of that name that is there already is left as it is.
        home: KODA_HOME.
        default: how many places the limit is made with.
        tell: is called when there has been no place for some seconds.
    """
    waiting = threading.Timer(_SECONDS_BEFORE_TOLD, tell)
    waiting.daemon = True
    waiting.start()
    with contextlib.ExitStack() as held:
        try:
            with not_counted():
                if url_that_is_set():
                    limit_of(name, default)
                    held.enter_context(_leased(name))
                held.enter_context(_locked(name, home, default))
        finally:
            waiting.cancel()
        yield


def limit_of(name: str, default: int) -> int | None:
    """Return how many places a concurrency limit of Prefect's has, and make it where there is none.

    Args:
        name: of the limit.
        default: its places, if it has to be made.

    Returns:
        Their number; None where the limit is switched off.
    """
    from prefect.client.orchestration import get_client
    from prefect.client.schemas.actions import GlobalConcurrencyLimitCreate
    from prefect.exceptions import ObjectAlreadyExists

    with get_client(sync_client=True) as client:
        found = _read(client, name)
        if found is None:
            with contextlib.suppress(ObjectAlreadyExists):  # another run was quicker
                client.create_global_concurrency_limit(GlobalConcurrencyLimitCreate(name=name, limit=default))
            found = _read(client, name)
    if found is None:
        return default
    return int(found.limit) if found.active else None


def _read(client: SyncPrefectClient, name: str) -> Any:
    from prefect.exceptions import ObjectNotFound

    try:
        return client.read_global_concurrency_limit_by_name(name)
    except ObjectNotFound:
        return None


@contextlib.contextmanager
def _leased(name: str) -> Iterator[None]:
    """Hold a place on the server that is set; a server that is lost meanwhile stops no work."""
    from prefect.concurrency._asyncio import ConcurrencySlotAcquisitionError
    from prefect.concurrency.sync import concurrency

    lease = concurrency(
        name, occupy=1, strict=True, lease_duration=_LEASE_SECONDS, raise_on_lease_renewal_failure=False
    )
    try:
        lease.__enter__()
    except ConcurrencySlotAcquisitionError as error:
        raise MachineError(
            f"Prefect's server gave no place in its concurrency limit {name}: {error}.",
            f"prefect gcl inspect {name} shows it.",
        ) from error
    try:
        yield
    finally:
        with contextlib.suppress(Exception):
            lease.__exit__(None, None, None)


@contextlib.contextmanager
def _locked(name: str, home: Path, default: int) -> Iterator[None]:
    """Hold one of as many locks as the limit has places; it is free again when its holder is killed."""

    def look() -> int | None:
        # a server that was killed, perhaps again and again, stops no work
        with contextlib.suppress(Exception), changed_settings(ASK_ONCE):
            return limit_of(name, default)
        return default

    if (places := look()) is None:
        yield
        return
    store = ArtifactStore(home / "artifacts")
    while True:
        for number in range(default if places is None else places):
            with store.lock_if_free("slot", f"{name}-{number}") as free:
                if free:
                    yield
                    return
        time.sleep(_SECONDS_BETWEEN_LOOKS * random.uniform(0.7, 1.3))
        places = look()
