"""Probes and traces as people have them: for whom, since when, who follows them, and when they end."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord import proc, wall
from osdetectord.core import Caller, HookView, ProbeView, TraceView
from osdetectord.errors import NoSuchTarget, OsdetectorError, TooManyTargets
from osdetectord.follower import Follower
from osdetectord.logger import get_logger
from osdetectord.measured import CallSums, Measured
from osdetectord.probing import probes
from osdetectord.probing.probes import CALL, DEFAULT_BUDGET, Probes, ProbeTotal, TraceLine
from osdetectord.record import Record
from osdetectord.sampler import Tick
from osdetectord.sharing import Processes
from osdetectord.tending import Attached, Listener, Look, News, Tending, budget_of, only_one

READ_S = 0.04
"""How often the rings are read: what the usual budget allows, 20000 calls a second, fills them in 0.07 s."""
PERIOD_S = 0.2
"""How often processes are followed and counts are taken."""
KEPT = 1000
"""Newest calls and lines of each, for quantiles and for who comes later."""
MAX_FOLLOWERS = 16
MAX_BUDGET = 1_000_000

logger = get_logger()


@dataclass(frozen=True, slots=True)
class _Scope:
    """Whose calls: of a target, those of its processes to come too; of a process, its children if asked."""

    text: str
    pids: tuple[int, ...]
    tid: int = 0
    target: int = 0
    children: bool = True


@dataclass(slots=True)
class _Instrument(Attached):
    """A probe or a trace."""

    is_trace: bool
    asked: str
    children: bool
    inner: probes.ProbeView
    calls: NDArray[Any] = field(default_factory=lambda: np.zeros(0, dtype=CALL))
    quantiles_s: tuple[float, float] = (math.nan, math.nan)
    lines: deque[TraceLine] = field(default_factory=lambda: deque(maxlen=KEPT))
    counts: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=round(1 / PERIOD_S) + 1))
    """When how many calls had begun."""
    followers: list[Follower] = field(default_factory=list)

    @property
    def follows(self) -> bool:
        """Return whether it takes in children by itself, and not through its target."""
        return self.children and not self.target

    @property
    def name(self) -> str:
        return f"{'trace' if self.is_trace else 'probe'} {self.inner.number}"

    @property
    def numbers(self) -> Collection[int]:
        return (self.inner.number,)

    def heard(self, calls: NDArray[Any]) -> None:
        """Take in calls."""
        if len(calls):
            self.calls = np.concatenate((self.calls, calls[-KEPT:]))[-KEPT:]
            durations = (self.calls["returned_ns"] - self.calls["entered_ns"]) * 1e-9
            self.quantiles_s = float(np.quantile(durations, 0.5)), float(np.quantile(durations, 0.99))

    def rate(self) -> float:
        """Calls that began per second, over the last second."""
        if len(self.counts) < 2:
            return 0.0
        (first_ns, before), (last_ns, now) = self.counts[0], self.counts[-1]
        return (now - before) / ((last_ns - first_ns) * 1e-9)

    def view(self, lost: int) -> ProbeView | TraceView:
        """Return it as the bus shows it."""
        inner = self.inner
        shared = (inner.number, self.asked, self.scope, inner.state, self.since_us, inner.budget, self.children)
        since = lost - self.lost_before
        if isinstance(inner, probes.TraceView):
            return TraceView(*shared, inner.places, inner.entries, self.rate(), inner.lines, since)
        mean_s = inner.total_ns * 1e-9 / inner.calls if inner.calls else math.nan
        return ProbeView(*shared, inner.places, inner.entries, self.rate(), mean_s, *self.quantiles_s, since)


@dataclass(frozen=True, slots=True)
class _Found:
    """Calls and lines that were in the rings, and as lines of JSON by number for those that are followed."""

    calls: NDArray[Any]
    lines: Sequence[TraceLine]
    encoded: Mapping[int, list[bytes]]

    @classmethod
    def of(cls, calls: NDArray[Any], lines: Sequence[TraceLine], followed: set[int]) -> _Found:
        encoded = {
            number: _encode_lines([line for line in lines if line.number == number])
            + _encode_calls(calls[calls["number"] == number])
            for number in followed
        }
        return cls(calls, lines, encoded)


@dataclass(frozen=True, slots=True)
class _Look(Look):
    """What another thread brings back from a look at everything."""

    found: _Found
    totals: Sequence[ProbeTotal]
    views: Mapping[int, probes.ProbeView]


class Instruments(Tending[_Instrument, ProbeView | TraceView]):
    """All probes and traces; see :class:`osdetectord.core.Instruments` for what the bus may ask.

    Parameters
    ----------
    manager
        Attaches and reads.
    processes, members, bus, tell
        As for :class:`Tending`.
    """

    kind, failed = "probe or trace", "reading the probes failed"
    pause_s, told_every = READ_S, 5

    def __init__(
        self,
        manager: Probes,
        processes: Processes,
        members: Callable[[int, bool], Sequence[int]],
        bus: Listener,
        tell: Callable[[Record], None],
    ) -> None:
        super().__init__(processes, members, bus, tell)
        self._manager = manager
        self._coming: set[int] = set()
        """Children, and theirs, of what is followed, until the next look takes them in."""
        self._sums = CallSums()

    # ---- life

    def close(self) -> None:
        """Let the followers go.  What is attached is held by descriptors and goes with the process that has them."""
        for instrument in self._all.values():
            for follower in list(instrument.followers):
                follower.close()

    def ticked(self, tick: Tick) -> None:
        """Note what the collectors found."""
        super().ticked(tick)
        if self._busy():
            followed = {*self._adding, *(s for one in self._all.values() if one.follows for s in one.series)}
            for child in tick.started:
                if child.parent_series in followed or child.parent_series in self._coming:
                    self._coming.add(child.series)

    def holds(self, series: int) -> bool:
        """Return whether a process is watched for the sake of a probe or trace."""
        return series in self._coming or super().holds(series)

    def measured(self) -> list[Measured]:
        """Return what the probed functions did since the last time, in each process."""
        probed = {number: one for number, one in self._all.items() if not one.is_trace}
        places = {
            number: [place.pid for place in one.inner.places if not place.trouble] for number, one in probed.items()
        }
        return self._sums.take({number: one.asked for number, one in probed.items()}, places)

    # ---- asked by the bus

    def probe(self, number: int) -> ProbeView:
        """Return one probe."""
        view = self._shown(number)
        if not isinstance(view, ProbeView):
            raise NoSuchTarget(f"no probe {number}")
        return view

    def trace(self, number: int) -> TraceView:
        """Return one trace."""
        view = self._shown(number)
        if not isinstance(view, TraceView):
            raise NoSuchTarget(f"no trace {number}")
        return view

    async def add_probe(self, location: str, options: Mapping[str, Any], asked_by: Caller) -> int:
        """Measure the calls of a function."""
        return await self._add(location, False, options, asked_by)

    async def add_trace(self, signature: str, options: Mapping[str, Any], asked_by: Caller) -> int:
        """Print a line for each call of a function."""
        return await self._add(signature, True, options, asked_by)

    def follow(self, number: int, backlog: int) -> int:
        """Return a socket on which records or lines come."""
        instrument = self._get(number)
        if len(instrument.followers) >= MAX_FOLLOWERS:
            raise TooManyTargets(f"{MAX_FOLLOWERS} follow {instrument.name} already")
        follower = Follower(instrument.followers.remove)
        instrument.followers.append(follower)
        if backlog and instrument.is_trace:
            follower.send(_encode_lines(list(instrument.lines)[-backlog:]))
        elif backlog:
            follower.send(_encode_calls(instrument.calls[-backlog:]))
        return follower.give()

    def hook(self) -> HookView:
        """Return how functions are probed on this machine."""
        return self._manager.hook_view()

    # ---- within

    async def _add(self, text: str, is_trace: bool, options: Mapping[str, Any], asked_by: Caller) -> int:
        budget = budget_of(options, DEFAULT_BUDGET, MAX_BUDGET)
        async with self._one:
            try:
                scope = self._scope(options)
                pids, series = self._hold(scope)
                inner = await asyncio.to_thread(self._attach, text, is_trace, scope, pids, options, budget)
                instrument = _Instrument(
                    is_trace,
                    _asked(text, options) if is_trace else text,
                    scope.children,
                    inner,
                    scope=scope.text,
                    target=scope.target,
                    since_us=wall.now_us(),
                    lost_before=self._lost_so_far(),
                    pids=set(pids),
                    series=series,
                )
                instrument.counts.append((monotonic_ns(), inner.entries))
                self._all[inner.number] = instrument
            finally:
                self._let_go(self._adding)
                if not self._all:
                    self._let_go(self._coming)
            logger.info("%s of %s at %s, asked by uid %d", instrument.name, scope.text, text, asked_by.uid)
            self._added(inner.number)
            return inner.number

    def _view(self, one: _Instrument) -> ProbeView | TraceView:
        return one.view(self._lost_so_far())

    def _shown(self, number: int) -> ProbeView | TraceView | None:
        one = self._all.get(number)
        return None if one is None else self._view(one)

    def _vital(self, view: ProbeView | TraceView) -> object:
        return view.state, view.places

    def _scope(self, options: Mapping[str, Any]) -> _Scope:
        key = only_one(options, ("target", "pid", "tid", "all"), "whose calls", "one of target, pid, tid and all")
        children = bool(options.get("children", True))
        if key == "all":
            return _Scope("all", (0,), children=False)
        value = int(options[key])
        if key == "target":
            return _Scope(f"target:{value}", tuple(self._pids_of(value, children)), target=value, children=children)
        if key == "tid":
            return _Scope(f"tid:{value}", (proc.leader_of(value),), tid=value, children=False)
        return _Scope(f"pid:{value}", (value,), children=children)

    def _hold(self, scope: _Scope) -> tuple[tuple[int, ...], set[int]]:
        """Watch a process and the children that it has; returns their pids and series."""
        if scope.target or scope.text == "all":
            return scope.pids, set()
        self._adding.add(self._processes.add(scope.pids[0], scope.children).series)
        pids = list(scope.pids)
        # grows while it is walked through: children of children
        for pid in pids if scope.children else ():
            for child in proc.children(pid):
                with suppress(OsdetectorError):
                    self._adding.add(self._processes.add(child, True).series)
                    pids.append(child)
        return tuple(pids), set(self._adding)

    def _attach(
        self,
        text: str,
        is_trace: bool,
        scope: _Scope,
        pids: Sequence[int],
        options: Mapping[str, Any],
        budget: int,
    ) -> probes.ProbeView:
        if is_trace:
            number = self._manager.add_trace(
                text,
                pids=pids,
                entry=options.get("entry"),
                returned=options.get("return"),
                tid=scope.tid,
                budget=budget,
                children=scope.children,
            )
        else:
            number = self._manager.add_probe(text, pids=pids, tid=scope.tid, budget=budget, children=scope.children)
        return self._manager.view(number)

    async def _read(self) -> None:
        """Take what is in the rings before they are full."""
        self._deliver(await asyncio.to_thread(self._drain, self._followed()))

    def _drain(self, followed: set[int]) -> _Found:
        return _Found.of(*self._manager.drain(monotonic_ns()), followed)

    def _followed(self) -> set[int]:
        return {number for number, instrument in self._all.items() if instrument.followers}

    def _deliver(self, found: _Found) -> None:
        for line in found.lines:
            if line.number in self._all:
                self._all[line.number].lines.append(line)
        for number, instrument in self._all.items():
            instrument.heard(found.calls[found.calls["number"] == number])
            for follower in list(instrument.followers):
                follower.send(found.encoded.get(number, []))

    def _round(self) -> Sequence[Callable[[], Awaitable[None]]]:
        return (*[self._read] * (round(PERIOD_S / READ_S) - 1), self._step)

    async def _look(self, news: News) -> Look:
        joined = {number: self._take_in(instrument, news) for number, instrument in self._all.items()}
        self._let_go(self._coming)
        look = await asyncio.to_thread(self._follow, news, joined, self._followed())
        self._deliver(look.found)
        self._sums.heard(look.totals)
        for number, instrument in self._all.items():
            instrument.inner = look.views.get(number, instrument.inner)
            instrument.counts.append((look.at_ns, instrument.inner.entries))
        return look

    def _take_in(self, instrument: _Instrument, news: News) -> tuple[int, ...]:
        """Follow processes; returns those that came to the instrument's target."""
        if not instrument.target:
            for child in news.started if instrument.follows else ():
                if child.parent_series in instrument.series:
                    instrument.series.add(child.series)
                    instrument.pids.add(child.info.process.pid)
            for end in news.exited:
                if end.series in instrument.series:
                    instrument.series.discard(end.series)
                    instrument.pids.discard(end.process.pid)
            instrument.ended |= not instrument.pids
            return ()
        try:
            now = set(self._members(instrument.target, instrument.children))
        except NoSuchTarget:
            instrument.ended = True
            return ()
        joined = now - instrument.pids
        instrument.pids = now
        return tuple(sorted(joined))

    def _follow(self, news: News, joined: Mapping[int, tuple[int, ...]], followed: set[int]) -> _Look:
        for number, pids in joined.items():
            for pid in pids:
                with suppress(OsdetectorError):  # it has ended, or has no such function: then it is not measured
                    self._manager.add_process(number, pid)
        now_ns = monotonic_ns()
        tick = self._manager.tick(
            now_ns,
            [each.info for each in news.started],
            [each.info for each in news.execed],
            [each.process for each in news.exited],
        )
        found = _Found.of(tick.calls, tick.lines, followed)
        views = {view.number: view for view in self._manager.list()}
        return _Look(now_ns, tick.detached, self._manager.lost(), found, tick.totals, views)

    async def _detach(self, number: int, one: _Instrument) -> None:
        # what it has left in the rings has gone to its followers
        await asyncio.to_thread(self._manager.remove, number)

    def _forget(self, number: int, one: _Instrument) -> None:
        for follower in list(one.followers):
            follower.end()


def _asked(signature: str, options: Mapping[str, Any]) -> str:
    """Return what a trace prints as it is asked for: its signature, with its messages where it has any."""
    messages = [
        f"--{name} {json.dumps(str(options[name]), ensure_ascii=False)}"
        for name in ("entry", "return")
        if options.get(name)
    ]
    return " ".join((signature, *messages))


def _encode_lines(lines: Sequence[TraceLine]) -> list[bytes]:
    return [
        _json(
            time_us=wall.of_monotonic_us(line.time_ns),
            pid=line.pid,
            tid=line.tid,
            returned=line.returned,
            text=line.text,
        )
        for line in lines
    ]


def _encode_calls(calls: NDArray[Any]) -> list[bytes]:
    return [
        _json(
            time_us=wall.of_monotonic_us(int(call["entered_ns"])),
            pid=int(call["pid"]),
            tid=int(call["tid"]),
            depth=int(call["depth"]),
            duration_ns=int(call["returned_ns"] - call["entered_ns"]),
            cpu_ns=_known(call["cpu_ns"]),
            cpu_exact=bool(call["cpu_exact"]),
            user_ns=int(call["user_ns"]),
            system_ns=int(call["system_ns"]),
            voluntary=int(call["voluntary"]),
            involuntary=int(call["involuntary"]),
            allocated_bytes=_known(call["allocated"]),
            result=int(call["result"]),
        )
        for call in calls
    ]


def _json(**fields: object) -> bytes:
    return json.dumps(fields, separators=(",", ":")).encode()


def _known(value: float) -> int | None:
    return None if math.isnan(value) else int(value)
