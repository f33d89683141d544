"""Parts: each probed function of a watched process, and its allocations, as series of their own for the detector.

A part has few metrics and they are always the same, so that it comes and goes without a change to what is learnt of
its process; and what is learnt of it is kept by program and function.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from osdetectord.anomaly import Episode
from osdetectord.measured import GROUPS, Measured, name_of
from osdetectord.sample import Frame
from osdetectord.verdict import Verdict
from osdetectord.watching import Member, Part

FIRST_SERIES = 1 << 40
"""Far above what the sampler's numbers reach."""
PAST_ROWS = 120
MAX_UNITS = 4096
"""Metrics whose units are known at once; units of the oldest parts are forgotten first."""


class Detector(Protocol):
    """Where series are judged; :class:`osdetectord.worker_client.WorkerClient` is it."""

    def add(self, series: int, program: str, group: str = "") -> None: ...
    def remove(self, series: int) -> None: ...
    def send(self, frame: Frame, group: str = "") -> None: ...


@dataclass(slots=True)
class _Known:
    """A part and whose it is."""

    part: Part
    member: Member
    program: str


@dataclass(frozen=True, slots=True)
class _Row:
    """What all parts of a group did at one instant."""

    time_us: int
    series: NDArray[np.uint64]
    values: NDArray[np.float32]


@dataclass(slots=True)
class _Past:
    rows: deque[_Row] = field(default_factory=lambda: deque(maxlen=PAST_ROWS))

    def of(self, series: int, times_us: Sequence[int], column: int) -> list[float | None]:
        """Return what a part did at these instants, None where that is not known."""
        found = {}
        for row in self.rows:
            at = np.flatnonzero(row.series == series)
            if len(at):
                value = float(row.values[at[0], column])
                found[row.time_us] = value if value == value else None
        return [found.get(time_us) for time_us in times_us]


class Parts:
    """All parts of watched processes.

    Parameters
    ----------
    detector
        Judges them.
    units
        Units of samples by name; those of parts are added.
    ended
        Is told of a series that is there no longer, and why.
    named
        Is called where units were added.
    """

    def __init__(
        self,
        detector: Detector,
        units: MutableMapping[str, str],
        ended: Callable[[int, str], None],
        named: Callable[[], None],
    ) -> None:
        self._detector, self._units, self._ended, self._named = detector, units, ended, named
        self._parts: dict[tuple[int, str, int], _Known] = {}
        self._by_series: dict[int, _Known] = {}
        self._past = {group: _Past() for group in GROUPS}
        self._names: dict[str, None] = {}
        self._next = FIRST_SERIES

    def take(self, frame: Frame, now_us: int, measured: Iterable[Measured], members: Mapping[int, Member]) -> None:
        """Take in what was measured of parts at the same instant as ``frame``, and hand it to the detector."""
        measured = list(measured)
        if not measured and not self._parts:
            return
        by_pid = {member.process.pid: member for member in members.values()}
        rows: dict[str, list[tuple[int, tuple[float, ...]]]] = {group: [] for group in GROUPS}
        there = set()
        for one in measured:
            member = by_pid.get(one.pid)
            if member is None:
                continue
            key = (member.series, one.group, one.number)
            there.add(key)
            known = self._parts.get(key)
            if known is None or known.program != member.program:
                known = self._begin(key, one, member)
            if one.values is not None:
                known.part.values = one.values
                rows[one.group].append((known.part.series, one.values))
        for key in [key for key in self._parts if key not in there]:
            self._end(key)
        for group, found in rows.items():
            if found:
                series = np.array([number for number, _ in found], dtype=np.uint64)
                values = np.array([each for _, each in found])
                self._past[group].rows.append(_Row(now_us, series, values.astype(np.float32)))
                self._detector.send(Frame(frame.time_ns, frame.interval_s, series, GROUPS[group], values), group)

    def heard(self, verdict: Verdict) -> None:
        """Note the detector's newest word."""
        for at, series in enumerate(verdict.series.tolist()):
            known = self._by_series.get(series)
            if known is not None:
                part = known.part
                part.score, part.alarm = float(verdict.score[at]), bool(verdict.alarm[at])
                part.low, part.high = verdict.low[at], verdict.high[at]

    def whose(self, episode: Episode) -> tuple[Member, Episode] | None:
        """Return the process of a part's episode, and the episode with its metrics called as people call them."""
        known = self._by_series.get(episode.series)
        if known is None:
            return None
        label = known.part.label
        blames = tuple(replace(blame, metric=name_of(blame.metric, label)) for blame in episode.blames)
        return known.member, replace(episode, blames=blames)

    def evidence(self, member: Member, times_us: Sequence[int]) -> dict[str, dict[str, Any]]:
        """Return what the parts of a process did at these instants, by name of the metric."""
        out: dict[str, dict[str, Any]] = {}
        for part in member.parts.values():
            for at, metric in enumerate(GROUPS[part.group]):
                low, high = (float(part.low[at]), float(part.high[at])) if part.low.size else (np.nan, np.nan)
                out[name_of(metric.name, part.label)] = {
                    "unit": metric.sample_unit,
                    "values": self._past[part.group].of(part.series, times_us, at),
                    "expected": [max(0.0, low), max(0.0, high)] if np.isfinite(low) and np.isfinite(high) else None,
                }
        return out

    def _begin(self, key: tuple[int, str, int], one: Measured, member: Member) -> _Known:
        if key in self._parts:
            self._end(key)
        names = tuple(name_of(metric.name, one.label) for metric in GROUPS[one.group])
        part = Part(self._next, one.group, one.label, names)
        self._next += 1
        known = self._parts[key] = self._by_series[part.series] = _Known(part, member, member.program)
        member.parts[part.series] = part
        # after the program, so that what is learnt of it may be long and this still is told apart
        self._detector.add(part.series, f"{one.group} {one.label} {member.program}", one.group)
        self._name(names, one.group)
        return known

    def _name(self, names: Sequence[str], group: str) -> None:
        new = [name for name in names if name not in self._names]
        for name, metric in zip(names, GROUPS[group], strict=True):
            self._names.pop(name, None)
            self._names[name] = None
            self._units[name] = metric.sample_unit
        while len(self._names) > MAX_UNITS:
            oldest = next(iter(self._names))
            del self._names[oldest], self._units[oldest]
        if new:
            self._named()

    def _end(self, key: tuple[int, str, int]) -> None:
        known = self._parts.pop(key)
        del self._by_series[known.part.series]
        known.member.parts.pop(known.part.series, None)
        self._detector.remove(known.part.series)
        self._ended(known.part.series, "no longer measured")
