"""What every flow of koda is: one of Prefect's, with a server that is there, and a result that outlives it."""

from __future__ import annotations

import functools
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext, suppress
from contextvars import ContextVar
from importlib import import_module
from typing import Any, ParamSpec, TypeVar, cast

from flows.environment import is_loopback, make_prefect_home

with suppress(OSError):  # which is said in words when a flow is to run
    make_prefect_home()

from prefect import Flow
from prefect.client.base import PrefectHttpxAsyncClient, PrefectHttpxSyncClient
from prefect.client.orchestration import get_client
from prefect.context import FlowRunContext
from prefect.exceptions import Abort
from prefect.settings import PREFECT_API_URL

from flows.failures import prefect_is_lost
from flows.limits import told_as_error
from flows.terminal import escape, notes, say
from koda.errors import MachineError
from koda.secrets import conceal_all, redact
from tasks.asking import fault_within
from tasks.prefect_settings import ASK_ONCE, changed_settings, own_server_at, url_that_is_set

P = ParamSpec("P")
R = TypeVar("R")

_SECONDS_TO_ANSWER = 5
_SECONDS_TO_RESOLVE = 4
#: With a server of the command's own. One that was killed: 2 + 4 + 8 seconds, in which it is started again. Heartbeats
#: are for those who watch a server from outside, and Prefect waits up to a second for them at the end of a flow. The
#: server is of the same version, and asks for no token.
_OF_OWN_SERVER = {
    "client.max_retries": 3,
    "flows.heartbeat_frequency": None,
    "client.server_version_check_enabled": False,
    "client.csrf_support_enabled": False,
}
#: what Prefect imports when it is called, and may as well while its server starts
_OF_A_RUN = ("prefect.utilities.visualization", "prefect.flow_engine", "prefect.task_engine", "fastapi.encoders")
_ended: ContextVar[list[Any]] = ContextVar("_ended")


class KodaFlow(Flow[P, R]):
    """A flow of koda, called from Python or by its commands."""

    def __call__(self, *args: P.args, **kwargs: P.kwargs) -> R:  # type: ignore[override]
        """Run the flow and return its result, also where Prefect can no longer be told of it.

        Raises:
            MachineError: the Prefect server that is set does not answer, or none can be started.
            KodaError: what the flow itself says.
        """
        with_server = _with_server()
        ended: list[Any] = []
        token = _ended.set(ended)
        try:
            if prefect_is_lost():
                return self.fn(*args, **kwargs)
            with with_server:
                # Prefect keeps what a flow is called with
                result: R = super().__call__(*conceal_all(args), **conceal_all(kwargs))
                return result
        except (Exception, Abort) as error:
            if not ended or kwargs.get("return_state"):
                raise
            first = escape((str(error).splitlines() or [type(error).__name__])[0])
            say(
                f"[yellow]Prefect could not be told that the run has ended ({first}); its result is complete.[/]",
                to=notes,
            )
            return cast(R, ended[-1])
        finally:
            _ended.reset(token)

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle the flow by its name: a part of it that runs elsewhere is sent with the flow that it belongs to."""
        return _flow_named, (self.fn.__module__, self.fn.__qualname__)


def _flow_named(module: str, name: str) -> KodaFlow[..., Any]:
    """Return the flow of that name in a module."""
    flow: KodaFlow[..., Any] = getattr(import_module(module), name)
    return flow


def koda_flow(name: str) -> Callable[[Callable[P, R]], KodaFlow[P, R]]:
    """Make a flow of a function; its runs are named by KODA_HOME, and its results are those of the artifact store."""

    def decorate(function: Callable[P, R]) -> KodaFlow[P, R]:
        @functools.wraps(function)
        def keep(*args: P.args, **kwargs: P.kwargs) -> R:
            with told_as_error():
                result = function(*args, **kwargs)
            _ended.get([]).append(result)
            if prefect_is_lost():
                raise Abort("Prefect's server is lost.")  # it alone passes without a word to the server
            return result

        return KodaFlow(keep, name=name, flow_run_name="{home}", validate_parameters=False, persist_result=False)

    return decorate


def _with_server() -> AbstractContextManager[None]:
    """Have Prefect use the server that is set, which is asked first, or that of this process, which is started."""
    if FlowRunContext.get() is not None:
        return nullcontext() if url_that_is_set() else changed_settings(_OF_OWN_SERVER)
    if ask_server_if_set():
        return nullcontext()
    from flows.server import the_own_server

    server = the_own_server()
    server.begin()
    for name in _OF_A_RUN:
        with suppress(ImportError):
            import_module(name)
    server.start()
    return own_server_at(server.api_url, _OF_OWN_SERVER)


def ask_server_if_set() -> bool:
    """Ask the Prefect server that is set, if one is, whether it is there; tell whether one is set.

    Raises:
        MachineError: it does not answer.
    """
    if not url_that_is_set():
        return False
    ask_server()
    return True


def ask_server() -> None:
    """Ask the Prefect server that is set, by environment or profile, whether it is there.

    Raises:
        MachineError: it does not answer.
    """
    url = PREFECT_API_URL.value()
    if (error := _no_answer()) is not None:
        first = (str(error).splitlines() or [""])[0] or type(error).__name__
        raise MachineError(
            f"PREFECT_API_URL is {redact(url)}, and no Prefect server answers there: {first}.",
            "Start the server, or unset PREFECT_API_URL (in a profile: prefect config unset PREFECT_API_URL); "
            "koda then runs Prefect in process.",
        )


def _no_answer() -> Exception | None:
    """Return why the server that is set does not answer; None where it does."""

    def ask() -> Exception | None:
        with (
            changed_settings(ASK_ONCE),
            get_client(httpx_settings={"timeout": _SECONDS_TO_ANSWER}, sync_client=True) as client,
        ):
            return client.api_healthcheck()

    return fault_within(_SECONDS_TO_RESOLVE + _SECONDS_TO_ANSWER, ask)


def _without_proxy(client: type[Any]) -> None:
    """Have a client of Prefect's reach this machine directly: a proxy that it cannot use would stop it at once."""
    make = client.__init__

    @functools.wraps(make)
    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:
        if is_loopback(str(kwargs.get("base_url", ""))):
            kwargs.setdefault("trust_env", False)
        make(self, *args, **kwargs)

    client.__init__ = __init__


for _client in (PrefectHttpxSyncClient, PrefectHttpxAsyncClient):
    _without_proxy(_client)
