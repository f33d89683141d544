"""The service manager's notification socket: ready, status, reloading, watchdog."""

from __future__ import annotations

import os
import time

import sdnotify


class Notifier:
    """Tells the service manager how the daemon is; silent where there is none.

    Every call is one datagram on ``$NOTIFY_SOCKET``, see sd_notify(3).
    """

    def __init__(self) -> None:
        self._notifier = sdnotify.SystemdNotifier()

    @property
    def watchdog_s(self) -> float | None:
        """Seconds within which the manager expects :meth:`alive`, or None where it does not."""
        text = os.environ.get("WATCHDOG_USEC", "")
        watched_pid = os.environ.get("WATCHDOG_PID", str(os.getpid()))
        if not text.isdigit() or int(text) == 0 or watched_pid != str(os.getpid()):
            return None
        return int(text) / 1e6

    def ready(self, status: str) -> None:
        """Start-up or reload is done."""
        self._notifier.notify(f"READY=1\nSTATUS={status}")

    def status(self, status: str) -> None:
        """One line for ``systemctl status``."""
        self._notifier.notify(f"STATUS={status}")

    def reloading(self) -> None:
        """A reload begins; :meth:`ready` ends it."""
        now_us = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notifier.notify(f"RELOADING=1\nMONOTONIC_USEC={now_us}")

    def alive(self) -> None:
        """Every part has made progress."""
        self._notifier.notify("WATCHDOG=1")

    def stopping(self) -> None:
        """The daemon goes down in order."""
        self._notifier.notify("STOPPING=1\nSTATUS=stopping")
