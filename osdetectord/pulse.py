"""The pulse: the watchdog hears of us only while everything that we are for makes progress."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable

from osdetectord.errors import OsdetectorError
from osdetectord.logger import get_logger
from osdetectord.notify import Notifier
from osdetectord.ticker import Ticker
from osdetectord.worker_client import WorkerClient

PING_TIMEOUT_S = 20.0
"""A flood on the bus keeps our own ping waiting in dbus-daemon's queue for seconds."""

logger = get_logger()


class Pulse:
    """Tells the service manager's watchdog that the daemon is alive.

    Parameters
    ----------
    notifier
        Tells it, and knows how often that must be.
    ticker, worker
        Collection, and the link to the detector: how long ago each made progress.
    ping
        Goes round over the bus within so many seconds, or raises OsdetectorError.
    """

    def __init__(
        self, notifier: Notifier, ticker: Ticker, worker: WorkerClient, ping: Callable[[float], Awaitable[object]]
    ) -> None:
        self._notifier, self._ticker, self._worker, self._ping = notifier, ticker, worker, ping

    async def run(self) -> None:
        """Go on until cancelled."""
        limit_s = self._notifier.watchdog_s
        while limit_s is None:
            await asyncio.sleep(3600)
        while True:
            stuck = await self._stuck(limit_s)
            if stuck:
                logger.error("no sign of life for the watchdog: %s", stuck)
            else:
                self._notifier.alive()
            await asyncio.sleep(limit_s / 6)

    async def _stuck(self, limit_s: float) -> str:
        """Return what has made no progress lately, or nothing."""
        now_s = time.monotonic()
        if now_s - self._ticker.progress_s > max(limit_s / 2, 3 * self._ticker.interval_s):
            return f"the last tick of the collectors ended {now_s - self._ticker.progress_s:.0f} s ago"
        if now_s - self._worker.progress_s > limit_s / 2:
            return f"the link to the detector stands since {now_s - self._worker.progress_s:.0f} s"
        try:
            await self._ping(min(PING_TIMEOUT_S, limit_s / 2))
        except OsdetectorError as error:
            return str(error)
        return ""
