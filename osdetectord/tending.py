"""Tending: what is attached to processes is looked at again and again, told as it changes, and let go at its end."""

from __future__ import annotations

import asyncio
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Generic, Protocol, TypeVar

from osdetectord import record
from osdetectord.core import Caller, Instrument
from osdetectord.errors import BudgetExceeded, InvalidArgument, NoSuchProcess, NoSuchTarget
from osdetectord.logger import get_logger
from osdetectord.probing.probes import Detached
from osdetectord.record import Record
from osdetectord.sampler import Exited, ProcessSeries, Tick
from osdetectord.sharing import Processes

logger = get_logger()


class Listener(Protocol):
    """What the bus is told."""

    def instrument_added(self, view: Instrument) -> None: ...
    def instrument_changed(self, view: Instrument) -> None: ...
    def instrument_removed(self, view: Instrument) -> None: ...


@dataclass(slots=True, kw_only=True)
class Attached(ABC):
    """What somebody asked for."""

    scope: str
    target: int
    """Whose processes it follows, 0 where it is for processes of its own."""
    since_us: int
    lost_before: int
    pids: set[int]
    series: set[int]
    """What is watched for its sake."""
    ended: bool = False

    @property
    @abstractmethod
    def name(self) -> str: ...

    @property
    @abstractmethod
    def numbers(self) -> Collection[int]:
        """Numbers, as those have them who attach."""


@dataclass(slots=True)
class News:
    """What the collectors found since the last look."""

    started: list[ProcessSeries] = field(default_factory=list)
    execed: list[ProcessSeries] = field(default_factory=list)
    exited: list[Exited] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Look:
    """What another thread brings back from a look at everything."""

    at_ns: int
    detached: Sequence[Detached]
    lost: Mapping[str, int]


One = TypeVar("One", bound=Attached)
View = TypeVar("View", bound=Instrument)


class Tending(ABC, Generic[One, View]):
    """All that was asked for of one kind.

    Attaching, detaching and reading take milliseconds to seconds: they are done in other threads, one at a time,
    and what the bus reads meanwhile is what the last look found.

    Parameters
    ----------
    processes
        Keeps processes watched, so that their children, executions and ends are told.
    members
        Pids of a target's processes, with those of its children or without.  Raises NoSuchTarget.
    bus
        Is told what changes.
    tell
        Takes records for the journal.
    """

    kind: str
    """What it is called when it is not there."""
    failed: str
    """What is logged when a look goes wrong."""
    pause_s: float
    """Before each step of a round."""
    told_every: int
    """Looks between two changes of numbers that the bus is told; changes of state are told at once."""

    def __init__(
        self,
        processes: Processes,
        members: Callable[[int, bool], Sequence[int]],
        bus: Listener,
        tell: Callable[[Record], None],
    ) -> None:
        self._processes, self._members = processes, members
        self._bus, self._tell = bus, tell
        self._all: dict[int, One] = {}
        self._told: dict[int, View] = {}
        self._adding: set[int] = set()
        self._news = News()
        self._causes: Mapping[str, int] = {}
        self._one = asyncio.Lock()
        self._needed = asyncio.Event()
        self._looks = 0

    # ---- life

    async def run(self) -> None:
        """Go round for as long as there is anything to look at."""
        while True:
            await self._needed.wait()
            for step in self._round():
                await asyncio.sleep(self.pause_s)
                async with self._one:
                    try:
                        await step()
                    except Exception:  # one bad look must not end all
                        logger.error(self.failed, exc_info=True)

    def ticked(self, tick: Tick) -> None:
        """Note what the collectors found."""
        if self._busy():
            self._news.started += tick.started
            self._news.execed += tick.execed
            self._news.exited += tick.exited

    def target_removed(self, target: int) -> None:
        """End what was for the processes of a target."""
        for one in self._all.values():
            one.ended |= one.target == target

    def holds(self, series: int) -> bool:
        """Return whether a process is watched for the sake of what is attached to it."""
        return series in self._adding or any(series in one.series for one in self._all.values())

    # ---- asked by the bus

    def views(self) -> Sequence[View]:
        """Return all, by number."""
        return [self._view(one) for one in self._all.values()]

    async def remove(self, number: int, asked_by: Caller) -> None:
        """Detach, and forget it."""
        async with self._one:
            one = self._get(number)
            logger.info("%s is removed, asked by uid %d", one.name, asked_by.uid)
            one.ended = True
            await self._step()

    def lost(self) -> Mapping[str, int]:
        """Return what was lost up to the last look, by cause."""
        return self._causes

    # ---- of each kind

    @abstractmethod
    def _view(self, one: One) -> View:
        """Return it as the bus shows it."""

    @abstractmethod
    def _vital(self, view: View) -> object:
        """Return what of a view is told at once when it has changed."""

    @abstractmethod
    async def _look(self, news: News) -> Look:
        """Follow the processes and look at all of them."""

    @abstractmethod
    async def _detach(self, number: int, one: One) -> None: ...

    @abstractmethod
    def _forget(self, number: int, one: One) -> None:
        """Forget what goes with it."""

    def _round(self) -> Sequence[Callable[[], Awaitable[None]]]:
        return (self._step,)

    # ---- within

    def _busy(self) -> bool:
        return bool(self._all) or self._one.locked()

    def _get(self, number: int) -> One:
        one = self._all.get(number)
        if one is None:
            raise NoSuchTarget(f"no {self.kind} {number}")
        return one

    def _lost_so_far(self) -> int:
        return sum(self._causes.values())

    def _pids_of(self, target: int, children: bool) -> Sequence[int]:
        pids = self._members(target, children)
        if not pids:
            raise NoSuchProcess(f"target {target} has no process now")
        return pids

    def _added(self, number: int) -> None:
        """Begin to look at a new one, and tell of it."""
        self._needed.set()
        self._told[number] = view = self._view(self._all[number])
        self._bus.instrument_added(view)

    async def _step(self) -> None:
        """Look once, and take in what was found."""
        idle = not self._all
        news, self._news = self._news, News()
        look = await self._look(news)
        self._causes = look.lost
        for gone in look.detached:
            for one in self._all.values():
                if gone.number in one.numbers:
                    self._tell(record.over_budget(one.name, gone.location, one.scope, gone.rate, gone.budget))
        self._looks += 1
        self._tell_changes()
        for number in [number for number, one in self._all.items() if one.ended]:
            await self._remove(number)
        if idle and not self._all:
            self._needed.clear()

    def _tell_changes(self) -> None:
        for number, one in self._all.items():
            view, told = self._view(one), self._told[number]
            if view == told:
                continue
            if self._vital(view) != self._vital(told) or self._looks % self.told_every == 0:
                self._told[number] = view
                self._bus.instrument_changed(view)

    async def _remove(self, number: int) -> None:
        one = self._all[number]
        await self._detach(number, one)
        view = self._view(one)
        del self._all[number], self._told[number]
        self._forget(number, one)
        self._let_go(one.series)
        self._bus.instrument_removed(view)

    def _let_go(self, series: set[int]) -> None:
        """Watch no longer what nobody else wants."""
        gone = list(series)
        series.clear()
        self._processes.remove_all([one for one in gone if not self.holds(one)])


def budget_of(options: Mapping[str, Any], usual: int, most: int) -> int:
    """Return the budget that is asked for, in calls per second."""
    budget = int(options.get("budget", usual))
    if budget > most:
        raise BudgetExceeded(f"budget of {budget} calls per second, at most {most} are allowed")
    return budget


def only_one(options: Mapping[str, Any], keys: Sequence[str], whose: str, expected: str) -> str:
    """Return the one key of these that is given."""
    named = [key for key in keys if options.get(key)]
    if len(named) != 1:
        said = f"{' and '.join(named)} are given" if named else "nobody is named"
        raise InvalidArgument(f"{whose}: {said}, expected {expected}")
    return named[0]
