"""Runs: each leaves a mark while it goes on, so that one that ended without a word is noticed by the next.

A mark names what the run needs, and lies in `running/` under KODA_HOME as long as the kernel's lock on it is held; a
mark whose lock is free is of a run that crashed.
"""

from __future__ import annotations

import contextlib
import json
import os
import socket
import uuid
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from koda.storage import ArtifactStore, digest_json, write_atomically
from koda.storage.staging import stage
from koda.storage.writing import remove_unfinished

RUNNING = "running"
#: runs that go on in this process, by id, each with its home
_of_this_process: dict[str, tuple[Path, Run]] = {}
#: whoever begins a run, ends one, or removes what no run needs, holds this lock for a moment
_BOOK = ("runs", "book")
_LOCK = "run"
_UNTOLD = ".crashed-"
CRASHED = "The process ended without a word: it was killed, or the machine went down."


@dataclass(frozen=True)
class Run:
    """One run of an audit.

    Args:
        id: of the run.
        audit: id of what is run.
        started: when.
        process, host: where.
        trigger: what began it: command, schedule, checkpoint, api, sweep, alignment, or library.
        artifacts: kind and key of everything that it reads or makes.
        flow_run: Prefect's id of it, where it has one.
        server: address of the Prefect server that knows it, "" where that is the run's own.
    """

    id: str
    audit: str
    started: datetime
    process: int
    host: str
    trigger: str
    artifacts: tuple[tuple[str, str], ...]
    flow_run: str | None = None
    server: str = ""

    def to_json(self) -> bytes:
        """Return the mark."""
        content = json.loads(json.dumps({**asdict(self), "started": self.started.isoformat()}))
        return json.dumps({**content, "seal": digest_json(content)}).encode()

    @classmethod
    def from_json(cls, data: bytes) -> Run:
        """Read a mark.

        Raises:
            ValueError: it is not what koda wrote.
        """
        try:
            raw: dict[str, Any] = json.loads(data)
            if raw.pop("seal") != digest_json(raw):
                raise ValueError("its seal is of other content")
            started = datetime.fromisoformat(raw.pop("started"))
            artifacts = tuple((str(kind), str(key)) for kind, key in raw.pop("artifacts"))
            return cls(**raw, started=started, artifacts=artifacts)
        except (TypeError, KeyError, AttributeError) as error:
            raise ValueError(str(error)) from error

    def row(self, state: str, ended: datetime, **more: Any) -> dict[str, Any]:
        """Return its row in the database.

        Args:
            state: finished, failed, cancelled, timed out, or crashed.
            ended: when.
            more: columns that are known of a run that came to its end.
        """
        columns = dict.fromkeys(("verdict", "steps_executed", "steps_cached", "error"))
        known = {
            "run_id": self.id,
            "audit_id": self.audit,
            "started": self.started,
            "ended": ended,
            "seconds": (ended - self.started).total_seconds(),
            "state": state,
            "trigger": self.trigger,
            "host": self.host,
            "flow_run": self.flow_run,
        }
        return {**columns, **known, **more}


@dataclass(frozen=True)
class StepCost:
    """What a step of a run took.

    Args:
        name: of the step.
        executed: whether this run had to execute it.
        seconds: of wall time.
        peak_bytes: most memory of the process while it ran; None where that is not known.
        peak_device_bytes: most memory of the GPU that torch held for it.
        device: that it ran on.
    """

    name: str
    executed: bool
    seconds: float
    peak_bytes: int | None = None
    peak_device_bytes: int | None = None
    device: str | None = None


def step_rows(run: Run, steps: Sequence[StepCost]) -> list[dict[str, Any]]:
    """Return the rows of a run's steps."""
    return [
        {
            "run_id": run.id,
            "audit_id": run.audit,
            "place": place,
            "step": step.name,
            "executed": step.executed,
            "seconds": step.seconds,
            "peak_bytes": step.peak_bytes,
            "peak_device_bytes": step.peak_device_bytes,
            "device": step.device,
        }
        for place, step in enumerate(steps)
    ]


@contextlib.contextmanager
def running(
    home: Path,
    audit: str,
    artifacts: Iterable[tuple[str, str]],
    *,
    trigger: str = "library",
    flow_run: str | None = None,
    server: str = "",
) -> Iterator[Run]:
    """Mark a run while it goes on; one that ends by an exception is stored as failed, cancelled or timed out.

    Args:
        home: KODA_HOME.
        audit, artifacts, trigger, flow_run, server: see :class:`Run`.

    Raises:
        StoreError: the disk is full, read-only or forbidden.
    """
    run = Run(
        uuid.uuid4().hex, audit, datetime.now(UTC), os.getpid(), socket.gethostname(), trigger,
        tuple(artifacts), flow_run, server,
    )  # fmt: skip
    store, mark = ArtifactStore(home / "artifacts"), _mark(home, run.id)
    remove_unfinished(home)
    with contextlib.ExitStack() as held:
        with book(home):
            held.enter_context(store.lock(_LOCK, run.id))
            write_atomically(mark, run.to_json())
        _of_this_process[run.id] = home, run
        try:
            yield run
        except BaseException as error:
            with contextlib.suppress(Exception):  # what went wrong is said by whoever hears of the error
                stage(home, {"runs": [run.row(state_of(error), datetime.now(UTC), error=_first_line(error))]})
            raise
        finally:
            _of_this_process.pop(run.id, None)
            with contextlib.suppress(OSError):
                mark.unlink(missing_ok=True)
            store.forget_lock(_LOCK, run.id)


def needs_also(home: Path, run: Run, artifacts: Iterable[tuple[str, str]]) -> Run:
    """Add to the mark of a run what is known only now that it needs; return the run as it is marked then.

    Raises:
        StoreError: the disk is full, read-only or forbidden.
    """
    more = replace(run, artifacts=tuple(dict.fromkeys([*run.artifacts, *artifacts])))
    with book(home):
        write_atomically(_mark(home, run.id), more.to_json())
    return more


def end_without_word(state: str, why: str) -> None:
    """Store the runs of this process as ended, and take their marks away: the process is about to be ended by force.

    Args:
        state: as in :meth:`Run.row`.
        why: in words.
    """
    for home, run in list(_of_this_process.values()):
        with contextlib.suppress(Exception):
            stage(home, {"runs": [run.row(state, datetime.now(UTC), error=why)]})
            _mark(home, run.id).unlink(missing_ok=True)


@contextlib.contextmanager
def book(home: Path) -> Iterator[None]:
    """Hold the lock under which marks are written and read, for a moment."""
    with ArtifactStore(home / "artifacts").lock(*_BOOK):
        yield


def running_now(home: Path) -> list[Run]:
    """Return the runs that go on; the caller holds :func:`book` where it acts on that."""
    return [run for run, alive in _looked_at(home) if alive]


def crashed(home: Path) -> list[Run]:
    """Return the runs that ended without a word, and were not taken note of yet; nothing is written."""
    return [run for run, alive in _looked_at(home) if not alive]


def note_crashed(home: Path) -> list[Run]:
    """Store the runs that ended without a word as crashed, and return them.

    Raises:
        StoreError: the disk is full, read-only or forbidden.
    """
    if not crashed(home):
        return []
    with book(home):
        lost = crashed(home)
        for run in lost:
            last = datetime.fromtimestamp(_mark(home, run.id).stat().st_mtime, UTC)  # when it was known to go on
            stage(home, {"runs": [run.row("crashed", last, error=CRASHED)]})
            if run.flow_run is None:
                _mark(home, run.id).unlink(missing_ok=True)
            else:
                _mark(home, run.id).rename(_untold(home, run.id))
            ArtifactStore(home / "artifacts").forget_lock(_LOCK, run.id)
    return lost


def take_untold(home: Path) -> list[Run]:
    """Return the crashed runs, taken note of, that Prefect takes for running still; each is returned once."""
    found = []
    for path in sorted((home / RUNNING).glob(f"{_UNTOLD}*.json")):
        with contextlib.suppress(OSError, ValueError):
            found.append(Run.from_json(path.read_bytes()))
        path.unlink(missing_ok=True)
    return found


def _looked_at(home: Path) -> Iterator[tuple[Run, bool]]:
    """Yield every marked run, and whether it goes on."""
    store = ArtifactStore(home / "artifacts")
    for path in sorted((home / RUNNING).glob("[!.]*.json")):
        try:
            run = Run.from_json(path.read_bytes())
        except (OSError, ValueError):
            continue
        alive = store.is_held(_LOCK, run.id)
        if alive or path.exists():  # one that has ended meanwhile took its mark away before its lock
            yield run, alive


def _mark(home: Path, run: str) -> Path:
    return home / RUNNING / f"{run}.json"


def _untold(home: Path, run: str) -> Path:
    return home / RUNNING / f"{_UNTOLD}{run}.json"


def state_of(error: BaseException) -> str:
    """Return the state of a run that an exception ended: what says `run_state` knows, of what it came from too."""
    here: BaseException | None = error
    seen: list[BaseException] = []
    while here is not None and here not in seen:
        if isinstance(state := getattr(here, "run_state", None), str):
            return state
        seen.append(here)
        here = here.__cause__ or here.__context__
    return "failed" if isinstance(error, Exception) else "cancelled"


def _first_line(error: BaseException) -> str:
    from koda.secrets import redact

    return redact((str(error).splitlines() or [type(error).__name__])[0])
