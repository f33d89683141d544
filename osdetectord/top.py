"""CPU time of processes as psutil tells it, which is what ``top`` shows."""

from __future__ import annotations

from typing import Any

from osdetectord.errors import ConfigError, NoSuchProcess


class Top:
    """Reads CPU times of processes.

    Raises
    ------
    ConfigError
        If psutil is not installed.
    """

    def __init__(self) -> None:
        try:
            # here, because only who asks for this way needs it
            import psutil
        except ImportError:
            raise ConfigError("cpu", "top", "psutil to be installed for it (Debian: python3-psutil)") from None
        self._psutil = psutil

    def open(self, pid: int) -> Any:
        """Return what :meth:`seconds` reads; raises NoSuchProcess."""
        try:
            return self._psutil.Process(pid)
        except self._psutil.Error:
            raise NoSuchProcess(f"no process {pid}") from None

    def seconds(self, process: Any) -> float:
        """Return user and system time of all threads, past and present; raises NoSuchProcess."""
        try:
            times = process.cpu_times()
        except self._psutil.Error:
            raise NoSuchProcess(f"no process {process.pid}") from None
        return float(times.user + times.system)
