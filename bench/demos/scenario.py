"""A scenario: a real server under a steady load, and one way in which it goes wrong."""

from __future__ import annotations

import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

BENCH = Path(__file__).resolve().parents[1]
LISTEN_S = 30.0
END_S = 15.0
"""Who does not end when asked is killed."""


@dataclass(frozen=True, slots=True)
class Server:
    """A running server; ``device`` is MAJOR:MINOR of the disk that is its own, where it has one."""

    pid: int
    port: int
    device: str = ""

    @property
    def target(self) -> str:
        """Its specification for ``osdctl watch``."""
        return f"pid:{self.pid}"


@dataclass(frozen=True, slots=True)
class Scenario:
    """What is shown.

    Parameters
    ----------
    name
        One word.
    normal, fault
        What the server does, and what then goes wrong with it.
    serve
        Given a directory of its own, runs the server and its load until the end of the block.
    provoke
        The fault lasts for as long as its block.
    blamed
        The metrics in which the fault is: one of them must be the first that is blamed ...
    among
        ... or among so many, where by the nature of the fault several move at once.
    """

    name: str
    normal: str
    fault: str
    serve: Callable[[Path], AbstractContextManager[Server]]
    provoke: Callable[[Server], AbstractContextManager[None]]
    blamed: tuple[str, ...]
    among: int = 1

    def explained_by(self, metrics: list[str]) -> bool:
        """Return whether these, most to blame first, name the fault."""
        return any(metric in self.blamed for metric in metrics[: self.among])


@contextmanager
def process(*command: object, quiet: bool = True) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block."""
    out = subprocess.DEVNULL if quiet else None
    child = subprocess.Popen([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=out, stderr=out)
    try:
        yield child
    finally:
        child.terminate()
        try:
            child.wait(END_S)
        except subprocess.TimeoutExpired:
            child.kill()
            child.wait()


@contextmanager
def work(script: str, *words: object) -> Iterator[None]:
    """Run one of the scripts that work for a server, until the end of the block."""
    with process(sys.executable, BENCH / script, *words):
        yield


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_server(port: int) -> None:
    """Return when somebody listens there."""
    end = time.monotonic() + LISTEN_S
    while time.monotonic() < end:
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit(f"demonstration: nobody listens on port {port}")
