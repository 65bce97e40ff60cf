"""Which failures of a step another try may mend: those of a disk, a drive or the network that come and go."""

from __future__ import annotations

import errno
import http.client
import socket
import sys
from typing import Any

from koda.errors import KodaError

_PASSING = {
    errno.EIO, errno.ESTALE, errno.EBUSY, errno.EAGAIN, errno.EINTR, errno.ETIMEDOUT, errno.ECONNRESET,
    errno.ECONNREFUSED, errno.ECONNABORTED, errno.EPIPE, errno.EHOSTUNREACH, errno.EHOSTDOWN, errno.ENETUNREACH,
    errno.ENETDOWN, errno.ENETRESET, errno.EREMOTEIO,
}  # fmt: skip
_TOO_MANY_REQUESTS = 429
#: module -> its errors that are of the transport; whoever raises one has imported it
_OF_TRANSPORT = {
    "httpx": ("TransportError",),
    "requests.exceptions": ("ConnectionError", "Timeout", "ChunkedEncodingError"),
    "urllib3.exceptions": ("ProtocolError", "TimeoutError", "NewConnectionError"),
    "aiohttp": ("ClientConnectionError", "ClientPayloadError"),
    "botocore.exceptions": ("HTTPClientError", "ConnectionError"),
}


def worth_retrying(task: Any, run: Any, state: Any) -> bool:
    """Retry what another try may mend; an error that says what is wrong, and a bug, will say so again."""
    try:
        state.result()
    except Exception as error:
        return may_pass(error)
    return False


def may_pass(error: BaseException) -> bool:
    """Tell whether a failure is of input or output, and may be gone in a moment."""
    if isinstance(error, KodaError):
        return False
    if (status := _http_status(error)) is not None:
        return status >= 500 or status == _TOO_MANY_REQUESTS
    if isinstance(error, ConnectionError | TimeoutError | socket.gaierror | http.client.HTTPException):
        return True
    if isinstance(error, OSError) and error.errno in _PASSING:
        return True
    if isinstance(reason := getattr(error, "reason", None), OSError):  # as urllib wraps it
        return may_pass(reason)
    return any(
        isinstance(error, getattr(sys.modules[module], name))
        for module, names in _OF_TRANSPORT.items()
        if module in sys.modules
        for name in names
    )


def _http_status(error: BaseException) -> int | None:
    """Return the status that an HTTP server answered with, as httpx, requests, urllib and aiohttp name it."""
    of_answer = getattr(getattr(error, "response", None), "status_code", None)
    for status in (of_answer, getattr(error, "code", None), getattr(error, "status", None)):
        if isinstance(status, int) and 400 <= status < 600:
            return status
    return None
