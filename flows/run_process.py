"""A flow run that `koda serve` starts, as a process of its own, which never outlives it and ends soon when told to.

It is run as a script: `run_process.py PARENT`, with the id of the process that is to be its parent; what runs, Prefect
has put into the environment.
"""

from __future__ import annotations

import os
import runpy
import signal
import sys
import threading
import time

_SECONDS_BETWEEN_LOOKS = 0.5
#: in which Prefect may note that the run was stopped; native code may not even hear of it so soon. koda serve, which
#: ends, kills it a little later, and until then it stores what became of it
_SECONDS_TO_END = 2.6


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(128 + signal.SIGTERM)


def _main() -> None:
    parent = int(sys.argv.pop(1))
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    from flows.signals import end_soon_after

    end_soon_after((signal.SIGTERM, signal.SIGINT), _SECONDS_TO_END)
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # a Ctrl-C in the terminal is for the parent, which tells this one

    import flows.engine  # noqa: F401 - it has Prefect's clients reach this machine without proxies

    runpy.run_module("prefect.engine", run_name="__main__", alter_sys=True)


if __name__ == "__main__":
    _main()
