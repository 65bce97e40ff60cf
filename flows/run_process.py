"""A flow run that `koda serve` starts, as a process of its own, which never outlives it and ends soon when told to.

It is run as a script: `run_process.py PARENT`, with the id of the process that is to be its parent; what runs, Prefect
has put into the environment.
"""

from __future__ import annotations

import os
import runpy
import signal
import socket
import sys
import threading
import time

_SECONDS_BETWEEN_LOOKS = 0.5
#: in which Prefect may note that the run was stopped; native code may not even hear of it so soon
_SECONDS_TO_END = 3


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(128 + signal.SIGTERM)


def _end_after(wakeups: socket.socket) -> None:
    while (number := wakeups.recv(1)[0]) not in (signal.SIGTERM, signal.SIGINT):
        pass
    time.sleep(_SECONDS_TO_END)
    os._exit(128 + number)


def _main() -> None:
    parent = int(sys.argv.pop(1))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    ours, theirs = socket.socketpair()
    theirs.setblocking(False)
    # written to by the handler in C, whatever Python is busy with
    signal.set_wakeup_fd(theirs.detach(), warn_on_full_buffer=False)
    threading.Thread(target=_end_after, args=(ours,), daemon=True).start()
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the parent, which tells this one

    import flows.engine  # noqa: F401 - it has Prefect's clients reach this machine without proxies

    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
