"""The collector's thread: one tick at each point of the time grid, handed to the event loop."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable
from typing import Protocol

from osdetectord.sampler import Tick
from osdetectord.trouble import Troubles

MAX_PENDING = 10
"""Ticks that the loop may be behind by before points of the grid are left out."""


class Ticks(Protocol):
    """What is asked for one tick; :class:`osdetectord.sampler.Sampler` is it."""

    def tick(self, now_ns: int) -> Tick: ...


class Ticker:
    """Samples in a thread of its own, so that a slow bus never makes a hole in a series.

    Parameters
    ----------
    source
        Sampled at each point.
    interval_s
        Distance of the points, on CLOCK_MONOTONIC.
    deliver
        Called in the event loop with each tick.
    """

    def __init__(self, source: Ticks, interval_s: float, deliver: Callable[[Tick], None]) -> None:
        self._source = source
        self.interval_s = interval_s
        self._deliver = deliver
        self._loop = asyncio.get_running_loop()
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="collector", daemon=True)
        self._pending = 0
        self._troubles = Troubles("%s failed", "%s succeeds again")
        self.progress_s = time.monotonic()
        """CLOCK_MONOTONIC seconds of the last tick that ended."""
        self.tick_s = 0.0
        """How long the last tick took."""
        self.skipped = 0
        """Points of the grid that were left out."""

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def stop(self) -> None:
        """End after the tick that is under way."""
        self._stop.set()
        self._thread.join(5.0)

    def _run(self) -> None:
        next_s = time.monotonic()
        while not self._stop.is_set():
            began_s = time.monotonic()
            self._tick()
            self.progress_s = time.monotonic()
            self.tick_s = self.progress_s - began_s
            next_s += self.interval_s
            late = max(0, int((self.progress_s - next_s) // self.interval_s) + 1)
            if late:
                self.skipped += late
                next_s += late * self.interval_s
            self._stop.wait(next_s - time.monotonic())

    def _tick(self) -> None:
        if self._pending >= MAX_PENDING:
            self.skipped += 1
            return
        with self._troubles.apart("a tick of the collectors"):
            tick = self._source.tick(time.monotonic_ns())
            self._pending += 1
            self._loop.call_soon_threadsafe(self._hand_over, tick)

    def _hand_over(self, tick: Tick) -> None:
        self._pending -= 1
        with self._troubles.apart("taking in a tick of the collectors"):
            self._deliver(tick)
