"""Time on and off a CPU, by the scheduler's events or by ``/proc/PID/stat``; a row for each process or thread."""

from __future__ import annotations

import time

from osdetectord import proc
from osdetectord.collectors.cpu import OFF_CPU, ON_CPU
from osdetectord.sampler import Sampler
from osdetectord.snoop.moment import Moment, Row

METRICS: tuple[str, ...] = ("ON CPU", "OFF CPU", "CPU%")
JUDGED: tuple[str, ...] = ("OFF CPU", "CPU%")
"""Detection takes what time on a CPU says once, as percent, which no late row distorts."""
MS = 1e3


def numbers(on_s: float, off_s: float, interval_s: float) -> tuple[float, float, float]:
    """Milliseconds on a CPU and off it, and percent of one CPU."""
    return on_s * MS, max(off_s, 0.0) * MS, 100 * on_s / interval_s if interval_s > 0 else 0.0


class SwitchedCpu:
    """Processes, by the scheduler's events: exact, and short-lived children are counted."""

    metrics, judged, named = METRICS, JUDGED, True
    decimals = 2

    def rows(self, moment: Moment) -> list[Row]:
        return [
            Row(
                series,
                0,
                info.process.pid,
                info.comm,
                numbers(moment.rise(series, ON_CPU), moment.rise(series, OFF_CPU), moment.interval_s),
            )
            for series, info in moment.everybody()
        ]


class StatCpu:
    """Processes, by the ticks of the scheduler that ``/proc/PID/stat`` has: in steps of 10 ms."""

    metrics, judged, named = METRICS, JUDGED, True
    decimals = 2

    def rows(self, moment: Moment) -> list[Row]:
        out = []
        for series, info in moment.everybody():
            on_s = moment.rise(series, proc.USER) + moment.rise(series, proc.SYSTEM)
            threads = max(1, len(proc.threads(info.process.pid))) if series in moment.alive else 1
            off_s = threads * moment.interval_s - on_s
            out.append(Row(series, 0, info.process.pid, info.comm, numbers(on_s, off_s, moment.interval_s)))
        return out


class ThreadCpu:
    """Threads, by either way.

    A thread that begins and ends between two rows is not seen; its process's row, without threads, has its time.

    Parameters
    ----------
    sampler
        Gives the times of threads by the scheduler's events; None reads ``/proc/PID/task/TID/stat``.
    """

    metrics, judged, named = METRICS, JUDGED, True
    decimals = 2

    def __init__(self, sampler: Sampler | None) -> None:
        self._sampler = sampler
        self._last: dict[tuple[int, int], float] = {}
        self._first = True

    def rows(self, moment: Moment) -> list[Row]:
        out = []
        times = self._sampler.thread_times() if self._sampler is not None else None
        now: dict[tuple[int, int], float] = {}
        for series, info in moment.alive.items():
            for tid in proc.threads(info.process.pid):
                stat = task_stat(info.process.pid, tid)
                key = (series, tid)
                if stat is None or (times is not None and key not in times):
                    continue
                on_s = (stat.user_ticks + stat.system_ticks) * proc.TICK_S if times is None else times[key]
                began = 0.0 if times is not None or not self._first else on_s
                last = self._last.get(key, began)
                # an id that was given away again has less than before
                rise = on_s - last if on_s >= last else on_s
                age = min(moment.interval_s, age_s(stat))
                out.append(Row(series, tid, tid, stat.comm, numbers(rise, age - rise, moment.interval_s)))
                now[key] = on_s
        self._last, self._first = now, False
        return out


def task_stat(pid: int, tid: int) -> proc.Stat | None:
    """``/proc/PID/task/TID/stat``, None where the thread is gone."""
    try:
        with open(f"/proc/{pid}/task/{tid}/stat", "rb") as file:
            return proc.Stat.parse(file.read(4096))
    except (OSError, ValueError):
        return None


def age_s(stat: proc.Stat) -> float:
    """Seconds since a thread began, to its clock tick."""
    return time.clock_gettime(time.CLOCK_BOOTTIME) - stat.start_ticks * proc.TICK_S
