"""Failures of the machine and the network are said as what they are, and nobody takes the blame for them."""

from __future__ import annotations

import errno
import os
import socket

import httpx
import pytest

from flows.failures import in_words
from koda.errors import KodaError

_ASKED = httpx.Request("GET", "https://user:secret@hub.example/model?token=secret")


def system_error(number: int) -> OSError:
    return OSError(number, os.strerror(number), "/data/part.tar")


def answered(status: int) -> httpx.HTTPStatusError:
    return httpx.HTTPStatusError(f"it answered {status}", request=_ASKED, response=httpx.Response(status))


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (MemoryError("Unable to allocate 11.2 GiB for an array"), "memory is not enough: Unable to allocate 11.2 GiB"),
        (RuntimeError("CUDA out of memory. Tried to allocate 2.00 GiB"), "memory is not enough"),
        (RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried"), "memory is not enough"),
        (RuntimeError("can't start new thread"), "ulimit -u"),
        (system_error(errno.EMFILE), "ulimit -n"),
        (system_error(errno.EIO), "/data/part.tar"),
        (system_error(errno.ESTALE), "Mount the network drive again"),
        (system_error(errno.ENOSPC), "disk is full"),
        (socket.gaierror(-2, "Name or service not known"), "network failed: [Errno -2] Name or service"),
        (ConnectionResetError(errno.ECONNRESET, "Connection reset by peer"), "network failed"),
        (httpx.ConnectTimeout("timed out", request=_ASKED), "https://hub.example/model could not be reached"),
        (httpx.ConnectError("refused", request=httpx.Request("GET", "http://127.0.0.1:8431/api/flows/")), "Prefect's"),
        (answered(503), "https://hub.example/model could not be reached"),
        (ImportError("Using SOCKS proxy, but the 'socksio' package is not installed."), "pip install 'httpx[socks]'"),
        (
            ValueError("Unknown scheme for proxy URL URL('socks://me:p@secret@localhost:9')"),
            "proxy URL URL('socks://localhost:9')",
        ),
        (ValueError("Unknown scheme for proxy URL URL('socks://me:secret@localhost:9')"), "proxy that is set cannot"),
    ],
)  # fmt: skip
def test_what_failed_of_the_machine_is_named(error: Exception, words: str) -> None:
    wrapped = RuntimeError("the task failed")
    wrapped.__cause__ = error
    for each in (error, wrapped):
        told = in_words(each)
        assert isinstance(told, KodaError)
        assert words in str(told)
        assert told.remedy
        assert "secret" not in str(told)


@pytest.mark.parametrize(
    "error", [RuntimeError("shapes differ"), ValueError("no"), KeyError("x"), OSError(errno.ENOENT), answered(422)]
)
def test_what_may_be_kodas_fault_stays_so(error: Exception) -> None:
    assert in_words(error) is None
