"""CPU use as ``top`` shows it, by psutil."""

from __future__ import annotations

from typing import Any

from osdetectord.errors import Unsupported
from osdetectord.snoop.cpu import METRICS
from osdetectord.snoop.moment import Moment, Row

JUDGED: tuple[str, ...] = ("CPU%",)

UNKNOWN = -1.0
"""What the original writes for the times that this way does not give."""


class TopCpu:
    """Percent of one CPU for each process or thread; the columns of times hold -1.

    Parameters
    ----------
    threads
        Whether threads have rows of their own.

    Raises
    ------
    Unsupported
        If psutil is not installed.
    """

    metrics, judged, named = METRICS, JUDGED, True
    decimals = 2

    def __init__(self, threads: bool) -> None:
        try:
            # here, because only who asks for this way needs it
            import psutil
        except ImportError:
            raise Unsupported("snoop_cpu 'top' needs psutil, which is not installed (Debian: python3-psutil)") from None
        self._psutil = psutil
        self._of_threads = threads
        self._processes: dict[int, Any] = {}
        self._last: dict[tuple[int, int], float] = {}

    def rows(self, moment: Moment) -> list[Row]:
        self._processes = {series: held for series, held in self._processes.items() if series in moment.alive}
        out: list[Row] = []
        seen: dict[tuple[int, int], float] = {}
        for series, info in moment.alive.items():
            pid = info.process.pid
            try:
                if series not in self._processes:
                    self._processes[series] = self._psutil.Process(pid)
                process = self._processes[series]
                if not self._of_threads:
                    out.append(_row(series, 0, pid, info.comm, process.cpu_percent()))
                    continue
                for thread in process.threads():
                    key, total = (series, thread.id), thread.user_time + thread.system_time
                    rise = total - self._last.get(key, total)
                    percent = 100 * max(rise, 0.0) / moment.interval_s if moment.interval_s > 0 else 0.0
                    out.append(_row(series, thread.id, thread.id, self._name(thread.id, info.comm), percent))
                    seen[key] = total
            except self._psutil.Error:
                # it ended
                continue
        self._last = seen
        return out

    def _name(self, tid: int, otherwise: str) -> str:
        try:
            return str(self._psutil.Process(tid).name())
        except self._psutil.Error:
            return otherwise


def _row(series: int, tid: int, number: int, comm: str, percent: float) -> Row:
    return Row(series, tid, number, comm, (UNKNOWN, UNKNOWN, percent))
