"""Probes and traces of the configuration: a row for each call of a function, a row for each message."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from typing import Any

from numpy.typing import NDArray

from osdetectord.probing.location import Location
from osdetectord.probing.probes import Probes, TraceLine
from osdetectord.snoop.config import ProbeOutput, TraceOutput
from osdetectord.snoop.moment import Moment
from osdetectord.snoop.table import CsvFile

PROBE_COLUMNS = (
    *("PID", "EVENT NAME", "SIZE", "NUM", "UTime", "STime", "NVCSW", "NIVCSW"),
    *("ENTER TIME", "RETURN TIME", "TOTAL TIME"),
)
TRACE_COLUMNS = ("TIME", "PID", "MSG")
MS = 1e-6


class Functions:
    """Attaches what the configuration names, and writes what it gives.

    Parameters
    ----------
    probes
        The loaded programs' probes.
    threads
        Whether the column PID has the thread's id.
    tell
        Takes a line for people.
    """

    def __init__(self, probes: Probes, threads: bool, tell: Callable[[str], None]) -> None:
        self._probes, self._tell = probes, tell
        self._who = "tid" if threads else "pid"
        self._names: dict[int, str] = {}
        self._seen: set[int] = set()
        self._calls: CsvFile | None = None
        self._lines: CsvFile | None = None

    def probe(self, wanted: ProbeOutput, pids: Sequence[int], children: bool) -> None:
        """Measure calls; raises OsdetectorError where a function can't be probed."""
        for place in wanted.locations:
            number = self._probes.add_probe(place, pids=pids, tid=wanted.tid, children=children)
            location = Location.parse(place)
            self._names[number] = location.symbol or hex(location.address or 0)

    def trace(self, wanted: TraceOutput, pids: Sequence[int], children: bool) -> None:
        """Tell entries and returns; raises OsdetectorError where a function can't be probed."""
        for point in wanted.points:
            self._probes.add_trace(
                point.location,
                pids=pids,
                entry=point.entry,
                returned=point.returned,
                tid=wanted.tid,
                children=children,
            )

    def write_to(self, calls: CsvFile | None, lines: CsvFile | None) -> None:
        """Where calls and messages go."""
        self._calls, self._lines = calls, lines

    def drain(self) -> None:
        """Write what is there; often, so that the rings have room."""
        self._write(*self._probes.drain(time.monotonic_ns()))

    def take(self, moment: Moment) -> None:
        """Follow forks, executions and ends, and write what is there."""
        tick = moment.tick
        told = self._probes.tick(
            time.monotonic_ns(),
            [about.info for about in tick.started],
            [about.info for about in tick.execed],
            [exited.process for exited in tick.exited],
        )
        self._write(told.calls, told.lines)
        for detached in told.detached:
            self._tell(str(detached))

    def lost(self) -> dict[str, int]:
        """What there was no room for, by cause."""
        return self._probes.lost()

    def unseen(self) -> tuple[str, ...]:
        """Places of which no call was seen."""
        views = (view for view in self._probes.list() if view.number not in self._seen and not view.entries)
        return tuple(dict.fromkeys(view.location for view in views))

    def close(self) -> None:
        self._probes.close()

    def _write(self, calls: NDArray[Any], lines: Sequence[TraceLine]) -> None:
        wall_s = time.time() - time.monotonic()
        self._seen.update(calls["number"].tolist(), (line.number for line in lines))
        if self._calls is not None:
            self._calls.add([self._call(call, wall_s) for call in calls])
        if self._lines is not None:
            rows = [(f"{line.time_ns * 1e-9 + wall_s:.6f}", getattr(line, self._who), line.text) for line in lines]
            self._lines.add(rows)

    def _call(self, call: Any, wall_s: float) -> tuple[object, ...]:
        entered, returned = int(call["entered_ns"]), int(call["returned_ns"])
        return (
            int(call[self._who]),
            self._names[int(call["number"])],
            _whole(call["allocated"]),
            _whole(call["allocations"]),
            f"{call['user_ns'] * MS:.2f}",
            f"{call['system_ns'] * MS:.2f}",
            int(call["voluntary"]),
            int(call["involuntary"]),
            f"{entered * 1e-9 + wall_s:.6f}",
            f"{returned * 1e-9 + wall_s:.6f}",
            f"{(returned - entered) * MS:.6f}",
        )


def _whole(value: float) -> object:
    """A number that may not be known."""
    return "" if math.isnan(value) else int(value)
