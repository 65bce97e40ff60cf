"""A part of a computation at a worker: what the worker has to be so that the part counts, and the work itself."""

from __future__ import annotations

import pickle
import platform
import socket
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from koda._version import __version__
from koda.errors import MachineError
from koda.parallel.exchange import Exchange, Handle


@dataclass(frozen=True)
class Worksite:
    """What a worker has to be, so that a part comes out byte for byte as it would in the process of the run.

    Args:
        software: name and version of what decides the bytes.
        threads: of torch; the sums of a product may be cut by them.
    """

    software: tuple[tuple[str, str], ...]
    threads: int

    @classmethod
    def of_this_process(cls) -> Worksite:
        """Return what a worker of this process has to be."""
        import torch

        return cls(_software(), torch.get_num_threads())


def packed(function: Callable[..., Any], *arguments: Any) -> bytes:
    """Return a part as bytes.

    Args:
        function: of a module that workers can import.
        arguments: handles, settings and names.
    """
    return pickle.dumps((function, arguments))


def work_on(worksite: Worksite, part: bytes) -> Any:
    """Work on a part in this process, with as many threads as the run has, and return what came of it.

    Args:
        worksite: what this process has to be.
        part: of :func:`packed`.

    Raises:
        MachineError: this process has other software than the run.
    """
    import torch

    here = dict(_software())
    for name, version in worksite.software:
        if here[name] != version:
            raise MachineError(
                f"The worker on {socket.gethostname()} has {name} {here[name]}, and the run has {version}: its parts "
                "could come out otherwise.",
                f"Install {name} {version} on all machines of the cluster.",
            )
    threads = torch.get_num_threads()
    torch.set_num_threads(worksite.threads)
    try:
        function, arguments = pickle.loads(part)
        return function(*arguments)
    finally:
        torch.set_num_threads(threads)


def look_around(exchange: Exchange, token: Handle) -> Handle:
    """See whether this process reads what the run wrote, and leave something that the run can read.

    Args:
        exchange: of the run.
        token: handle of what it wrote there.

    Returns:
        The handle of the same bytes and a word more, as this process wrote them.

    Raises:
        MachineError: it does not see the exchange, or cannot write there.
    """
    return exchange.put(exchange.get(token) + b" seen")


def _software() -> tuple[tuple[str, str], ...]:
    import torch

    python = ".".join(platform.python_version_tuple()[:2])
    return ("koda", __version__), ("Python", python), ("torch", str(torch.__version__))
