"""A web service on this machine that keeps what it is sent."""

from __future__ import annotations

import contextlib
import json
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any


@dataclass
class Catcher:
    """What arrived, and how the service answers."""

    url: str
    received: list[dict[str, Any]] = field(default_factory=list)
    status: int = 200

    @property
    def titles(self) -> list[str]:
        return [message["title"] for message in self.received]


@contextlib.contextmanager
def catching() -> Iterator[Catcher]:
    """Serve on a free port of the loopback interface."""
    caught: list[Catcher] = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if caught[0].status == 200:
                caught[0].received.append(json.loads(body))
            self.send_response(caught[0].status)
            self.end_headers()

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    caught.append(Catcher(f"json://127.0.0.1:{server.server_address[1]}/hook"))
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield caught[0]
    finally:
        server.shutdown()
        server.server_close()
