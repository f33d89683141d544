"""Evidence: what an anomaly rests on and what else changed with it, gathered when it opens and again when it ends."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from osdetectord import proc, wall
from osdetectord.collectors.syscall_names import name_of
from osdetectord.core import AnomalyView, ProbeView
from osdetectord.errors import OsdetectorError
from osdetectord.happenings import Happenings
from osdetectord.logger import get_logger
from osdetectord.metric import Metric
from osdetectord.sample import Frame

ROWS = 120
"""Samples from before the alarm."""
SNAPSHOT_S = 10.0
MOST_ROWS = 200_000
"""Of totals of system calls that are kept, 8 MB."""
MOST_SNAPSHOTS = 31
BUSIEST = 8
"""Threads that are told."""
MOST_THREADS = 512
AROUND_US = 300_000_000
MOST_HAPPENINGS = 60
FRESH_US = 1_000_000
"""What was read for an open anomaly is as good for so long."""

logger = get_logger()
_CALL = ("count", "errors", "total_ns")


class Calls(Protocol):
    """Knows the system calls of processes; :class:`osdetectord.sampler.Sampler` is it."""

    metrics: tuple[Metric, ...]

    def syscall_totals(self) -> NDArray[Any]: ...


@dataclass(frozen=True, slots=True)
class _Snapshot:
    """Totals at one time: of system calls by series, and of probes (location, calls, seconds) by number."""

    time_us: int
    syscalls: NDArray[Any]
    probes: Mapping[int, tuple[str, int, float]]

    def part(self, series: int, probes: frozenset[int]) -> _Snapshot:
        """Return what it has of one series and of some probes."""
        rows = self.syscalls[self.syscalls["series"] == series]
        return _Snapshot(self.time_us, rows, {number: self.probes[number] for number in probes & self.probes.keys()})

    def of(self, series: int) -> dict[str, tuple[int, ...]]:
        """Return what a series' system calls add up to, by name."""
        rows = self.syscalls[self.syscalls["series"] == series]
        return {name_of(int(row["nr"])): tuple(int(row[name]) for name in _CALL) for row in rows}


@dataclass(slots=True)
class _Open:
    """What must be remembered to tell what an anomaly changed; snapshots have the rows of its series only."""

    series: int
    pid: int
    onset_us: int
    base: _Snapshot | None
    before: _Snapshot | None
    probes: frozenset[int]
    begun_us: int = 0
    """When ``threads`` were read; 0 before that."""
    threads: Mapping[int, int] = field(default_factory=dict)
    busiest_us: int = 0
    busiest: list[dict[str, Any]] = field(default_factory=list)
    syscalls: dict[str, Any] = field(default_factory=dict)
    told_us: int = 0
    """When ``syscalls`` were counted."""


class Evidence:
    """Gathers it.

    Parameters
    ----------
    calls
        Totals of system calls.
    probes
        All probes now.
    happenings
        What went on.
    of_parts
        What the parts of a process, given by its series, did at some instants, by name of the metric.
    """

    def __init__(
        self,
        calls: Calls,
        probes: Callable[[], Iterable[ProbeView]],
        happenings: Happenings,
        of_parts: Callable[[int, Sequence[int]], Mapping[str, Any]] = lambda series, times_us: {},
    ) -> None:
        self._calls, self._probes, self._happenings, self._of_parts = calls, probes, happenings, of_parts
        self._past: deque[tuple[int, NDArray[np.uint64], NDArray[np.float32]]] = deque(maxlen=ROWS)
        self._snapshots: deque[_Snapshot] = deque(maxlen=MOST_SNAPSHOTS)
        self._newest: _Snapshot | None = None
        self._looking = asyncio.Lock()
        self._open: dict[int, _Open] = {}

    # ---- told all the time

    def take(self, now_us: int, frame: Frame) -> None:
        """Remember the samples of processes that may have an anomaly."""
        self._past.append((now_us, frame.series, frame.values.astype(np.float32)))

    async def run(self) -> None:
        """Note the totals every few seconds until cancelled."""
        while True:
            try:
                async with self._looking:
                    totals = await asyncio.to_thread(self._calls.syscall_totals)
                self.note(wall.now_us(), totals)
            except (OSError, OsdetectorError) as error:
                logger.warning("the totals of system calls can't be read: %s", error)
            await asyncio.sleep(SNAPSHOT_S)

    def note(self, now_us: int, totals: NDArray[Any]) -> None:
        """Note the totals at one time; what is oldest goes where they are too many."""
        self._newest = _Snapshot(now_us, totals, self._counted())
        self._snapshots.append(self._newest)
        while len(self._snapshots) > 2 and sum(len(one.syscalls) for one in self._snapshots) > MOST_ROWS:
            self._snapshots.popleft()

    # ---- of one anomaly

    def begin(
        self, view: AnomalyView, series: int, expected: tuple[NDArray[np.float64], NDArray[np.float64]] | None
    ) -> dict[str, Any]:
        """Return the evidence of an anomaly that opens, for JSON, as far as it is at hand: nothing is read for it."""
        onset_us = min((blame.onset_us for blame in view.blames if blame.onset_us), default=view.opened_us)
        earlier = [one for one in self._snapshots if one.time_us <= onset_us]
        base = earlier[-1] if earlier else next(iter(self._snapshots), None)
        before = next((one for one in earlier[:-1] if (one.syscalls["series"] == series).any()), None)
        known = frozenset(
            probe.number
            for probe in self._probes()
            if probe.scope in ("all", f"pid:{view.pid}", f"target:{view.target}")
        )
        self._open[view.number] = _Open(
            series,
            view.pid,
            onset_us,
            base.part(series, known) if base is not None else None,
            before.part(series, known) if before is not None else None,
            known,
        )
        return {**self._rows(series, expected), **self._changed(view.number)}

    async def look(self, numbers: Iterable[int]) -> None:
        """Read for these anomalies what the kernel knows of them now, in a thread, unless that was done just now.

        Raises
        ------
        OSError, OsdetectorError
            If that can't be read.
        """
        # once for all of them; the table is read as a whole, and whoever reads it may have to wait for a tick
        async with self._looking:
            opened = [self._open[number] for number in numbers if number in self._open]
            if not opened:
                return
            if self._newest is None or wall.now_us() - self._newest.time_us >= FRESH_US:
                totals = await asyncio.to_thread(self._calls.syscall_totals)
                self._newest = _Snapshot(wall.now_us(), totals, {})
            for one in opened:
                if wall.now_us() - one.busiest_us >= FRESH_US:
                    await asyncio.to_thread(_look_at_threads, one)

    def refreshed(self, number: int, old: Mapping[str, Any]) -> dict[str, Any]:
        """Return the evidence of an anomaly with what is known since the last look, as long as it is open."""
        return {**old, **self._changed(number)} if number in self._open else dict(old)

    def end(self, number: int) -> None:
        """Forget an anomaly that is closed."""
        self._open.pop(number, None)

    def _rows(self, series: int, expected: tuple[NDArray[np.float64], NDArray[np.float64]] | None) -> dict[str, Any]:
        found = [(us, values[numbers == series]) for us, numbers, values in self._past]
        past = [(us, rows[0]) for us, rows in found if len(rows)]
        table = np.array([row for _, row in past])
        metrics = {}
        for at, metric in enumerate(self._calls.metrics):
            values = [value if value == value else None for value in table[:, at].tolist()] if len(table) else []
            low, high = (float(end[at]) for end in expected) if expected is not None else (np.nan, np.nan)
            band = [max(0.0, low), max(0.0, high)] if np.isfinite(low) and np.isfinite(high) else None
            metrics[metric.name] = {"unit": metric.sample_unit, "values": values, "expected": band}
        times_us = [us for us, _ in past]
        return {"time_us": times_us, "metrics": {**metrics, **self._of_parts(series, times_us)}}

    def _changed(self, number: int) -> dict[str, Any]:
        """Return what changed with an anomaly."""
        one, now_us = self._open[number], wall.now_us()
        around = self._happenings.between(one.onset_us - AROUND_US, now_us + AROUND_US)
        return {
            "syscalls": self._syscalls(one),
            "functions": {**_spans(one, now_us), "calls": self._functions(one)},
            "threads": one.busiest,
            "happenings": [asdict(each) for each in around][-MOST_HAPPENINGS:],
        }

    def _syscalls(self, one: _Open) -> dict[str, Any]:
        # of a process that has ended, the newest snapshot that has it, or what was told last
        for seen in (self._newest, *reversed(self._snapshots)):
            if seen is not None and seen.time_us >= one.told_us and (now := seen.of(one.series)):
                base = one.base.of(one.series) if one.base is not None else {}
                before = one.before.of(one.series) if one.before is not None else base
                calls = [{"name": name, **_difference(now[name], base.get(name), before.get(name))} for name in now]
                one.syscalls, one.told_us = {**_spans(one, seen.time_us), "calls": calls}, seen.time_us
                break
        return one.syscalls

    def _functions(self, one: _Open) -> list[dict[str, Any]]:
        base = one.base.probes if one.base is not None else {}
        before = one.before.probes if one.before is not None else base
        out = []
        for number, (location, *now) in self._counted().items():
            if number in one.probes:
                was = [_total(known[number][1:]) if number in known else None for known in (base, before)]
                out.append({"name": location, **_difference(_total(now), *was)})
        return out

    def _counted(self) -> dict[int, tuple[str, int, float]]:
        return {
            probe.number: (probe.location, probe.calls, probe.calls * probe.mean_s if probe.mean_s > 0 else 0.0)
            for probe in self._probes()
        }


def _spans(one: _Open, now_us: int) -> dict[str, float]:
    base_us = one.base.time_us if one.base is not None else one.onset_us
    # without an earlier time there is nothing to compare with
    before_s = (base_us - one.before.time_us) / 1e6 if one.before is not None else 0.0
    return {"during_s": max(0.0, (now_us - base_us) / 1e6), "before_s": before_s}


def _look_at_threads(one: _Open) -> None:
    """Note the threads that were longest on a CPU since the first look, with their shares of one."""
    now, now_us = proc.thread_times(one.pid, MOST_THREADS), wall.now_us()
    if not one.begun_us:
        one.threads, one.begun_us = now, now_us
        return
    seconds = (now_us - one.begun_us) / 1e6
    # what a process that has ended told last stays
    if not now or seconds <= 0:
        return
    # a thread that is new has all of its time from since then
    share = {tid: (ns - one.threads.get(tid, 0)) / 1e9 / seconds for tid, ns in now.items()}
    busiest = sorted(share, key=lambda tid: -share[tid])[:BUSIEST]
    one.busiest = [{"tid": tid, "name": proc.thread_name(one.pid, tid), "cpu": share[tid]} for tid in busiest]
    one.busiest_us = now_us


def _total(counted: Sequence[Any]) -> tuple[int, int, int]:
    calls, seconds = counted
    return int(calls), 0, round(seconds * 1e9)


def _difference(now: Sequence[int], base: Sequence[int] | None, before: Sequence[int] | None) -> dict[str, int]:
    base = base or (0, 0, 0)
    before = before or (0, 0, 0)
    out = {name: max(0, a - b) for name, a, b in zip(_CALL, now, base, strict=True)}
    out |= {f"before_{name}": max(0, a - b) for name, a, b in zip(_CALL, base, before, strict=True)}
    return out
