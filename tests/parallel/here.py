"""Workers that are this process: each part is packed, sent as bytes and worked on as at a worker of a cluster."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Future
from pathlib import Path
from typing import Any

from koda.parallel import Exchange, RunnerNote, Worksite, packed, work_on


class Here:
    """See :class:`koda.parallel.Workers`; parts are worked on when they are handed out, as on a cluster."""

    note = RunnerNote("dask", 2)
    size = 2
    shares_home = True

    def __init__(self, folder: Path) -> None:
        self.exchange = Exchange.below(str(folder))
        self.parts: list[str] = []

    def submit(self, function: Callable[..., Any], *arguments: Any) -> Callable[[], Any]:
        self.parts.append(function.__name__)
        part, worksite = packed(function, *arguments), Worksite.of_this_process()
        future: Future[Any] = Future()
        try:
            future.set_result(work_on(worksite, part))
        except Exception as error:
            future.set_exception(error)
        return future.result
