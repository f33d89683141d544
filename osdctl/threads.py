"""Threads of the processes that are open in top: how busy each was since the last look."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import dataclass, replace

from osdctl.inside import Thread

SHORT_S = 0.25
"""A thread that was looked at so lately keeps its share: over less, there is nothing but noise."""


@dataclass(frozen=True, slots=True)
class _Before:
    at_s: float
    cpu_s: float
    share: float


class Threads:
    """Turns the CPU times of threads, as the daemon tells them from time to time, into shares of a core."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, int], _Before] = {}

    def look(self, told: Iterable[Thread]) -> dict[int, list[Thread]]:
        """Return the threads by process, the busiest first; one that is new as busy as it was told."""
        now_s = time.monotonic()
        before, self._before = self._before, {}
        out: dict[int, list[Thread]] = {}
        for thread in told:
            key = thread.pid, thread.tid
            known = before.get(key)
            if known is None:
                known = _Before(now_s, thread.cpu_s, thread.cpu)
            elif now_s - known.at_s >= SHORT_S:
                share = max(0.0, thread.cpu_s - known.cpu_s) / (now_s - known.at_s)
                known = _Before(now_s, thread.cpu_s, share)
            self._before[key] = known
            out.setdefault(thread.pid, []).append(replace(thread, cpu=known.share))
        return {pid: sorted(threads, key=lambda thread: (-thread.cpu, thread.tid)) for pid, threads in out.items()}
