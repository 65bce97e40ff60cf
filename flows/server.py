"""The Prefect server that a run starts for itself where none is set.

Prefect can start one too (`SubprocessASGIServer`). This one stands in its place, and differs in what people met: it
ends with its parent however that ends, it is not reached by the Ctrl-C that is meant for the parent, it is talked to
without proxies, its database may lie at any path, a database that it cannot use is set aside, and it is started again
when it is killed. A command begins it beside its first work, before Prefect is imported: its imports are what a short
run waits for.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from shutil import disk_usage
from typing import Any

from filelock import FileLock

from flows.environment import without_proxies
from flows.failures import FULL_BELOW_BYTES
from flows.prefect_database import fault_of, is_up_to_date, set_aside
from flows.server_process import NOT_STARTED
from flows.server_settings import ServerSettings
from flows.terminal import escape, notes, say
from koda.errors import MachineError
from koda.storage.writing import explain_os_errors

_SCRIPT = Path(__file__).with_name("server_process.py")
_MOST_RESTARTS = 3
_SECONDS_TO_END = 5
_USUAL_PORT = 4200
_MIGRATE = "PREFECT_SERVER_DATABASE_MIGRATE_ON_START"
_SECONDS_TO_FORGIVE = 600  # one that ran so long was not killed for what it is


class OwnServer:
    """The server of this process."""

    def __init__(self) -> None:
        self.port: int | None = None
        self.server_process: subprocess.Popen[Any] | None = None
        self.running = False
        self.gave_up = False
        self._starting = threading.Lock()
        self._spawning = threading.Lock()
        self._closed = False
        self._restarts = 0
        self._begun: _Begun | None = None

    @property
    def api_url(self) -> str:
        """Where Prefect's clients find it."""
        return f"http://127.0.0.1:{self.port}/api"

    def begin(self) -> None:
        """Begin to start the server, without waiting, where the environment alone says how.

        That is where its database is there as it is to be: a command that fails soon ends it, and is to leave neither
        a folder nor half a database. What goes wrong is said by :meth:`start`.
        """
        with self._starting:
            settings = None if self.running or self._begun is not None else ServerSettings.of_environment()
            if settings is not None and is_up_to_date(settings.home / "prefect.db"):
                self._begun = _Begun(self, settings)
                atexit.register(self.stop)

    def start(self) -> None:
        """Start the server, unless it runs, and wait until it answers.

        Raises:
            MachineError: it does not start.
        """
        with self._starting:
            if self.running:
                return
            if self._closed:
                raise RuntimeError("The process is ending.")
            settings = ServerSettings.of_prefect()
            if self._begun is not None and settings.holds(self._begun.settings):
                self._begun.wait()
            else:
                self._break_off()
                self._launch(settings)
                atexit.register(self.stop)
            self.running, self._begun = True, None
            threading.Thread(target=self._keep_up, daemon=True, name="koda-prefect-server").start()

    def stop(self) -> None:
        """Stop the server for good, and let it write what it has; one that nothing was told has nothing to write."""
        used, self.running = self.running, False
        with self._spawning:
            self._closed = True
        if self.server_process is None or self.server_process.poll() is not None:
            return
        if used:
            self.server_process.terminate()
            with contextlib.suppress(subprocess.TimeoutExpired):
                self.server_process.wait(_SECONDS_TO_END)
                return
        self.server_process.kill()
        self.server_process.wait()

    def _break_off(self) -> None:
        """End a server that was begun with other settings than those that hold."""
        if self._begun is not None:
            self.stop()
            with contextlib.suppress(Exception):
                self._begun.wait()
            self._begun, self._closed = None, False

    def _keep_up(self) -> None:
        """Start the server again when it is killed: the run goes on without it, and reports to it at the end."""
        while True:
            assert self.server_process is not None
            began = time.monotonic()
            self.server_process.wait()
            if self._closed:
                return
            if time.monotonic() - began > _SECONDS_TO_FORGIVE:
                self._restarts = 0
            self.gave_up = self._restarts == _MOST_RESTARTS
            if self.gave_up:
                return
            self._restarts += 1
            with contextlib.suppress(Exception):  # it is tried again
                self._launch(ServerSettings.of_prefect())

    def _launch(self, settings: ServerSettings) -> None:
        home = settings.home
        with explain_os_errors(home):
            home.mkdir(parents=True, exist_ok=True)
        database = home / "prefect.db"
        if not settings.own_database:
            self._await(self._spawn(settings, {}), settings.seconds)
            return
        # a relative path needs no escaping, whatever the folders above are called
        variables = {"PREFECT_SERVER_DATABASE_CONNECTION_URL": "sqlite+aiosqlite:///prefect.db"}
        with explain_os_errors(home), FileLock(home / "start.lock") as one_at_a_time:
            if (fault := fault_of(database)) is not None:
                _say_set_aside(database, fault)
            existed = database.is_file()
            if is_up_to_date(database):
                one_at_a_time.release()  # nobody will change its tables
                variables |= {_MIGRATE: "false"}  # which would look through all that was ever changed
            try:
                self._await(self._spawn(settings, variables), settings.seconds)
            except _DidNotStart as error:
                of_database = existed and error.of_its_database and not self._closed
                if not of_database or disk_usage(home).free < FULL_BELOW_BYTES:
                    raise
                _say_set_aside(database, "Prefect's server does not start with it")
                variables.pop(_MIGRATE, None)
                self._await(self._spawn(settings, variables), settings.seconds)

    def _spawn(self, settings: ServerSettings, variables: dict[str, str]) -> _Spawned:
        home = settings.home
        log = tempfile.TemporaryFile()  # noqa: SIM115 - it is read when the server has failed
        with self._spawning, socket.create_server(("127.0.0.1", self.port or 0), backlog=128) as listening:
            if self._closed:
                raise RuntimeError("The process is ending.")
            self.port = listening.getsockname()[1]
            descriptor = listening.fileno()
            self.server_process = subprocess.Popen(
                # -P: the modules beside the script are none of the server's
                [sys.executable, "-P", str(_SCRIPT), str(descriptor), str(os.getpid())],
                pass_fds=[descriptor],
                cwd=home,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,  # a Ctrl-C in the terminal, or its end, is for the parent to deal with
                env={
                    **without_proxies(os.environ),
                    **self._role(home),
                    "PREFECT__SERVER_FINAL": "1",
                    **settings.variables,
                    "PREFECT_HOME": str(home),
                    **variables,
                },
            )
        return _Spawned(self.server_process, log)

    def _role(self, home: Path) -> Mapping[str, str]:
        """Return what Prefect's server is told of its part: for one run, without the UI and what starts others."""
        return {"PREFECT_UI_ENABLED": "0", "PREFECT__SERVER_EPHEMERAL": "1"}

    def _await(self, spawned: _Spawned, seconds: float) -> None:
        """Wait for the first answer; the socket listens already, so the question waits there too."""
        import httpx

        try:
            httpx.get(f"{self.api_url}/health", timeout=seconds, trust_env=False).raise_for_status()
        except httpx.HTTPError as error:
            late = isinstance(error, httpx.TimeoutException)
            try:
                spawned.process.wait(0 if late else _SECONDS_TO_END)
            except subprocess.TimeoutExpired:
                spawned.process.kill()
                spawned.process.wait()
            why = f"it did not answer within {seconds:.0f} seconds" if late else spawned.last_line()
            failure = _DidNotStart(
                f"The Prefect server that koda starts for a run did not start: {why}.",
                "koda doctor looks at what it needs. Set PREFECT_API_URL to use a server of your own.",
            )
            failure.of_its_database = spawned.process.returncode == NOT_STARTED
            raise failure from error
        finally:
            spawned.log.close()


class ServingServer(OwnServer):
    """A server for many runs, with Prefect's UI, scheduler and triggers, at a port that people know.

    Args:
        port: that of :func:`port_to_serve`.
    """

    def __init__(self, port: int) -> None:
        super().__init__()
        self.port = port

    def start(self) -> None:
        """Start the server, and remember its port."""
        super().start()
        with contextlib.suppress(OSError):
            _port_file().write_text(f"{self.port}\n", encoding="utf-8")

    @property
    def ui_url(self) -> str:
        """Where a browser finds it."""
        return f"http://127.0.0.1:{self.port}"

    def _role(self, home: Path) -> Mapping[str, str]:
        return {
            "PREFECT_UI_ENABLED": "1",
            "PREFECT_UI_API_URL": f"{self.ui_url}/api",
            "PREFECT_UI_STATIC_DIRECTORY": str(home / "ui"),  # else it writes beside the installed package
            "PREFECT_SERVER_CONCURRENCY_LEASE_STORAGE": "prefect.server.concurrency.lease_storage.filesystem",
            "PREFECT_SERVER_DEPLOYMENTS_CONCURRENCY_SLOT_WAIT_SECONDS": "5",
            # a look every minute would fill its database
            "PREFECT_SERVER_SERVICES_DB_VACUUM_ENABLED": "events,flow_runs",
            "PREFECT_SERVER_SERVICES_DB_VACUUM_RETENTION_PERIOD": str(30 * 86400),
        }


def port_to_serve() -> int:
    """Return the port of `koda serve`'s own server.

    That is PREFECT_SERVER_API_PORT; else the one of the last time, which is remembered in Prefect's home, so that who
    emits events finds it; else 4200; else, where these are taken, a free one.

    Raises:
        MachineError: PREFECT_SERVER_API_PORT is taken.
    """
    from prefect.settings import get_current_settings

    settings = get_current_settings().server.api
    if "port" not in settings.model_fields_set:
        return next(port for port in (_last_port(), _USUAL_PORT, _free_port()) if port is not None and _is_free(port))
    if not _is_free(settings.port):
        raise MachineError(
            f"PREFECT_SERVER_API_PORT is {settings.port}, and another program has that port of 127.0.0.1.",
            "End that program, or set another port.",
        )
    return settings.port


def _last_port() -> int | None:
    with contextlib.suppress(OSError, ValueError):
        port = int(_port_file().read_text(encoding="utf-8"))
        return port if 0 < port < 2**16 else None
    return None


def _port_file() -> Path:
    from prefect.settings import get_current_settings

    return get_current_settings().home.expanduser().absolute() / "serve-port"


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port: int = free.getsockname()[1]
        return port


def _is_free(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
        return True
    return False


class _Begun:
    """A server that is being started by a thread of its own.

    Args:
        server: which.
        settings: that it is started with.
    """

    def __init__(self, server: OwnServer, settings: ServerSettings) -> None:
        self.settings = settings
        self._server = server
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._start, daemon=True, name="koda-begin-prefect-server")
        self._thread.start()

    def wait(self) -> None:
        """Wait until the server answers, or raise what it fails by."""
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _start(self) -> None:
        try:
            self._server._launch(self.settings)
        except BaseException as error:
            self._error = error


class _DidNotStart(MachineError):
    """The server did not start: because of its database, or since it was killed or a package is broken."""

    of_its_database = False


class _Spawned:
    """A server that was started, and what it writes."""

    def __init__(self, process: subprocess.Popen[Any], log: Any) -> None:
        self.process, self.log = process, log

    def last_line(self) -> str:
        self.log.seek(0)
        lines = [line.strip() for line in self.log.read().decode(errors="replace").splitlines() if line.strip()]
        return lines[-1].rstrip(".") if lines else f"it ended with code {self.process.returncode}"


def _say_set_aside(database: Path, why: str) -> None:
    aside = set_aside(database).name
    told = f"{database} cannot be used: {why}. It holds nothing but the history of Prefect's runs and is now {aside}."
    say(f"[yellow]{escape(told)}[/]", to=notes)


_own: list[OwnServer] = []


def own_server() -> OwnServer | None:
    """Return the server of this process that its runs use, if it has one."""
    return _own[0] if _own else None


def the_own_server() -> OwnServer:
    """Return the server of this process that its runs use; it is made when it is first asked for."""
    if not _own:
        _own.append(OwnServer())
    return _own[0]
