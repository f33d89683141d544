"""What happened to the watched processes between two ticks, as the signals of snooping need it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple, Protocol

import numpy as np
from numpy.typing import NDArray

from osdetectord.metric import Metric
from osdetectord.process import ProcessInfo
from osdetectord.sampler import ProcessSeries, Tick


class Row(NamedTuple):
    """One row of a signal.

    Parameters
    ----------
    series, tid
        Whose: series of a process, and a thread of it or 0.
    number
        What stands in the column PID or SPID.
    comm
        Name of the process or thread.
    values
        The signal's numbers, NaN where missing.
    """

    series: int
    tid: int
    number: int
    comm: str
    values: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Moment:
    """A tick and the time before it.

    Parameters
    ----------
    time_s
        Wall clock.
    interval_s
        Seconds since the tick before.
    tick
        What the sampler found.
    alive
        Processes that live, by series.
    ended
        Processes that ended since the tick before, by series.
    """

    time_s: float
    interval_s: float
    tick: Tick
    alive: dict[int, ProcessInfo]
    ended: dict[int, ProcessInfo]
    _rises: dict[int, NDArray[np.float64]]
    _columns: dict[str, int]

    def rise(self, series: int, metric: Metric) -> float:
        """How much a counter rose, in its unit; of what ended too, up to its end.  NaN where it is not known."""
        column = self._columns.get(metric.name)
        return float("nan") if column is None else float(self._rises[series][column])

    def everybody(self) -> Iterator[tuple[int, ProcessInfo]]:
        """Who lived in this interval: those alive, then those that ended."""
        yield from self.alive.items()
        yield from self.ended.items()


class Signal(Protocol):
    """One signal: rows at each moment."""

    metrics: tuple[str, ...]
    """Names of the numbers."""
    judged: tuple[str, ...]
    """Those of them that detection looks at."""
    named: bool
    """Whether its rows have a column COMM."""
    decimals: int
    """Of its numbers in the file."""

    def rows(self, moment: Moment) -> list[Row]:
        """What happened since the moment before; the first call tells where all begin, its rows are not used."""


class Moments:
    """Makes moments of ticks.

    Parameters
    ----------
    metrics
        Columns of the ticks' readings.
    """

    def __init__(self, metrics: Sequence[Metric]) -> None:
        self._metrics = tuple(metrics)
        self._columns = {metric.name: index for index, metric in enumerate(self._metrics)}
        self._known: dict[int, ProcessInfo] = {}
        self._base: dict[int, NDArray[np.float64]] = {}
        self._last: dict[int, NDArray[np.float64]] = {}
        self._last_s = 0.0
        self._begun = False

    def know(self, about: ProcessSeries) -> None:
        """Take in a process that no tick has told of."""
        self._known[about.series] = about.info

    def of(self, tick: Tick, time_s: float, monotonic_s: float) -> Moment:
        """Return the moment of a tick; ticks come in their order."""
        for about in (*tick.started, *tick.execed):
            self._known[about.series] = about.info
        rises: dict[int, NDArray[np.float64]] = {}
        alive: dict[int, ProcessInfo] = {}
        for series, readings in zip(tick.frame.series.tolist(), tick.readings, strict=True):
            alive[series] = self._known[series]
            if series not in self._base:
                # what lived before us began with what it has, what came later with nothing
                self._base[series] = np.zeros(len(readings)) if self._begun else np.nan_to_num(readings)
                self._last[series] = self._base[series]
            now = np.where(np.isnan(readings), self._last[series], readings)
            rises[series] = np.maximum(now - self._last[series], 0.0)
            self._last[series] = now
        ended: dict[int, ProcessInfo] = {}
        for exited in tick.exited:
            nothing = np.zeros(len(self._metrics))
            ended[exited.series] = self._known.pop(exited.series)
            before = self._last.pop(exited.series, nothing) - self._base.pop(exited.series, nothing)
            totals = np.array([exited.totals.get(metric.name, np.nan) for metric in self._metrics])
            rises[exited.series] = np.maximum(totals - before, 0.0)
        interval_s = monotonic_s - self._last_s if self._begun else 0.0
        self._begun, self._last_s = True, monotonic_s
        return Moment(time_s, interval_s, tick, alive, ended, rises, self._columns)
