"""Allocations as people ask for them: of whom, since when, at what price, and when they end."""

from __future__ import annotations

import asyncio
import math
from collections import deque
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from time import monotonic_ns
from typing import Any

from osdetectord import wall
from osdetectord.core import AllocationsView, Caller, HeldView, PriceView, StackView
from osdetectord.errors import NoSuchSymbol, NoSuchTarget, OsdetectorError, TooManyTargets, Unsupported
from osdetectord.logger import get_logger
from osdetectord.measured import HeldSamples, Measured
from osdetectord.probing import allocations as probing
from osdetectord.probing.allocations import DEFAULT_BUDGET
from osdetectord.process import Process, ProcessInfo
from osdetectord.record import Record
from osdetectord.sharing import Processes
from osdetectord.tending import Attached, Listener, Look, News, Tending, budget_of, only_one

PERIOD_S = 0.5
"""How often counts are taken, processes followed and budgets judged."""
MAX_WATCHED = 64
MAX_BUDGET = 10_000_000
RETRY_NS, RETRY_MAX_NS = 500_000_000, 60_000_000_000
"""When a process without an allocator is looked at again, each time later: its libraries may not be loaded yet."""
LIBRARIES = ("libc", "")
"""Where the allocator is looked for: the C library, or the program itself where it is linked statically."""

logger = get_logger()


@dataclass(frozen=True, slots=True)
class _Trouble:
    """Why a process can't be watched, and when to try again."""

    why: str
    again_ns: int
    delay_ns: int = RETRY_NS


@dataclass(slots=True)
class _Watched(Attached):
    """The allocations of some processes."""

    number: int
    library: str
    budget: int
    owners: dict[int, int] = field(default_factory=dict)
    """Numbers by pid, as those have them who count."""
    troubles: dict[int, _Trouble] = field(default_factory=dict)
    held: dict[int, probing.AllocationView] = field(default_factory=dict)
    counts: deque[tuple[int, int, int]] = field(default_factory=lambda: deque(maxlen=round(2 / PERIOD_S) + 1))
    """When how many had been allocated and freed."""

    @property
    def name(self) -> str:
        return f"allocations {self.number}"

    @property
    def numbers(self) -> Collection[int]:
        return self.owners.values()

    def counted(self, at_ns: int) -> None:
        """Note what has been counted up to now."""
        held = self.held.values()
        self.counts.append((at_ns, sum(each.allocations for each in held), sum(each.frees for each in held)))

    def rates(self) -> tuple[float, float]:
        """Allocations and frees per second, lately."""
        if len(self.counts) < 2:
            return 0.0, 0.0
        (begun_ns, *before), (last_ns, *now) = self.counts[0], self.counts[-1]
        allocated, freed = (max(0, a - b) / ((last_ns - begun_ns) * 1e-9) for a, b in zip(now, before, strict=True))
        return allocated, freed

    def view(self, lost: int, price: PriceView | None) -> AllocationsView:
        """Return it as the bus shows it."""
        rows = []
        for pid in sorted(self.pids):
            held = self.held.get(pid)
            if held is None:
                known = self.troubles.get(pid)
                rows.append(HeldView(pid, 0, 0, 0, 0, 0, "not yet" if known is None else known.why))
                continue
            trouble = "" if held.state == "on" else held.state
            numbers = (held.bytes, held.count, held.allocated_bytes, held.allocations, held.frees)
            rows.append(HeldView(pid, *numbers, trouble))
        states = {held.state for held in self.held.values()}
        state = next((state for state in ("on", "over budget") if state in states), "waiting")
        allocated, freed = self.rates()
        cost = math.nan if price is None else allocated * price.malloc_s + freed * price.free_s
        return AllocationsView(
            number=self.number,
            scope=self.scope,
            library=self.library,
            state=state,
            since_us=self.since_us,
            budget=self.budget,
            processes=tuple(rows),
            rate=allocated + freed,
            cost=cost,
            lost=lost - self.lost_before,
        )


@dataclass(frozen=True, slots=True)
class _Look(Look):
    """What another thread brings back: how it is with each process, by number and pid."""

    owners: Mapping[int, dict[int, int]]
    troubles: Mapping[int, dict[int, _Trouble]]
    held: Mapping[int, probing.AllocationView]


class Allocating(Tending[_Watched, AllocationsView]):
    """All allocations that are watched; see :class:`osdetectord.core.Allocations` for what the bus may ask.

    Parameters
    ----------
    manager
        Attaches and counts.
    processes, members, bus, tell
        As for :class:`Tending`.
    """

    kind, failed = "allocations", "counting allocations failed"
    pause_s, told_every = PERIOD_S, 2

    def __init__(
        self,
        manager: probing.Allocations,
        processes: Processes,
        members: Callable[[int, bool], Sequence[int]],
        bus: Listener,
        tell: Callable[[Record], None],
    ) -> None:
        super().__init__(processes, members, bus, tell)
        self._manager = manager
        self._next = 1
        self._price: PriceView | None = None
        self._samples = HeldSamples()

    def measured(self) -> list[Measured]:
        """Return what each process holds now."""
        out = []
        for number, watched in self._all.items():
            on = {pid: held for pid, held in watched.held.items() if held.state == "on"}
            self._samples.forget(number, on)
            for pid, held in on.items():
                counts = (held.bytes, held.count, held.allocations + held.frees)
                at_ns = watched.counts[-1][0]
                out.append(self._samples.take(number, pid, watched.owners[pid], at_ns, counts))
        return out

    # ---- asked by the bus

    def get(self, number: int) -> AllocationsView:
        """Return one."""
        return self._view(self._get(number))

    async def price(self, asked_by: Caller) -> PriceView:
        """Measure what watching costs here."""
        async with self._one:
            found = await asyncio.to_thread(self._manager.price)
        self._price = PriceView(found.malloc_ns * 1e-9, found.free_ns * 1e-9, found.pair_before_ns * 1e-9)
        return self._price

    async def add(self, options: Mapping[str, Any], asked_by: Caller) -> int:
        """Watch the allocations of a process, or of a target's."""
        budget = budget_of(options, DEFAULT_BUDGET, MAX_BUDGET)
        async with self._one:
            if len(self._all) >= MAX_WATCHED:
                raise TooManyTargets(f"allocations are watched {MAX_WATCHED} times already")
            try:
                scope, target, pids = self._scope(options)
                if not target:
                    self._adding.add(self._processes.add(pids[0], follow_children=False).series)
                watched = _Watched(
                    number=self._next,
                    scope=scope,
                    target=target,
                    library=str(options.get("library", "")),
                    budget=budget,
                    since_us=wall.now_us(),
                    lost_before=self._lost_so_far(),
                    pids=set(pids),
                    series=set(self._adding),
                )
                await asyncio.to_thread(self._attach_first, watched)
                self._next += 1
                self._all[watched.number] = watched
            finally:
                self._let_go(self._adding)
            logger.info("%s of %s, asked by uid %d", watched.name, scope, asked_by.uid)
            self._added(watched.number)
            return watched.number

    async def top(self, number: int, count: int) -> Sequence[StackView]:
        """Return who allocated what is outstanding."""
        async with self._one:
            owners = dict(self._get(number).owners)
            found = await asyncio.to_thread(self._tops, owners, count)
        return sorted(found, key=lambda stack: -stack.bytes)[:count]

    # ---- within

    def _view(self, one: _Watched) -> AllocationsView:
        return one.view(self._lost_so_far(), self._price)

    def _vital(self, view: AllocationsView) -> object:
        return view.state, {each.pid: each.trouble for each in view.processes}

    def _scope(self, options: Mapping[str, Any]) -> tuple[str, int, Sequence[int]]:
        key = only_one(options, ("target", "pid"), "whose allocations", "target or pid")
        value = int(options[key])
        if key == "pid":
            return f"pid:{value}", 0, (value,)
        return f"target:{value}", value, self._pids_of(value, True)

    def _attach_first(self, watched: _Watched) -> None:
        """Attach to each process; raises what went wrong with the first where it could be done with none."""
        first: OsdetectorError | None = None
        for pid in sorted(watched.pids):
            try:
                watched.owners[pid] = self._attach(pid, watched.library, watched.budget)
                watched.held[pid] = self._manager.view(watched.owners[pid])
            except OsdetectorError as error:
                first = first or error
                watched.troubles[pid] = _Trouble(str(error), monotonic_ns() + RETRY_NS)
        if not watched.owners and first is not None:
            raise first
        watched.counted(monotonic_ns())

    def _attach(self, pid: int, library: str, budget: int) -> int:
        *others, last = (library,) if library else LIBRARIES
        try:
            for each in others:
                with suppress(NoSuchSymbol):
                    return self._manager.add(pid, library=each, budget=budget)
            return self._manager.add(pid, library=last, budget=budget)
        except OSError as error:  # no descriptor is free: the trouble of one process, and of now
            why = error.strerror or str(error)
            raise Unsupported(f"the allocator of process {pid} can't be probed: {why}") from None

    async def _look(self, news: News) -> Look:
        for watched in self._all.values():
            self._take_in(watched, news)
        wanted = [
            (watched.number, frozenset(watched.pids), watched.library, watched.budget, dict(watched.owners))
            for watched in self._all.values()
        ]
        known_troubles = {watched.number: dict(watched.troubles) for watched in self._all.values()}
        execed, exited = [each.info for each in news.execed], [end.process for end in news.exited]
        look = await asyncio.to_thread(self._follow, wanted, known_troubles, execed, exited)
        for watched in self._all.values():
            watched.owners, watched.troubles = look.owners[watched.number], look.troubles[watched.number]
            watched.held = {pid: look.held[owner] for pid, owner in watched.owners.items() if owner in look.held}
            watched.counted(look.at_ns)
        return look

    def _take_in(self, watched: _Watched, news: News) -> None:
        """Follow processes."""
        if watched.target:
            try:
                watched.pids = set(self._members(watched.target, True))
            except NoSuchTarget:
                watched.ended = True
            return
        for end in news.exited:
            if end.series in watched.series:
                watched.series.discard(end.series)
                watched.ended = True

    def _follow(
        self,
        wanted: Sequence[tuple[int, frozenset[int], str, int, dict[int, int]]],
        known_troubles: Mapping[int, dict[int, _Trouble]],
        execed: Sequence[ProcessInfo],
        exited: Sequence[Process],
    ) -> _Look:
        now_ns = monotonic_ns()
        detached = self._manager.tick(now_ns, execed, exited)
        anew = {info.process.pid for info in execed}
        held = dict(self._manager.list())
        owners: dict[int, dict[int, int]] = {}
        troubles: dict[int, dict[int, _Trouble]] = {}
        for number, pids, library, budget, before in wanted:
            owners[number] = now = {}
            known = known_troubles[number]
            troubles[number] = wrong = {
                pid: trouble for pid, trouble in known.items() if pid in pids - anew and trouble.again_ns > now_ns
            }
            for pid, owner in before.items():
                # an ended one is another process, or another program, by now
                if pid in pids and owner in held and held[owner].state != "ended":
                    now[pid] = owner
                    continue
                with suppress(NoSuchTarget):  # a look that failed may have removed it
                    self._manager.remove(owner)
            for pid in sorted(pids - set(now) - set(wrong)):
                try:
                    now[pid] = self._attach(pid, library, budget)
                except OsdetectorError as error:
                    delay_ns = min(2 * known[pid].delay_ns, RETRY_MAX_NS) if pid in known else RETRY_NS
                    wrong[pid] = _Trouble(str(error), now_ns + delay_ns, delay_ns)
        return _Look(now_ns, detached, self._manager.lost(), owners, troubles, dict(self._manager.list()))

    def _tops(self, owners: Mapping[int, int], count: int) -> list[StackView]:
        found = []
        for pid, owner in owners.items():
            stacks = self._manager.top(owner, count)
            found += [StackView(pid, stack.bytes, stack.count, stack.frames) for stack in stacks]
        return found

    async def _detach(self, number: int, one: _Watched) -> None:
        for owner in one.owners.values():
            with suppress(NoSuchTarget):
                await asyncio.to_thread(self._manager.remove, owner)

    def _forget(self, number: int, one: _Watched) -> None:
        self._samples.forget(number, ())
