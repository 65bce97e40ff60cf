"""Another try is made of what may pass, and of nothing else."""

from __future__ import annotations

import errno
import socket
from email.message import Message
from pathlib import Path
from urllib.error import HTTPError, URLError

import httpx
import pytest
import requests
from prefect import task

from flows.engine import koda_flow
from koda.errors import DataError, MachineError
from tasks.retries import may_pass
from tasks.step import STEP

_REQUEST = httpx.Request("GET", "https://example.org")


def of_httpx(status: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError("no", request=_REQUEST, response=httpx.Response(status, request=_REQUEST))


def of_requests(status: int) -> requests.HTTPError:
    response = requests.Response()
    response.status_code = status
    return requests.HTTPError("no", response=response)


@pytest.mark.parametrize(
    "error",
    [
        OSError(errno.EIO, "input/output error"),
        OSError(errno.ESTALE, "stale file handle"),
        ConnectionResetError(errno.ECONNRESET, "reset"),
        TimeoutError("timed out"),
        socket.gaierror(socket.EAI_AGAIN, "try again"),
        URLError(ConnectionRefusedError(errno.ECONNREFUSED, "refused")),
        httpx.ConnectError("refused", request=_REQUEST),
        of_httpx(503),
        of_httpx(429),
        of_requests(502),
        requests.ConnectionError("reset"),
        HTTPError("https://example.org", 500, "no", Message(), None),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_may_pass(error: Exception) -> None:
    assert may_pass(error)


@pytest.mark.parametrize(
    "error",
    [
        TypeError("a bug"),
        MemoryError(),
        RuntimeError("CUDA out of memory"),
        OSError(errno.ENOMEM, "cannot allocate memory"),
        OSError(errno.ENOSPC, "no space"),
        FileNotFoundError(errno.ENOENT, "no such file"),
        PermissionError(errno.EACCES, "denied"),
        OSError("image file is truncated"),
        DataError("a bad row"),
        MachineError("the network failed"),
        of_httpx(404),
        of_requests(401),
        URLError("unknown url type"),
    ],
    ids=lambda error: type(error).__name__,
)
def test_what_will_not(error: Exception) -> None:
    assert not may_pass(error)


def test_a_step_is_tried_again_after_what_may_pass_and_not_after_a_bug(tmp_path: Path) -> None:
    tries: list[str] = []

    @task(name="tried", **STEP)
    def tried(key: str) -> str:
        tries.append(key)
        if key.startswith("bug"):
            raise TypeError(key)
        if len(tries) == 1:
            raise ConnectionResetError(errno.ECONNRESET, "reset")
        return key

    @koda_flow("tries")
    def body(home: str, key: str) -> str:
        return tried(key=key)

    assert body(str(tmp_path), f"passes in {tmp_path.name}") and len(tries) == 2
    with pytest.raises(TypeError):
        body(str(tmp_path), f"bug in {tmp_path.name}")
    assert len(tries) == 3
