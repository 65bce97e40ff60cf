"""Questions to a server that may not answer, or whose name may be resolved for minutes."""

from __future__ import annotations

import contextvars
import queue
import threading
from collections.abc import Callable


def fault_within(seconds: float, ask: Callable[[], Exception | None]) -> Exception | None:
    """Return why a server does not answer; None where it does.

    It is asked in another thread, since a resolver of names may take longer than any limit that a client knows.

    Args:
        seconds: in which it is to answer.
        ask: returns, or raises, why it does not answer.
    """
    answers: queue.Queue[Exception | None] = queue.Queue()

    def answer() -> None:
        try:
            answers.put(ask())
        except Exception as error:
            answers.put(error)

    threading.Thread(target=contextvars.copy_context().run, args=(answer,), daemon=True, name="koda-ask").start()
    try:
        return answers.get(timeout=seconds)
    except queue.Empty:
        return TimeoutError("it does not answer, or its name is not resolved")
