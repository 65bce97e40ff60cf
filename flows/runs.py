"""What surrounds a run: its place in the home, its mark, and a word on those before it that ended without one."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from contextvars import ContextVar
from pathlib import Path

from flows.crashed import take_note
from flows.observation import of_prefect
from flows.signals import told_as_signal
from flows.terminal import escape, notes, say
from koda.audit.runs import Run, running
from tasks.slots import HOME, place, places_of_home

_place_in: ContextVar[Path | None] = ContextVar("_place_in", default=None)


@contextlib.contextmanager
def marked(home: Path, what: str, artifacts: Iterable[tuple[str, str]], trigger: str = "command") -> Iterator[Run]:
    """Have a place in the home, and a mark on what a run needs, while it goes on.

    Args:
        home: KODA_HOME.
        what: id of the audit, or of what else is run.
        artifacts: kind and key of everything that it reads or makes.
        trigger: what began it.
    """
    with place_in(home):
        take_note(home)
        with running(home, what, artifacts, trigger=trigger, **of_prefect()) as run, told_as_signal():
            yield run


@contextlib.contextmanager
def place_in(home: Path) -> Iterator[None]:
    """Wait until fewer runs work in a home than the limit `koda-home` says; a run within a run has its place."""
    if _place_in.get() == home:
        yield
        return

    def tell() -> None:
        say(
            f"[yellow]waits for a place:[/] as many runs work in {escape(str(home))} as the concurrency limit {HOME} "
            "lets (prefect gcl inspect koda-home)",
            to=notes,
        )

    with place(HOME, home, places_of_home(), tell):
        token = _place_in.set(home)
        try:
            yield
        finally:
            _place_in.reset(token)
