"""How the command ends when it is told to: soon, with the exit code that shells give the signal, leaving no process.

What an audit has stored is whole whenever it is stopped, so that ending is not delayed for its sake.
"""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Iterator, Sequence
from types import FrameType
from typing import NoReturn

from flows.logs import as_json, complain

_SIGNALS = tuple(getattr(signal, name) for name in ("SIGINT", "SIGTERM", "SIGHUP") if hasattr(signal, name))
#: in which Prefect may note that the run was stopped; a busy native function may not even hear of it so soon
_SECONDS_TO_END = 4
_SECONDS_TO_STORE = 4  # on a busy machine; it takes a moment


class Stopped(BaseException):
    """The process was told to end by a signal. It is no Exception, so that nothing takes it for a failure."""

    run_state = "cancelled"

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.number = number

    @property
    def exit_code(self) -> int:
        """What shells give for a process that a signal ended."""
        return 128 + self.number

    def __str__(self) -> str:
        how = "Interrupted" if self.number == signal.SIGINT else f"Ended by {signal.Signals(self.number).name}"
        return f"{how}. Run the same command again: it takes up what is unfinished."


_own: list[bool] = []  # whether the process is koda's command, which koda may end
_stopping: list[int] = []  # the signals that were dealt with
_arrived: list[int] = []  # the signals that came, also where a handler of Prefect's stands in the place of ours


@contextlib.contextmanager
def stoppable() -> Iterator[None]:
    """Have SIGINT, SIGTERM and SIGHUP end what runs within, and the process soon after, come what may.

    A signal that is ignored, as `nohup` has it, stays so.
    """
    heard = [number for number in _SIGNALS if signal.getsignal(number) != signal.SIG_IGN]
    for number in heard:
        signal.signal(number, _stop)
    end_soon_after(heard, _SECONDS_TO_END)
    try:
        yield
    except Stopped as stopped:
        complain(str(stopped))
    finally:
        if (told := first_signal()) is not None:
            leave(told.exit_code)


def end_soon_after(heard: Sequence[int], seconds: float) -> None:
    """Have this process, which is koda's own, end soon after the first of some signals, whatever it is busy with.

    Args:
        heard: the signals.
        seconds: in which it may end by itself.
    """
    _own.append(True)
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    # written to by the handler in C, whatever Python is busy with, until the process has ended
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_limit_the_end, args=(ours, heard, seconds), daemon=True, name="koda-signals").start()


def first_signal() -> Stopped | None:
    """Return the signal that came first, if any: what it broke off may have made an ordinary error of it."""
    time.sleep(0.005)  # the listener may be about to note it
    came = _stopping or _arrived
    return Stopped(came[0]) if came else None


@contextlib.contextmanager
def told_as_signal() -> Iterator[None]:
    """Have an error that a signal broke something off with say so: the run then was cancelled, and did not fail."""
    try:
        yield
    except Exception as error:
        if (told := first_signal()) is not None:
            raise told from error
        raise


def _stop(number: int, _: FrameType | None) -> None:
    if _stopping:  # who asks twice is not kept waiting
        leave(Stopped(_stopping[0]).exit_code)
    _stopping.append(number)
    raise Stopped(number)


def _limit_the_end(wakeups: socket.socket, heard: Sequence[int], seconds: float) -> None:
    while (number := wakeups.recv(1)[0]) not in heard:
        pass
    _arrived.append(number)
    time.sleep(seconds)
    stopped = Stopped(number)
    end_by_force(stopped.exit_code, str(stopped), stopped.run_state)


def end_by_force(exit_code: int, why: str, state: str) -> None:
    """End this process from another thread, whatever it is busy with, if it is koda's own; store its runs as ended.

    Args:
        exit_code: to leave with.
        why: what people are told.
        state: of the runs, as koda.audit.runs has it.
    """
    if not _own:
        return
    if (runs := sys.modules.get("koda.audit.runs")) is not None:
        # in another thread, since whoever is stuck may hold what this needs
        last = threading.Thread(target=runs.end_without_word, args=(state, why.splitlines()[0]), daemon=True)
        last.start()
        last.join(_SECONDS_TO_STORE)
    with contextlib.suppress(OSError, ValueError):
        complain(why)
    leave(exit_code)


def leave(exit_code: int) -> NoReturn:
    """End without the interpreter's own end, which waits for threads and for whom they talk to."""
    with contextlib.suppress(OSError, ValueError):
        if sys.stderr.isatty() and not as_json():
            print("\x1b[?25h", end="", file=sys.stderr)  # a progress bar that is cut off has hidden the cursor
        sys.stderr.flush()
    with contextlib.suppress(OSError, ValueError):
        sys.stdout.flush()
    os._exit(exit_code)


def leave_as_the_last(codes: Sequence[int]) -> None:
    """End with the exit code, if there is one, after all else that is called at the exit.

    What is left then is the interpreter's search for garbage among all that was imported: half a second of a command
    that had nothing to compute.

    Args:
        codes: the exit code, once it is known.
    """
    if not codes:
        return
    try:
        logging.shutdown()
        for stream in (sys.stdout, sys.stderr):
            if stream is not None:  # as it is where the command was given none
                stream.flush()
    except (OSError, ValueError):
        return  # the interpreter says what is lost, and ends with a code of its own
    os._exit(codes[0])
