"""A redis-server of a scenario's own, under the steady load of sixteen clients."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from .scenario import Server, free_port, process, wait_for_server, work

ANSWER_S = 15.0
NORMAL = "a redis-server answers 400 requests a second"


@contextmanager
def serve(directory: Path, *options: object, changes: float = 0.3) -> Iterator[Server]:
    """Run it with its files in ``directory`` and these ``options``; ``changes`` of the requests are no reads."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("demonstration: no redis-server: ./run demo installs it")
    port = free_port()
    own = ("--port", port, "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--logfile", "log")
    with process(program, *own, *options) as redis:
        wait_for_server(port)
        with work("redis_work.py", "--port", port, "--changes", changes, "load"):
            yield Server(redis.pid, port)


def cli(port: int, *words: str) -> str:
    """Return what redis-cli says; an error of the server's is an answer, and nothing is where it does not answer."""
    command = ["redis-cli", "-p", str(port), *words]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=ANSWER_S)
    except subprocess.TimeoutExpired:
        return ""
    return done.stdout.strip()
