"""Threads of the processes of this machine: how busy each was since the last look."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

MOST = 256
"""Threads of a process that are looked at."""


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread, and the share of a core that it took since the last look; 0 at the first."""

    tid: int
    name: str
    cpu: float


class Threads:
    """Looks at the threads of processes.

    Parameters
    ----------
    proc
        Where the file system proc(5) is.
    """

    def __init__(self, proc: Path = Path("/proc")) -> None:
        self._proc = proc
        self._at_s = 0.0
        self._before: dict[tuple[int, int], int] = {}

    def look(self, pids: Iterable[int]) -> dict[int, list[Thread]]:
        """Return the threads of these processes, the busiest first; none of one that is gone or hidden."""
        now_s = time.monotonic()
        seconds, self._at_s = now_s - self._at_s, now_s
        before, self._before = self._before, {}
        out = {}
        for pid in pids:
            threads = []
            for tid, name, ns in self._times(pid):
                self._before[pid, tid] = ns
                share = (ns - before[pid, tid]) / 1e9 / seconds if (pid, tid) in before and seconds > 0 else 0.0
                threads.append(Thread(tid, name, max(0.0, share)))
            out[pid] = sorted(threads, key=lambda thread: (-thread.cpu, thread.tid))
        return out

    def _times(self, pid: int) -> list[tuple[int, str, int]]:
        out = []
        try:
            tasks = sorted((self._proc / str(pid) / "task").iterdir(), key=lambda task: int(task.name))[:MOST]
        except (OSError, ValueError):
            return []
        for task in tasks:
            try:
                name = (task / "comm").read_bytes().decode(errors="backslashreplace").removesuffix("\n")
                out.append((int(task.name), name, int((task / "schedstat").read_text().split()[0])))
            except (OSError, ValueError, IndexError):
                continue  # it ended meanwhile
        return out
