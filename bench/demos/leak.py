"""Memory that redis must keep: clients ask for large values and never read the replies."""

from __future__ import annotations

from contextlib import AbstractContextManager

from . import redis
from .scenario import Scenario, Server, work


def provoke(server: Server) -> AbstractContextManager[None]:
    """Let the output buffers of four clients grow by 6 MB a second; the clients end."""
    return work("redis_work.py", "--port", server.port, "--seconds", 3600, "leak")


SCENARIO = Scenario(
    name="leak",
    normal=redis.NORMAL,
    fault="clients ask for large values and never read the replies, which it has to keep",
    serve=redis.serve,
    provoke=provoke,
    blamed=("memory.anon", "memory.rss"),
)
