"""Who works on the parts of a computation: nobody beside this process, or the workers that a run has.

What is cut into parts is cut in the same way whoever works on them, and the parts are put together in their order, so
that a result is the same bytes. Without workers a computation goes on as a whole in this process, which needs no
exchange and keeps what it made in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol, TypeVar

from koda.parallel.exchange import Exchange

R = TypeVar("R")


class Workers(Protocol):
    """The workers of a run.

    Attributes:
        note: what the record says of them.
        size: how many parts they work on at once.
        exchange: where parts are exchanged.
        shares_home: whether the workers see KODA_HOME under the path that the run has it at.
    """

    @property
    def shares_home(self) -> bool: ...  # noqa: D102

    @property
    def note(self) -> RunnerNote: ...  # noqa: D102

    @property
    def size(self) -> int: ...  # noqa: D102

    @property
    def exchange(self) -> Exchange: ...  # noqa: D102

    def submit(self, function: Callable[..., R], *arguments: Any) -> Callable[[], R]:
        """Hand a part to a worker; return what waits for its result.

        Args:
            function: of a module that workers can import.
            arguments: handles, settings and names.

        Raises:
            KodaError: by what is returned: as the function raises it, or no worker can finish the part.
        """


@dataclass(frozen=True)
class RunnerNote:
    """What ran the parts of a computation.

    Args:
        kind: threads, dask or ray.
        workers: how many parts were worked on at once; None where the run asked no worker for anything.
    """

    kind: str
    workers: int | None


_IN_PROCESS = RunnerNote("threads", 1)
_current: ContextVar[Workers | None] = ContextVar("_current", default=None)


def current() -> Workers | None:
    """Return the workers of the run, or None where this process works alone."""
    return _current.get()


def note_of_current() -> RunnerNote:
    """Return what the record says of who worked."""
    workers = _current.get()
    return _IN_PROCESS if workers is None else workers.note


@contextmanager
def using(workers: Workers | None) -> Iterator[None]:
    """Have computations that are called within use these workers; None is this process alone."""
    token = _current.set(workers)
    try:
        yield
    finally:
        _current.reset(token)


def in_order(
    workers: Workers, function: Callable[..., R], parts: Iterable[tuple[Any, ...]], ahead: int | None = None
) -> Iterator[R]:
    """Yield the results of a function for some parts in the order of the parts.

    Args:
        workers: who work on them.
        function: of a module that workers can import.
        parts: the arguments of each; the next is asked for when a worker will be free for it.
        ahead: parts that are handed out and not yet asked for, at most; default: three a worker.

    Raises:
        KodaError: as the function raises it, or no worker can finish a part.
    """
    most = ahead or 3 * workers.size
    waiting: deque[Callable[[], R]] = deque()
    for part in parts:
        waiting.append(workers.submit(function, *part))
        if len(waiting) >= most:
            yield waiting.popleft()()
    while waiting:
        yield waiting.popleft()()
