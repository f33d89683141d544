"""An endless loop in redis: one core is full, and nobody is served."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager

from . import redis
from .scenario import Scenario, Server, process

KILL_S = 30.0


@contextmanager
def provoke(server: Server) -> Iterator[None]:
    """Let a client send a script that never ends; kill the script."""
    with process("redis-cli", "-p", server.port, "EVAL", "while true do end", 0):
        try:
            yield
        finally:
            # redis listens to SCRIPT KILL when a script has run for five seconds (busy-reply-threshold)
            end = time.monotonic() + KILL_S
            while time.monotonic() < end and redis.cli(server.port, "PING") != "PONG":
                redis.cli(server.port, "SCRIPT", "KILL")
                time.sleep(0.2)


SCENARIO = Scenario(
    name="loop",
    normal=redis.NORMAL,
    fault="a script that never ends keeps it busy: one core is full, everybody else waits",
    serve=redis.serve,
    provoke=provoke,
    blamed=("cpu.on_cpu", "cpu.user", "cpu.off_cpu"),
)
