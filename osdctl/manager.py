"""The daemon as osdctl sees it: each call of the D-Bus interface with values in and values out."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from osdctl.errors import NoSuch, OsdctlError
from osdctl.inside import Latency, Syscall, Thread
from osdctl.model import (
    ALLOCATIONS_ROOT,
    ANOMALY_ROOT,
    PROBE_ROOT,
    TARGET_ROOT,
    TRACE_ROOT,
    Allocations,
    Anomaly,
    Daemon,
    Price,
    Probe,
    Stack,
    Target,
    Trace,
    each,
    number_of,
)

ROOT = "/org/osdetector1"
MANAGER = "org.osdetector1.Manager"
TARGET = "org.osdetector1.Target"
ANOMALY = "org.osdetector1.Anomaly"
PROBE = "org.osdetector1.Probe"
TRACE = "org.osdetector1.Trace"
ALLOCATIONS = "org.osdetector1.Allocations"
PROPERTIES = "org.freedesktop.DBus.Properties"
OBJECTS = "org.freedesktop.DBus.ObjectManager"
COMM_BYTES = 15
PAGE = 1000
"""Anomalies asked for at once; the daemon gives no more."""


@dataclass(frozen=True, slots=True)
class Event:
    """Something that the daemon told by itself.

    Parameters
    ----------
    kind
        ``opened``, ``updated``, ``closed``, ``exited``, ``removed``, ``changed``, ``stopped`` or ``started``.
    path
        The object, nothing for ``stopped`` and ``started``.
    anomaly
        For the first three.
    details
        For ``exited`` those of the signal, for ``changed`` the properties with their new values.
    """

    kind: str
    path: str = ""
    anomaly: Anomaly | None = None
    details: Mapping[str, Any] | None = None


class Signal(Protocol):
    """A D-Bus signal."""

    @property
    def path(self) -> str: ...
    @property
    def interface(self) -> str: ...
    @property
    def member(self) -> str: ...
    @property
    def body(self) -> tuple[Any, ...]: ...


class Connection(Protocol):
    """What a manager needs of the bus."""

    place: str
    """The bus, for people."""

    async def call(
        self,
        path: str,
        interface: str,
        member: str,
        signature: str = "",
        body: tuple[Any, ...] = (),
        *,
        may_start: bool = False,
        may_ask: bool = False,
    ) -> list[Any]: ...

    async def can_start_daemon(self) -> bool: ...
    async def subscribe(self) -> AsyncIterator[Signal]: ...
    def close(self) -> None: ...


class Manager:
    """The daemon's manager object.  Every method raises :class:`~osdctl.errors.OsdctlError`."""

    def __init__(self, connect: Callable[[], Awaitable[Connection]]) -> None:
        self._connect = connect
        self._connection: Connection | None = None

    async def connected(self) -> Connection:
        """Return the connection; made at the first use, because some commands need none."""
        if self._connection is None:
            self._connection = await self._connect()
        return self._connection

    def close(self) -> None:
        """Disconnect."""
        if self._connection is not None:
            self._connection.close()

    async def _call(self, *call: Any, may_start: bool = False, may_ask: bool = False) -> Any:
        results = await (await self.connected()).call(*call, may_start=may_start, may_ask=may_ask)
        return results[0] if results else None

    async def daemon(self) -> Daemon:
        """Return what the daemon says of itself."""
        return Daemon.of(await self._call(ROOT, PROPERTIES, "GetAll", "s", (MANAGER,)))

    async def targets(self) -> list[Target]:
        """Return all targets, oldest first."""
        objects = await self._call(ROOT, OBJECTS, "GetManagedObjects")
        found = [Target.of(path, faces[TARGET]) for path, faces in objects.items() if TARGET in faces]
        return sorted(found, key=lambda target: target.id)

    async def target(self, path: str) -> Target:
        """Return one target."""
        return Target.of(path, await self._call(path, PROPERTIES, "GetAll", "s", (TARGET,)))

    async def find(self, word: str) -> Target:
        """Return the target of that id, specification or object path.

        A bare number is an id first and a watched pid second.
        """
        targets = await self.targets()
        word = word.removeprefix(TARGET_ROOT)
        for target in targets:
            if word.isdecimal() and str(target.id) == word.lstrip("0"):
                return target
        wanted = spellings(word)
        for target in targets:
            if target.spec in wanted:
                return target
        raise NoSuch(f"no target {word or 'without a name'}", "osdctl list shows what is watched")

    async def watch(self, spec: str, *, runtime: bool, children: bool) -> Target:
        """Start to watch; starts the daemon where it is activatable."""
        options = {"runtime": ("b", runtime), "children": ("b", children)}
        path = await self._call(ROOT, MANAGER, "Watch", "sa{sv}", (spec, options), may_start=True)
        return await self.target(path)

    async def unwatch(self, target: Target) -> None:
        """Stop to watch."""
        await self._call(ROOT, MANAGER, "Unwatch", "o", (target.path,))

    async def anomalies(
        self,
        *,
        since_us: int | None = None,
        until_us: int | None = None,
        target: Target | None = None,
        only_open: bool = False,
        limit: int | None = None,
    ) -> list[Anomaly]:
        """Return anomalies, newest first: all of them, or as many as the limit says."""
        filters: dict[str, tuple[str, Any]] = {}
        if since_us is not None:
            filters["since_us"] = ("t", since_us)
        if target is not None:
            filters["target"] = ("o", target.path)
        if only_open:
            filters["open"] = ("b", True)
        found: dict[int, Anomaly] = {}
        while limit is None or len(found) < limit:
            if until_us is not None:
                filters["until_us"] = ("t", until_us)
            filters["limit"] = ("u", PAGE if limit is None else min(PAGE, limit))
            rows = await self._call(ROOT, MANAGER, "ListAnomalies", "a{sv}", (filters,))
            page = [Anomaly.of(row.get("Path", ""), row) for row in rows]
            new = [anomaly for anomaly in page if anomaly.id not in found]
            found.update((anomaly.id, anomaly) for anomaly in new)
            if not new or len(page) < filters["limit"][1]:
                break
            # the next page begins where this one ended; what both have is taken once
            until_us = min(anomaly.opened_us for anomaly in page)
        return list(found.values())[:limit]

    async def anomaly(self, number: int) -> Anomaly:
        """Return one anomaly."""
        path = f"{ANOMALY_ROOT}{number}"
        try:
            return Anomaly.of(path, await self._call(path, PROPERTIES, "GetAll", "s", (ANOMALY,)))
        except NoSuch as error:
            raise NoSuch(f"no anomaly {number}", "osdctl anomalies lists them") from error

    async def series(
        self, path: str, metrics: Sequence[str], since_us: int, max_points: int
    ) -> dict[str, tuple[list[int], list[float]]]:
        """Return of the target at a path, by metric, the times in microseconds and the samples."""
        body = (path, list(metrics), since_us, max_points)
        found = await self._call(ROOT, MANAGER, "GetSeries", "oastu", body)
        return {name: (list(times), list(values)) for name, (times, values) in found.items()}

    async def evidence(self, anomaly: Anomaly) -> bytes:
        """Return the JSON that an anomaly rests on."""
        descriptor = await self._call(ROOT, MANAGER, "GetEvidence", "o", (anomaly.path,))
        try:
            # the offset is shared with the daemon's own descriptor, so not read() but pread()
            size = os.fstat(descriptor).st_size
            parts: list[bytes] = []
            while (done := sum(map(len, parts))) < size and (part := os.pread(descriptor, size - done, done)):
                parts.append(part)
            return b"".join(parts)
        except OSError as error:
            raise OsdctlError(f"the evidence of anomaly {anomaly.id} cannot be read: {error.strerror}") from error
        finally:
            os.close(descriptor)

    async def mute(self, target: Target, seconds: int) -> None:
        """Report nothing of a target for so long."""
        await self._call(ROOT, MANAGER, "Mute", "ot", (target.path, seconds))

    async def feedback(self, anomaly: Anomaly, *, useful: bool) -> None:
        """Say whether an anomaly was worth the report."""
        await self._call(ROOT, MANAGER, "Feedback", "ob", (anomaly.path, useful))

    async def forget_feedback(self, anomaly: Anomaly) -> None:
        """Take back what was said of an anomaly."""
        await self._call(ROOT, MANAGER, "ForgetFeedback", "o", (anomaly.path,))

    async def latency(self, target: Target, kind: str) -> dict[str, Latency]:
        """Return histograms of waits: kind ``cpu`` or ``block``."""
        found = await self._call(target.path, TARGET, "GetLatency", "s", (kind,))
        return dict(zip(found, each(Latency.of, found.values(), "GetLatency"), strict=True))

    async def syscalls(self, target: Target) -> list[Syscall]:
        """Return every system call of a target's processes, most time first."""
        return each(Syscall.of, await self._call(target.path, TARGET, "GetSyscalls"), "GetSyscalls")

    async def threads(self, target: Target, seconds: float, limit: int) -> list[Thread]:
        """Return threads of a target's processes, the busiest first."""
        rows = await self._call(target.path, TARGET, "GetThreads", "du", (seconds, limit))
        return each(lambda row: Thread(*row), rows, "GetThreads")

    async def probes(self) -> list[Probe]:
        """Return all probes, oldest first."""
        objects = await self._call(ROOT, OBJECTS, "GetManagedObjects")
        found = [Probe.of(path, faces[PROBE]) for path, faces in objects.items() if PROBE in faces]
        return sorted(found, key=lambda probe: probe.id)

    async def traces(self) -> list[Trace]:
        """Return all traces, oldest first."""
        objects = await self._call(ROOT, OBJECTS, "GetManagedObjects")
        found = [Trace.of(path, faces[TRACE]) for path, faces in objects.items() if TRACE in faces]
        return sorted(found, key=lambda trace: trace.id)

    async def probe(self, number: int) -> Probe:
        """Return one probe."""
        path = f"{PROBE_ROOT}{number}"
        try:
            return Probe.of(path, await self._call(path, PROPERTIES, "GetAll", "s", (PROBE,)))
        except NoSuch as error:
            if any(trace.id == number for trace in await self.traces()):
                raise NoSuch(f"no probe {number}: it is a trace", "osdctl trace list shows it") from error
            raise NoSuch(f"no probe {number}", "osdctl probe list shows them") from error

    async def trace(self, number: int) -> Trace:
        """Return one trace."""
        path = f"{TRACE_ROOT}{number}"
        try:
            return Trace.of(path, await self._call(path, PROPERTIES, "GetAll", "s", (TRACE,)))
        except NoSuch as error:
            if any(probe.id == number for probe in await self.probes()):
                raise NoSuch(f"no trace {number}: it is a probe", "osdctl probe list shows it") from error
            raise NoSuch(f"no trace {number}", "osdctl trace list shows them") from error

    async def add_probe(self, location: str, options: Mapping[str, tuple[str, Any]]) -> Probe:
        """Measure the calls of a function."""
        body = (location, options)
        path = await self._call(ROOT, MANAGER, "AddProbe", "sa{sv}", body, may_start=True, may_ask=True)
        return await self.probe(number_of(path))

    async def add_trace(self, signature: str, options: Mapping[str, tuple[str, Any]]) -> Trace:
        """Print a line for each call of a function."""
        body = (signature, options)
        path = await self._call(ROOT, MANAGER, "AddTrace", "sa{sv}", body, may_start=True, may_ask=True)
        return await self.trace(number_of(path))

    async def remove(self, what: Probe | Trace) -> None:
        """Detach."""
        member = "RemoveProbe" if isinstance(what, Probe) else "RemoveTrace"
        await self._call(ROOT, MANAGER, member, "o", (what.path,), may_ask=True)

    async def all_allocations(self) -> list[Allocations]:
        """Return whose allocations are watched, oldest first."""
        objects = await self._call(ROOT, OBJECTS, "GetManagedObjects")
        found = [Allocations.of(path, faces[ALLOCATIONS]) for path, faces in objects.items() if ALLOCATIONS in faces]
        return sorted(found, key=lambda one: one.id)

    async def allocations(self, number: int) -> Allocations:
        """Return one of them."""
        path = f"{ALLOCATIONS_ROOT}{number}"
        try:
            return Allocations.of(path, await self._call(path, PROPERTIES, "GetAll", "s", (ALLOCATIONS,)))
        except NoSuch as error:
            raise NoSuch(f"no allocations {number}", "osdctl allocations list shows them") from error

    async def allocation_price(self) -> Price:
        """Have measured what watching allocations costs."""
        found = await self._call(ROOT, MANAGER, "MeasureAllocationPrice", may_start=True, may_ask=True)
        (price,) = each(Price.of, [found], "MeasureAllocationPrice")
        return price

    async def add_allocations(self, options: Mapping[str, tuple[str, Any]]) -> Allocations:
        """Watch allocations."""
        path = await self._call(ROOT, MANAGER, "AddAllocations", "a{sv}", (options,), may_start=True, may_ask=True)
        return await self.allocations(number_of(path))

    async def remove_allocations(self, what: Allocations) -> None:
        """Watch them no more."""
        await self._call(ROOT, MANAGER, "RemoveAllocations", "o", (what.path,), may_ask=True)

    async def top_allocations(self, what: Allocations, count: int) -> list[Stack]:
        """Return the stacks that hold most."""
        rows = await self._call(what.path, ALLOCATIONS, "Top", "u", (count,), may_ask=True)
        return each(Stack.of, rows, "Top")

    async def follow(self, what: Probe | Trace, backlog: int) -> int:
        """Return the descriptor of a socket on which calls or lines come as JSON, the last ones first."""
        interface = PROBE if isinstance(what, Probe) else TRACE
        descriptor = await self._call(what.path, interface, "Follow", "u", (backlog,), may_ask=True)
        return int(descriptor)

    async def events(self) -> AsyncIterator[Event]:
        """Return what the daemon tells from now on; ends with :class:`NotRunning` when the bus goes away."""
        return _events(await (await self.connected()).subscribe())


async def _events(signals: AsyncIterator[Signal]) -> AsyncIterator[Event]:
    async for signal in signals:
        event = _event_of(signal)
        if event is not None:
            yield event


def spellings(word: str) -> tuple[str, ...]:
    """Return the specifications, as the daemon writes them, that a user may mean by this word."""
    kind, colon, value = ("pid", ":", word) if word.isdecimal() else word.partition(":")
    if not colon:
        return (word,)
    if kind == "pid" and value.isdecimal():
        return (f"pid:{value.lstrip('0')}",)
    if kind == "unit":
        # whatever has a dot may be a type, or a part of the name: php8.2-fpm
        return (word, f"{word}.service")
    if kind in ("cgroup", "exe"):
        return (f"{kind}:{value.rstrip('/') or '/'}",)
    if kind == "comm":
        # the kernel keeps so much of a name
        return (word, f"comm:{value.encode(errors='surrogateescape')[:COMM_BYTES].decode(errors='ignore')}")
    return (word,)


_ANOMALY_SIGNALS = {"AnomalyOpened": "opened", "AnomalyUpdated": "updated", "AnomalyClosed": "closed"}


def _event_of(signal: Signal) -> Event | None:
    body = signal.body
    if signal.member == "NameOwnerChanged":
        return Event("started" if body[2] else "stopped")
    if signal.interface == MANAGER and signal.member in _ANOMALY_SIGNALS:
        path, details = body
        return Event(_ANOMALY_SIGNALS[signal.member], path, anomaly=Anomaly.of(path, details))
    if signal.interface == MANAGER and signal.member == "TargetExited":
        return Event("exited", body[0], details=body[1])
    if signal.interface == OBJECTS and signal.member == "InterfacesRemoved" and TARGET in body[1]:
        return Event("removed", body[0])
    if signal.interface == PROPERTIES and signal.member == "PropertiesChanged" and body[0] == TARGET:
        return Event("changed", signal.path, details=body[1])
    return None
