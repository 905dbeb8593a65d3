"""The whole server on a port of this machine, in a thread of the test."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

from memindex.server.app import make_app
from memindex.server.config import ServerConfig
from memindex.server.connections import http_server


@contextmanager
def running(config: ServerConfig) -> Iterator[str]:
    """The address of a server that runs until the block ends."""
    listening = socket.create_server(("127.0.0.1", 0))
    limits = replace(config.limits, max_stop_seconds=min(config.limits.max_stop_seconds, 2))
    server = http_server(make_app(config), limits, log_level="error")
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listening]}, daemon=True)
    thread.start()
    until = time.monotonic() + 30
    while not server.started and time.monotonic() < until:
        time.sleep(0.02)
    try:
        yield f"http://127.0.0.1:{listening.getsockname()[1]}"
    finally:
        server.should_exit = True
        thread.join(20)
        listening.close()
