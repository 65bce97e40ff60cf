"""The time limit of a run: it ends what runs within, in whichever thread, and says so in words.

Python code is interrupted: by a signal where it runs in the main thread, which wakes it from any waiting, else by an
exception that Python raises there at its next line. A native function that does not return hears of neither: a
process that is koda's own is ended some seconds later, another one never.
"""

from __future__ import annotations

import contextlib
import ctypes
import signal
import threading
import time
from collections.abc import Iterator
from contextvars import ContextVar
from types import FrameType

from flows.signals import end_by_force
from koda.errors import KodaError
from koda.wording import counted
from tasks.waiting import clock

#: in which the run may end in order, and Prefect be told of it
_SECONDS_TO_END = 8
_NUMBER = getattr(signal, "SIGALRM", None)
TIMED_OUT = "timed out"


class TimeLimitError(KodaError, TimeoutError):
    """A run took longer than it may. Prefect takes it for what it is, and stores the run as timed out."""

    exit_code = 3
    run_state = TIMED_OUT

    def __init__(self, minutes: float) -> None:
        super().__init__(
            f"The limit of {_minutes(minutes)} was reached (limits.minutes), and the run was ended.",
            "Run the same command again: it takes up what is unfinished. Or raise the limit.",
        )


class OutOfTime(BaseException):
    """Raised wherever the run is when its time is up. It is no Exception, so that nothing takes it for a failure."""

    run_state = TIMED_OUT

    def __init__(self, limit: _Limit | None = None) -> None:
        super().__init__()
        self.limit = limit

    def __str__(self) -> str:
        return "The time limit was reached."


@contextlib.contextmanager
def time_limit(minutes: float | None) -> Iterator[None]:
    """End what runs within after some minutes of work; waiting for a place (`tasks.waiting`) is none.

    Args:
        minutes: the limit; None for no limit.

    Raises:
        TimeLimitError: it was reached.
    """
    if minutes is None:
        yield
        return
    limit = _Limit(minutes)
    tokens = _innermost.set(limit), clock.set(limit.pause)
    limit.begin()
    try:
        try:
            yield
        finally:
            limit.end()
    except OutOfTime as out:
        if out.limit not in (None, limit):
            raise
        raise TimeLimitError(minutes) from out
    except Exception as error:
        if limit.reached and not isinstance(error, TimeLimitError):  # of which what it broke off made another error
            raise TimeLimitError(minutes) from error
        raise
    finally:
        limit.end()  # once more, as the first may have been broken off
        _innermost.reset(tokens[0])
        clock.reset(tokens[1])


@contextlib.contextmanager
def told_as_error() -> Iterator[None]:
    """Make an ordinary error of a limit that is reached within, for whoever takes only those for the end of a run."""
    try:
        yield
    except OutOfTime as out:
        limit = out.limit or _innermost.get()
        raise TimeLimitError(0 if limit is None else limit.minutes) from out


class _Limit:
    """One limit, and the thread that keeps it."""

    def __init__(self, minutes: float) -> None:
        self.minutes, self.reached = minutes, False
        self._target = threading.get_ident()
        self._by_signal = _NUMBER is not None and threading.current_thread() is threading.main_thread()
        self._left, self._paused, self._over, self._heard = minutes * 60, False, False, False
        self._changed = threading.Condition()

    def begin(self) -> None:
        """Start the clock."""
        if self._by_signal:
            assert _NUMBER is not None
            _limits.append(self)
            self._former = signal.signal(_NUMBER, _interrupt)
        self._watcher = threading.Thread(target=self._keep, daemon=True, name="koda-time-limit")
        self._watcher.start()

    def end(self) -> None:
        """Stop the clock for good; what has not been broken off yet is not any more."""
        with self._changed:
            self._over = True
            if self.reached and not self._by_signal:
                _raise_in(self._target, None)
            self._changed.notify_all()
        if self in _limits:
            assert _NUMBER is not None
            _limits.remove(self)
            signal.signal(_NUMBER, signal.SIG_DFL if self._former is None else self._former)

    def pause(self, on: bool) -> None:
        """Stop the clock, or let it go on."""
        with self._changed:
            self._paused = on
            self._changed.notify_all()

    def take(self) -> bool:
        """Tell whether the time is up and this is the first to hear of it."""
        first = self.reached and not self._heard and not self._over
        self._heard = self._heard or first
        return first

    def _keep(self) -> None:
        with self._changed:
            while self._left > 0 and not self._over:
                begun, counted_ = time.monotonic(), not self._paused
                self._changed.wait(min(self._left, threading.TIMEOUT_MAX) if counted_ else None)
                self._left -= (time.monotonic() - begun) if counted_ else 0
            if self._over:
                return
            self.reached = True
            self._break_off()
            if self._changed.wait_for(lambda: self._over, _SECONDS_TO_END):
                return
        error = TimeLimitError(self.minutes)
        end_by_force(error.exit_code, str(error), TIMED_OUT)

    def _break_off(self) -> None:
        if self._by_signal:
            assert _NUMBER is not None
            signal.pthread_kill(self._target, _NUMBER)
        else:
            _raise_in(self._target, OutOfTime)


_limits: list[_Limit] = []  # those of the main thread
_innermost: ContextVar[_Limit | None] = ContextVar("_innermost", default=None)


def _raise_in(thread: int, error: type[BaseException] | None) -> None:
    """Have Python raise an exception in a thread, or take back one that it has not raised yet."""
    of = None if error is None else ctypes.py_object(error)
    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), of)


def _interrupt(_: int, __: FrameType | None) -> None:
    for limit in _limits:
        if limit.take():
            raise OutOfTime(limit)


def _minutes(minutes: float) -> str:
    return counted(int(minutes), "minute") if minutes == int(minutes) else f"{minutes:g} minutes"
