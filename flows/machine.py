"""Failures of the machine and of the network, as they come out of the libraries; none of them is koda's."""

from __future__ import annotations

import errno
import re
import socket
import sys
from typing import Any
from urllib.error import URLError

from flows.environment import is_loopback
from koda.errors import KodaError, MachineError, PrerequisiteError
from koda.secrets import redact

_AGAIN = "run the same command again: it finishes what is missing."
_NETWORK = {
    errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.ETIMEDOUT, errno.EHOSTUNREACH, errno.ENETUNREACH,
    errno.ENETDOWN, errno.EPIPE,
}  # fmt: skip
_MACHINE = {
    errno.EMFILE: "Raise the limit of open files (ulimit -n)",
    errno.ENFILE: "Close what keeps files open",
    errno.ENOMEM: "Free some memory",
    errno.EAGAIN: "Raise the limit of processes (ulimit -u)",
    errno.EIO: "Look at the disk or the network drive",
    errno.ESTALE: "Mount the network drive again",
}
_OUT_OF_MEMORY = re.compile(
    r"out of memory|can't allocate memory|unable to allocate|failed to allocate|cannot allocate memory|bad_alloc", re.I
)


def machine_error(error: BaseException) -> KodaError | None:
    """Say what of the machine or the network failed; None where it was neither."""
    first = (str(error).splitlines() or [""])[0].rstrip(".")
    if isinstance(error, MemoryError) or (isinstance(error, RuntimeError) and _OUT_OF_MEMORY.search(str(error))):
        return MachineError(
            f"The memory is not enough: {first or 'the machine gave no more'}.",
            f"Free some, or take fewer samples (data.limit) or features (discrepancy.n_features), and {_AGAIN}",
        )
    if isinstance(error, RuntimeError) and "can't start new thread" in first:
        return MachineError(f"The machine starts no more threads: {first}.", f"{_MACHINE[errno.EAGAIN]}, and {_AGAIN}")
    if isinstance(error, ImportError) and "socksio" in first:
        return PrerequisiteError(
            "A SOCKS proxy is set (ALL_PROXY, HTTPS_PROXY), and downloads through it need a package.",
            "pip install 'httpx[socks]'",
        )
    if isinstance(error, ValueError) and "proxy URL" in first:
        return PrerequisiteError(
            f"The proxy that is set cannot be used: {redact(first)}.",
            "HTTP_PROXY, HTTPS_PROXY and ALL_PROXY take http://, https:// and socks5:// addresses.",
        )
    if _is_of_network(error):
        return _network_error(error, first)
    if isinstance(error, OSError) and error.errno in _MACHINE:
        where = f"{error.filename}: " if error.filename else ""
        return MachineError(f"The machine failed: {where}{error.strerror}.", f"{_MACHINE[error.errno]}, and {_AGAIN}")
    return None


def _is_of_network(error: BaseException) -> bool:
    if isinstance(error, (socket.gaierror, ConnectionError, TimeoutError, URLError)):
        return True
    if isinstance(error, OSError) and error.errno in _NETWORK:
        return True
    # whoever raises their errors has imported them
    httpx, requests = sys.modules.get("httpx"), sys.modules.get("requests.exceptions")
    of_httpx = httpx is not None and (
        isinstance(error, httpx.TransportError)
        or (isinstance(error, httpx.HTTPStatusError) and _is_of_the_server(error.response.status_code))
    )
    return of_httpx or (requests is not None and isinstance(error, requests.ConnectionError | requests.Timeout))


def _is_of_the_server(status: int) -> bool:
    """Tell whether an HTTP status says that the server or a proxy will not, rather than that it was asked wrongly."""
    return status >= 500 or status in (401, 403, 407, 408, 429)


def _network_error(error: BaseException, first: str) -> KodaError:
    why = redact(first) or type(error).__name__
    url = _url_of(error)
    if url is not None and ("/api/" in url and is_loopback(url)):
        return MachineError(
            f"Prefect's server on this machine failed: {why}.",
            f"It may have been killed, for its memory perhaps, or have no room on the disk; {_AGAIN}",
        )
    where = "The network failed" if url is None else f"{redact(url)} could not be reached"
    return MachineError(f"{where}: {why}.", f"Look at the network and its proxies (koda doctor), and {_AGAIN}")


def _url_of(error: Any) -> str | None:
    try:  # httpx raises where there is no request
        return str(error.request.url)
    except (AttributeError, RuntimeError):
        return None
