"""A program under load, that can be made to misbehave and to do what is out of the ordinary but right."""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from random import Random

from bench.detection.recording.load import Load

VICTIMS = Path(__file__).with_name("victims")
AFTERMATH_S, LONG_AFTERMATH_S = 25, 60
"""A leak leaves memory and descriptors behind; what the program does then is neither normal nor a fault."""

Act = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Fault:
    """What goes wrong, and how it ends.

    Parameters
    ----------
    name
        The same for the same kind of fault in another program.
    on, off
        Begin and end it.
    aftermath_s
        Seconds after its end that are nobody's fault.
    noisy
        Whether others on this machine feel it too.
    """

    name: str
    on: Act
    off: Act
    aftermath_s: int = AFTERMATH_S
    noisy: bool = False


@dataclass(frozen=True, slots=True)
class Job:
    """Something out of the ordinary that is right: a backup, a checkpoint, a step of load."""

    name: str
    do: Act


def free_port() -> int:
    """Return a TCP port that nobody listens on now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


class Program(ABC):
    """One running program, its load, its faults and its jobs.

    Parameters
    ----------
    room
        Directory of its own, writable by anybody.
    random
        Where its habits come from.
    """

    def __init__(self, room: Path, random: Random) -> None:
        self.room, self.random = room, random
        self.load = Load(random)
        self._processes: list[subprocess.Popen[bytes]] = []
        self._tasks: dict[str, asyncio.Task[None]] = {}

    @abstractmethod
    async def start(self) -> int:
        """Start it and its load; return the pid to watch."""

    @abstractmethod
    def faults(self) -> Sequence[Fault]:
        """Return what can go wrong with it."""

    def jobs(self) -> Sequence[Job]:
        """Return what it does now and then."""
        return [Job("load_step", self.load.step), Job("rush", lambda: self.begin("rush", self.load.rush))]

    def run(self, *command: str | Path, cwd: Path | None = None, feed: bool = False) -> subprocess.Popen[bytes]:
        """Start a process that :meth:`stop` ends."""
        process = subprocess.Popen(
            [str(word) for word in command],
            stdin=subprocess.PIPE if feed else subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            cwd=cwd or self.room,
            start_new_session=True,
        )
        self._processes.append(process)
        return process

    def python(self, victim: str, *arguments: str) -> subprocess.Popen[bytes]:
        """Start one of the programs in ``victims``, which obeys :meth:`tell`."""
        seed = str(self.random.randrange(10**6))
        return self.run("/usr/bin/python3", VICTIMS / f"{victim}.py", self.room, seed, *arguments)

    def tell(self, word: str, value: float) -> None:
        """Set one of a victim's vices; 0 ends it."""
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sender, suppress(OSError):
            sender.sendto(f"{word} {value}".encode(), str(self.room / "control"))

    def end(self, process: subprocess.Popen[bytes]) -> None:
        """End a process with all that it started."""
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        self._processes.remove(process)

    def begin(self, name: str, forever: Callable[[], object]) -> None:
        """Run a coroutine until :meth:`cease` of the same name."""
        self._tasks[name] = asyncio.ensure_future(forever())  # type: ignore[arg-type]

    def cease(self, name: str) -> None:
        """End what :meth:`begin` began."""
        self._tasks.pop(name).cancel()

    def stop(self) -> None:
        """End everything."""
        for name in list(self._tasks):
            self.cease(name)
        for process in list(self._processes):
            self.end(process)

    # faults that any program can have

    def hang(self, pid: int) -> Fault:
        """It stands still."""
        return Fault("hang", lambda: os.kill(pid, signal.SIGSTOP), lambda: os.kill(pid, signal.SIGCONT))

    def traffic(self) -> list[Fault]:
        """Its clients go away, or become few."""
        return [
            Fault(name, lambda factor=factor: self.load.scale(factor), lambda: self.load.scale(1.0))
            for name, factor in (("traffic_drop", 0.0), ("traffic_half", 0.35))
        ]

    def vice(self, name: str, word: str, value: float, aftermath_s: int = AFTERMATH_S) -> Fault:
        """One of a victim's vices."""
        return Fault(name, lambda: self.tell(word, value), lambda: self.tell(word, 0), aftermath_s)

    def rate(self, name: str, factor: float) -> Fault:
        """A victim that makes its own load makes so many times as much."""
        return Fault(name, lambda: self.tell("rate", factor), lambda: self.tell("rate", 1.0))

    def connections(self, port: int, number: int) -> Fault:
        """Clients that connect and say nothing."""
        held: list[socket.socket] = []

        def on() -> None:
            for _ in range(number):
                with suppress(OSError):
                    held.append(socket.create_connection(("127.0.0.1", port), timeout=1))

        def off() -> None:
            while held:
                held.pop().close()

        return Fault("connection_leak", on, off)

    def helper(self, name: str, *command: str | Path, noisy: bool = False) -> Fault:
        """Another process that does harm while it lives."""
        running: list[subprocess.Popen[bytes]] = []
        return Fault(name, lambda: running.append(self.run(*command)), lambda: self.end(running.pop()), noisy=noisy)


async def answered(port: int, patience_s: float = 20.0) -> None:
    """Wait until somebody listens on a port."""
    for _ in range(round(patience_s / 0.1)):
        with suppress(OSError):
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        await asyncio.sleep(0.1)
    sys.exit(f"nobody listens on port {port}")
