"""What the daemon itself uses."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping

from osdetectord import statm


class Cost:
    """Its processor time and memory, and what its parts say of theirs.

    Parameters
    ----------
    parts
        Asked at each look.
    """

    def __init__(self, parts: Callable[[], Mapping[str, float]]) -> None:
        self._parts = parts
        self._own: dict[str, float] = {}
        self.begin()

    def begin(self) -> None:
        """Start to measure; what came before is not of the daily round."""
        self._at_s, self._cpu_s = time.monotonic(), time.process_time()

    def measure(self) -> None:
        """Take a measurement over the time since the last one."""
        now_s, cpu_s = time.monotonic(), time.process_time()
        share = (cpu_s - self._cpu_s) / max(1e-9, now_s - self._at_s)
        self._at_s, self._cpu_s = now_s, cpu_s
        self._own = {"cpu_s": cpu_s, "cpu_percent": 100 * share, "rss_bytes": statm.rss_bytes(os.getpid())}

    def values(self) -> dict[str, float]:
        """Return the newest values by name; the last word of a name is the unit."""
        return {**self._own, **self._parts()}
