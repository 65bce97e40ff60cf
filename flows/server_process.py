"""Prefect's server as a process of its own, which never outlives the one that started it.

It is run as a script: `server_process.py SOCKET PARENT`, with the number of a listening socket that it inherits and
the id of its parent. A parent that is killed cannot stop it, so it looks by itself whether the parent is still there.
"""

from __future__ import annotations

import gc
import os
import socket
import sys
import threading
import time
from typing import Any

NOT_STARTED = 3  #: it ends with this where the application does not come up, whose first act is its database
_SECONDS_BETWEEN_LOOKS = 0.5


def _end_with(parent: int) -> None:
    while os.getppid() == parent:
        time.sleep(_SECONDS_BETWEEN_LOOKS)
    os._exit(0)


def _application() -> Any:
    """Make Prefect's application, without a search for garbage among what stays as long as the process."""
    gc.disable()
    try:
        from prefect.server.api.server import create_app

        gc.freeze()
        return create_app()
    finally:
        gc.freeze()
        gc.enable()


def _main() -> int:
    listening, parent = socket.socket(fileno=int(sys.argv[1])), int(sys.argv[2])
    threading.Thread(target=_end_with, args=(parent,), daemon=True).start()
    import uvicorn

    config = uvicorn.Config(_application, factory=True, log_level="error", lifespan="on")
    server = uvicorn.Server(config)
    server.run(sockets=[listening])
    return 0 if server.started else NOT_STARTED


if __name__ == "__main__":
    sys.exit(_main())
