"""Probes and traces as people have them: for whom, since when, who follows them, and when they end."""

from __future__ import annotations

import asyncio
import json
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from osdetectord import proc, record, wall
from osdetectord.core import Caller, HookView, Instrument, PlaceView, ProbeView, TraceView
from osdetectord.errors import (
    BudgetExceeded,
    InvalidArgument,
    NoSuchProcess,
    NoSuchTarget,
    OsdetectorError,
    TooManyTargets,
)
from osdetectord.follower import Follower
from osdetectord.logger import get_logger
from osdetectord.measured import CallSums, Measured
from osdetectord.probing import probes
from osdetectord.probing.probes import CALL, DEFAULT_BUDGET, Detached, Probes, ProbeTotal, TraceLine
from osdetectord.record import Record
from osdetectord.sampler import Exited, ProcessSeries, Tick

READ_S = 0.04
"""How often the rings are read: what the usual budget allows, 20000 calls a second, fills them in 0.07 s."""
PERIOD_S = 0.2
"""How often processes are followed and counts are taken."""
TOLD_EVERY = 5
"""Periods between two changes of numbers that the bus is told; changes of state are told at once."""
KEPT = 1000
"""Newest calls and lines of each, for quantiles and for who comes later."""
MAX_FOLLOWERS = 16
MAX_BUDGET = 1_000_000

logger = get_logger()


class Listener(Protocol):
    """What the bus is told."""

    def instrument_added(self, view: Instrument) -> None: ...
    def instrument_changed(self, view: Instrument) -> None: ...
    def instrument_removed(self, view: Instrument) -> None: ...


class Processes(Protocol):
    """Where processes are watched; :class:`osdetectord.sampler.Sampler` is it."""

    def add(self, pid: int, follow_children: bool = True) -> ProcessSeries: ...
    def remove_all(self, series: Collection[int]) -> None: ...


class Share:
    """The processes of the sampler for one of several who want them: what another wants stays watched.

    Parameters
    ----------
    processes
        The sampler.
    wanted_elsewhere
        Whether somebody else wants a series.
    """

    def __init__(self, processes: Processes, wanted_elsewhere: Callable[[int], bool]) -> None:
        self._processes, self._wanted_elsewhere = processes, wanted_elsewhere

    def add(self, pid: int, follow_children: bool = True) -> ProcessSeries:
        return self._processes.add(pid, follow_children)

    def remove_all(self, series: Collection[int]) -> None:
        self._processes.remove_all([one for one in series if not self._wanted_elsewhere(one)])


@dataclass(frozen=True, slots=True)
class _Scope:
    """Whose calls: of a target, those of its processes to come too; of a process, its children if asked."""

    text: str
    pids: tuple[int, ...]
    tid: int = 0
    target: int = 0
    children: bool = True


@dataclass(slots=True)
class _Instrument:
    """A probe or a trace."""

    is_trace: bool
    asked: str
    scope: _Scope
    since_us: int
    lost_before: int
    inner: probes.ProbeView
    pids: set[int]
    series: set[int]
    """What is watched for its sake."""
    calls: NDArray[Any] = field(default_factory=lambda: np.zeros(0, dtype=CALL))
    quantiles_s: tuple[float, float] = (math.nan, math.nan)
    lines: deque[TraceLine] = field(default_factory=lambda: deque(maxlen=KEPT))
    counts: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=round(1 / PERIOD_S) + 1))
    """When how many calls had begun."""
    followers: list[Follower] = field(default_factory=list)
    told: ProbeView | TraceView | None = None
    ended: bool = False

    @property
    def follows(self) -> bool:
        """Return whether it takes in children by itself, and not through its target."""
        return self.scope.children and not self.scope.target

    @property
    def name(self) -> str:
        return f"{'trace' if self.is_trace else 'probe'} {self.inner.number}"

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
        inner, scope = self.inner, self.scope
        places = tuple(PlaceView(x.pid, x.path, x.symbol, x.address, x.trouble) for x in inner.attachments)
        shared = (inner.number, self.asked, scope.text, inner.state, self.since_us, inner.budget, scope.children)
        since = lost - self.lost_before
        if isinstance(inner, probes.TraceView):
            return TraceView(*shared, places, inner.entries, self.rate(), inner.lines, since)
        mean_s = inner.total_ns * 1e-9 / inner.calls if inner.calls else math.nan
        return ProbeView(*shared, places, inner.entries, self.rate(), mean_s, *self.quantiles_s, since)


@dataclass(slots=True)
class _News:
    """What the collectors found since the last look."""

    started: list[ProcessSeries] = field(default_factory=list)
    execed: list[ProcessSeries] = field(default_factory=list)
    exited: list[Exited] = field(default_factory=list)


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
class _Look:
    """What another thread brings back from a look at everything."""

    at_ns: int
    found: _Found
    detached: Sequence[Detached]
    totals: Sequence[ProbeTotal]
    views: Mapping[int, probes.ProbeView]
    lost: Mapping[str, int]


class Instruments:
    """All probes and traces; see :class:`osdetectord.core.Instruments` for what the bus may ask.

    Attaching, detaching and reading take milliseconds to seconds: they are done in other threads, one at a time,
    and what the bus reads meanwhile is what the last look found.

    Parameters
    ----------
    manager
        Attaches and reads.
    processes
        Keeps processes watched, so that their children, executions and ends are told.
    members
        Pids of a target's processes, with those of its children or without.  Raises NoSuchTarget.
    bus
        Is told what changes.
    tell
        Takes records for the journal.
    """

    def __init__(
        self,
        manager: Probes,
        processes: Processes,
        members: Callable[[int, bool], Sequence[int]],
        bus: Listener,
        tell: Callable[[Record], None],
    ) -> None:
        self._manager, self._processes, self._members = manager, processes, members
        self._bus, self._tell = bus, tell
        self._all: dict[int, _Instrument] = {}
        self._adding: set[int] = set()
        self._coming: set[int] = set()
        self._news = _News()
        self._causes: Mapping[str, int] = {}
        self._one = asyncio.Lock()
        self._needed = asyncio.Event()
        self._looks = 0
        self._sums = CallSums()

    # ---- life

    async def run(self) -> None:
        """Read the rings and follow processes for as long as there is a probe or a trace."""
        while True:
            await self._needed.wait()
            for step in (*[self._read] * (round(PERIOD_S / READ_S) - 1), self._step):
                await asyncio.sleep(READ_S)
                async with self._one:
                    try:
                        await step()
                    except Exception:  # one bad look must not end all probes
                        logger.error("reading the probes failed", exc_info=True)

    def close(self) -> None:
        """Let the followers go.  What is attached is held by descriptors and goes with the process that has them."""
        for instrument in self._all.values():
            for follower in list(instrument.followers):
                follower.close()

    def ticked(self, tick: Tick) -> None:
        """Note what the collectors found."""
        if self._all or self._one.locked():
            self._news.started += tick.started
            self._news.execed += tick.execed
            self._news.exited += tick.exited
            followed = {*self._adding, *(s for one in self._all.values() if one.follows for s in one.series)}
            for child in tick.started:
                if child.parent_series in followed or child.parent_series in self._coming:
                    self._coming.add(child.series)

    def target_removed(self, target: int) -> None:
        """End what was for the processes of a target."""
        for instrument in self._all.values():
            if instrument.scope.target == target:
                instrument.ended = True

    def holds(self, series: int) -> bool:
        """Return whether a process is watched for the sake of a probe or trace."""
        if series in self._adding or series in self._coming:
            return True
        return any(series in instrument.series for instrument in self._all.values())

    def measured(self) -> list[Measured]:
        """Return what the probed functions did since the last time, in each process."""
        probed = {number: one for number, one in self._all.items() if not one.is_trace}
        places = {
            number: [place.pid for place in one.inner.attachments if not place.trouble]
            for number, one in probed.items()
        }
        return self._sums.take({number: one.asked for number, one in probed.items()}, places)

    # ---- asked by the bus

    def views(self) -> Sequence[ProbeView | TraceView]:
        """Return all, by number."""
        lost = sum(self._causes.values())
        return [instrument.view(lost) for instrument in self._all.values()]

    def probe(self, number: int) -> ProbeView:
        """Return one probe."""
        view = self._view(number)
        if not isinstance(view, ProbeView):
            raise NoSuchTarget(f"no probe {number}")
        return view

    def trace(self, number: int) -> TraceView:
        """Return one trace."""
        view = self._view(number)
        if not isinstance(view, TraceView):
            raise NoSuchTarget(f"no trace {number}")
        return view

    async def add_probe(self, location: str, options: Mapping[str, Any], asked_by: Caller) -> int:
        """Measure the calls of a function."""
        return await self._add(location, False, options, asked_by)

    async def add_trace(self, signature: str, options: Mapping[str, Any], asked_by: Caller) -> int:
        """Print a line for each call of a function."""
        return await self._add(signature, True, options, asked_by)

    async def remove(self, number: int, asked_by: Caller) -> None:
        """Detach."""
        async with self._one:
            if number not in self._all:
                raise NoSuchTarget(f"no probe or trace {number}")
            logger.info("%s is removed, asked by uid %d", self._all[number].name, asked_by.uid)
            # what it has left in the rings is for its followers
            self._all[number].ended = True
            await self._step()

    def follow(self, number: int, backlog: int) -> int:
        """Return a socket on which records or lines come."""
        instrument = self._all.get(number)
        if instrument is None:
            raise NoSuchTarget(f"no probe or trace {number}")
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

    def lost(self) -> Mapping[str, int]:
        """Return what was lost up to the last look, by cause."""
        return self._causes

    # ---- within

    async def _add(self, text: str, is_trace: bool, options: Mapping[str, Any], asked_by: Caller) -> int:
        budget = int(options.get("budget", DEFAULT_BUDGET))
        if budget > MAX_BUDGET:
            raise BudgetExceeded(f"budget of {budget} calls per second, at most {MAX_BUDGET} are allowed")
        async with self._one:
            try:
                scope = self._scope(options)
                pids, series = self._hold(scope)
                inner = await asyncio.to_thread(self._attach, text, is_trace, scope, pids, options, budget)
                lost = sum(self._causes.values())
                asked = _asked(text, options) if is_trace else text
                instrument = _Instrument(is_trace, asked, scope, wall.now_us(), lost, inner, set(pids), series)
                instrument.counts.append((monotonic_ns(), inner.entries))
                self._all[inner.number] = instrument
            finally:
                self._let_go(self._adding)
                if not self._all:
                    self._let_go(self._coming)
            self._needed.set()
            logger.info("%s of %s at %s, asked by uid %d", instrument.name, scope.text, text, asked_by.uid)
            instrument.told = instrument.view(lost)
            self._bus.instrument_added(instrument.told)
            return inner.number

    def _scope(self, options: Mapping[str, Any]) -> _Scope:
        named = [key for key in ("target", "pid", "tid", "all") if options.get(key)]
        if len(named) != 1:
            said = f"{' and '.join(named)} are given" if named else "nobody is named"
            raise InvalidArgument(f"whose calls: {said}, expected one of target, pid, tid and all")
        children = bool(options.get("children", True))
        if named == ["all"]:
            return _Scope("all", (0,), children=False)
        value = int(options[named[0]])
        if named == ["target"]:
            pids = tuple(self._members(value, children))
            if not pids:
                raise NoSuchProcess(f"target {value} has no process now")
            return _Scope(f"target:{value}", pids, target=value, children=children)
        if named == ["tid"]:
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

    async def _step(self) -> None:
        """Look once, and take in what was found."""
        idle = not self._all
        news, self._news = self._news, _News()
        joined = {number: self._take_in(instrument, news) for number, instrument in self._all.items()}
        self._let_go(self._coming)
        look = await asyncio.to_thread(self._look, news, joined, self._followed())
        self._causes = look.lost
        self._deliver(look.found)
        self._sums.heard(look.totals)
        for number, instrument in self._all.items():
            instrument.inner = look.views.get(number, instrument.inner)
            instrument.counts.append((look.at_ns, instrument.inner.entries))
        for one in look.detached:
            if one.number in self._all:
                name, scope = self._all[one.number].name, self._all[one.number].scope
                self._tell(record.over_budget(name, one.location, scope.text, one.rate, one.budget))
        self._looks += 1
        self._tell_changes()
        for number in [number for number, instrument in self._all.items() if instrument.ended]:
            await self._remove(number)
        if idle and not self._all:
            self._needed.clear()

    def _take_in(self, instrument: _Instrument, news: _News) -> tuple[int, ...]:
        """Follow processes; returns those that came to the instrument's target."""
        scope = instrument.scope
        if not scope.target:
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
            now = set(self._members(scope.target, scope.children))
        except NoSuchTarget:
            instrument.ended = True
            return ()
        joined = now - instrument.pids
        instrument.pids = now
        return tuple(sorted(joined))

    def _look(self, news: _News, joined: Mapping[int, tuple[int, ...]], followed: set[int]) -> _Look:
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
        return _Look(now_ns, found, tick.detached, tick.totals, views, self._manager.lost())

    def _tell_changes(self) -> None:
        for view in self.views():
            instrument = self._all[view.number]
            told = instrument.told
            if told is None or view == told:
                continue
            if (view.state, view.places) != (told.state, told.places) or self._looks % TOLD_EVERY == 0:
                instrument.told = view
                self._bus.instrument_changed(view)

    async def _remove(self, number: int) -> None:
        await asyncio.to_thread(self._manager.remove, number)
        view = self._view(number)
        instrument = self._all.pop(number)
        self._let_go(instrument.series)
        for follower in list(instrument.followers):
            follower.end()
        if view is not None:
            self._bus.instrument_removed(view)

    def _let_go(self, series: set[int]) -> None:
        """Watch no longer what nobody else wants."""
        gone = list(series)
        series.clear()
        self._processes.remove_all([one for one in gone if not self.holds(one)])

    def _view(self, number: int) -> ProbeView | TraceView | None:
        instrument = self._all.get(number)
        return None if instrument is None else instrument.view(sum(self._causes.values()))


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
