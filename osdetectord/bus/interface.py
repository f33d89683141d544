"""The interfaces ``org.osdetector1.*``: they translate between the bus and the daemon, and decide nothing."""

from __future__ import annotations

import fcntl
import os
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Annotated, Any

from osdetectord.bus import body
from osdetectord.bus.adapter import Variant
from osdetectord.bus.declaration import (
    Bool,
    Double,
    Encoded,
    Fd,
    Interface,
    ObjectPath,
    Property,
    Signal,
    String,
    Strings,
    Uint32,
    Uint64,
    Variants,
    changes,
    reads,
    traces,
    waits,
)
from osdetectord.core import (
    Allocations,
    AllocationsView,
    AnomalyView,
    Caller,
    Core,
    Instrument,
    Instruments,
    ManagerView,
    PlaceView,
    ProbeView,
    TargetView,
    TraceView,
)
from osdetectord.errors import InvalidArgument, NoSuchTarget

ROOT = "/org/osdetector1"
TARGETS = f"{ROOT}/target"
ANOMALIES = f"{ROOT}/anomaly"
PROBES = f"{ROOT}/probe"
TRACES = f"{ROOT}/trace"
ALLOCATIONS = f"{ROOT}/allocations"
MAX_SPEC = 4096
MAX_BACKLOG = 1000
MIN_LOOK_S, MAX_LOOK_S = 0.05, 5.0
MAX_STACKS = 1000
MAX_ROWS = 1000
DEFAULT_ROWS = 100
MAX_METRICS = 64
MAX_METRIC_NAME = 255
MAX_VALUES = 100_000
"""Of one answer of GetSeries: 1.6 MB."""
MAX_MUTE_S = 366 * 86_400
LARGEST = (1 << 63) - 1
"""What a database can hold; no number of an object and no time is as large."""
_ROWS_KEPT = 1024
_SEALS = fcntl.F_SEAL_SEAL | fcntl.F_SEAL_SHRINK | fcntl.F_SEAL_GROW | fcntl.F_SEAL_WRITE


def target_path(number: int) -> str:
    """Return the path of a target."""
    return f"{TARGETS}/{number}"


def anomaly_path(number: int) -> str:
    """Return the path of an anomaly."""
    return f"{ANOMALIES}/{number}"


def instrument_path(view: Instrument) -> str:
    """Return the path of a probe, a trace or allocations."""
    if isinstance(view, AllocationsView):
        return f"{ALLOCATIONS}/{view.number}"
    return f"{PROBES if isinstance(view, ProbeView) else TRACES}/{view.number}"


def number_at(path: str, below: str) -> int:
    """Return the number of the object at a path below :data:`TARGETS`, or another of those.

    Raises
    ------
    NoSuchTarget
        If that is no path of such an object.
    """
    parent, _, last = path.rpartition("/")
    # one object has one path: neither 07 nor a digit of another script
    proper = last.isascii() and last.isdigit() and len(last) <= 19 and str(int(last)) == last
    if parent != below or not proper or int(last) > LARGEST:
        raise NoSuchTarget(f"no {below.rpartition('/')[2]} {path:.200}")
    return int(last)


def shown_text(text: str) -> str:
    r"""Return a string of the kernel or of a user as one that D-Bus carries and a terminal survives.

    What is no printable character is spelled out: ``\x1b``, ``\u202e``; a byte that is no UTF-8 as ``\xff``.
    """
    return "".join(each if each.isprintable() else _spelled(ord(each)) for each in text)


def shown_name(text: str) -> str:
    r"""Return the name of a process like :func:`shown_text`; a backslash becomes two, so that none is ambiguous."""
    return shown_text(text.replace("\\", "\\\\"))


def _spelled(code: int) -> str:
    if 0xDC80 <= code <= 0xDCFF:
        code -= 0xDC00  # PEP 383: a byte that is no UTF-8
    if code < 0x100:
        return f"\\x{code:02x}"
    return f"\\u{code:04x}" if code < 0x10000 else f"\\U{code:08x}"


@dataclass(frozen=True, slots=True)
class Whole:
    """What the manager's properties show."""

    daemon: ManagerView
    targets: Callable[[], Sequence[TargetView]]


def _target(name: str, signature: str, of: Callable[[TargetView], object]) -> Property:
    return Property(name, signature, of)


def _anomaly(name: str, signature: str, of: Callable[[AnomalyView], object]) -> Property:
    return Property(name, signature, of)


def _whole(name: str, signature: str, of: Callable[[Whole], object]) -> Property:
    return Property(name, signature, of)


def _probe(name: str, signature: str, of: Callable[[ProbeView], object]) -> Property:
    return Property(name, signature, of)


def _trace(name: str, signature: str, of: Callable[[TraceView], object]) -> Property:
    return Property(name, signature, of)


def _instrument(name: str, signature: str, of: Callable[[ProbeView | TraceView], object]) -> Property:
    return Property(name, signature, of)


def _held(name: str, signature: str, of: Callable[[AllocationsView], object]) -> Property:
    return Property(name, signature, of)


def _places(places: Sequence[PlaceView]) -> list[list[object]]:
    return [[x.pid, shown_text(x.path), shown_text(x.symbol), x.address, shown_text(x.trouble)] for x in places]


_INSTRUMENT = (
    _instrument("Scope", "s", lambda view: view.scope),
    _instrument("State", "s", lambda view: view.state),
    _instrument("Since", "t", lambda view: view.since_us),
    _instrument("Budget", "u", lambda view: view.budget),
    _instrument("FollowChildren", "b", lambda view: view.children),
    _instrument("Places", "a(ussts)", lambda view: _places(view.places)),
    _instrument("Calls", "t", lambda view: view.calls),
    _instrument("Rate", "d", lambda view: float(view.rate)),
)
"""What a probe and a trace have in common."""


class Target(Interface[TargetView]):
    """A target."""

    name = "org.osdetector1.Target"
    properties = (
        _target("Spec", "s", lambda view: shown_text(view.spec)),
        _target("State", "s", lambda view: view.state),
        _target("Since", "t", lambda view: view.since_us),
        _target("Persistent", "b", lambda view: view.persistent),
        _target("FollowChildren", "b", lambda view: view.follow_children),
        _target("MutedUntil", "t", lambda view: view.muted_until_us),
        _target("Score", "d", lambda view: float(view.score)),
        _target("Progress", "d", lambda view: float(view.progress)),
        _target(
            "Processes",
            "a(utssdd)",
            lambda view: [
                [each.pid, each.start_us, shown_name(each.comm), each.state, float(each.score), float(each.progress)]
                for each in view.processes
            ],
        ),
        _target("Latest", "a{sd}", lambda view: {name: float(x) for name, x in view.latest.items()}),
    )

    def __init__(self, core: Core, number: int) -> None:
        super().__init__(lambda: core.target(number))
        self._core, self._number = core, number

    @reads
    async def GetLatency(self, kind: String) -> Annotated[Any, "a{s(atddd)}"]:
        """Return histograms of waits for a CPU or for block devices."""
        found = await self._core.inside.latency(self._number, _short(kind, "kind"))
        return {name: [list(x.counts), x.p50_s, x.p99_s, x.longest_s] for name, x in found.items()}

    @reads
    async def GetSyscalls(self) -> Annotated[Any, "a(usttdda{st})"]:
        """Return each system call."""
        found = await self._core.inside.syscalls(self._number)
        return [[x.number, x.name, x.calls, x.errors, x.total_s, x.longest_s, dict(x.failures)] for x in found]

    @waits
    async def GetThreads(self, seconds: Double, limit: Uint32) -> Annotated[Any, "a(uussddtt)"]:
        """Return threads, the busiest first."""
        if not MIN_LOOK_S <= seconds <= MAX_LOOK_S:
            raise InvalidArgument(f"{seconds:g} seconds; from {MIN_LOOK_S:g} to {MAX_LOOK_S:g}")
        if not 1 <= limit <= MAX_ROWS:
            raise InvalidArgument(f"limit {limit}; from 1 to {MAX_ROWS}")
        return [
            [x.pid, x.tid, shown_text(x.comm), x.state, x.cpu, x.cpu_s, x.voluntary, x.involuntary]
            for x in await self._core.inside.threads(self._number, seconds, limit)
        ]


class Anomaly(Interface[AnomalyView]):
    """An anomaly."""

    name = "org.osdetector1.Anomaly"
    properties = (
        _anomaly("Target", "o", lambda view: target_path(view.target)),
        _anomaly("Spec", "s", lambda view: shown_text(view.spec)),
        _anomaly("Pid", "u", lambda view: view.pid),
        _anomaly("Comm", "s", lambda view: shown_name(view.comm)),
        _anomaly("State", "s", lambda view: view.state),
        _anomaly("Kind", "s", lambda view: view.kind),
        _anomaly("Opened", "t", lambda view: view.opened_us),
        _anomaly("Closed", "t", lambda view: view.closed_us),
        _anomaly("Score", "d", lambda view: float(view.score)),
        _anomaly("PValue", "d", lambda view: float(view.p_value)),
        _anomaly("Detectors", "as", lambda view: list(view.detectors)),
        _anomaly(
            "Metrics",
            "a(ssddddt)",
            lambda view: [
                [x.metric, x.unit, float(x.share), float(x.observed), float(x.low), float(x.high), x.onset_us]
                for x in view.blames
            ],
        ),
        _anomaly("Message", "s", lambda view: shown_text(view.message)),
        _anomaly("Recurrence", "u", lambda view: view.recurrence),
        _anomaly("Useful", "s", lambda view: view.useful),
    )


class Probe(Interface[ProbeView]):
    """A probe."""

    name = "org.osdetector1.Probe"
    properties = (
        _probe("Location", "s", lambda view: shown_text(view.location)),
        *_INSTRUMENT,
        _probe("Mean", "d", lambda view: float(view.mean_s)),
        _probe("P50", "d", lambda view: float(view.p50_s)),
        _probe("P99", "d", lambda view: float(view.p99_s)),
        _probe("Lost", "t", lambda view: view.lost),
    )

    def __init__(self, instruments: Instruments, number: int) -> None:
        super().__init__(lambda: instruments.probe(number))
        self._instruments, self._number = instruments, number

    @traces
    async def Follow(self, backlog: Uint32, *, asked_by: Caller) -> Fd:
        """Return a socket that tells each call."""
        return _follow(self._instruments, self._number, backlog)


class Trace(Interface[TraceView]):
    """A trace."""

    name = "org.osdetector1.Trace"
    properties = (
        _trace("Signature", "s", lambda view: shown_text(view.signature)),
        *_INSTRUMENT,
        _trace("Lines", "t", lambda view: view.lines),
        _trace("Lost", "t", lambda view: view.lost),
    )

    def __init__(self, instruments: Instruments, number: int) -> None:
        super().__init__(lambda: instruments.trace(number))
        self._instruments, self._number = instruments, number

    @traces
    async def Follow(self, backlog: Uint32, *, asked_by: Caller) -> Fd:
        """Return a socket that tells each line."""
        return _follow(self._instruments, self._number, backlog)


class Held(Interface[AllocationsView]):
    """Allocations."""

    name = "org.osdetector1.Allocations"
    properties = (
        _held("Scope", "s", lambda view: view.scope),
        _held("Library", "s", lambda view: shown_text(view.library)),
        _held("State", "s", lambda view: view.state),
        _held("Since", "t", lambda view: view.since_us),
        _held("Budget", "u", lambda view: view.budget),
        _held(
            "Processes",
            "a(uxxttts)",
            lambda view: [
                [x.pid, x.bytes, x.blocks, x.allocated_bytes, x.allocations, x.frees, shown_text(x.trouble)]
                for x in view.processes
            ],
        ),
        _held("Rate", "d", lambda view: float(view.rate)),
        _held("Cost", "d", lambda view: float(view.cost)),
        _held("Lost", "t", lambda view: view.lost),
    )

    def __init__(self, allocations: Allocations, number: int) -> None:
        super().__init__(lambda: allocations.get(number))
        self._allocations, self._number = allocations, number

    @traces
    async def Top(self, count: Uint32, *, asked_by: Caller) -> Annotated[Any, "a(uttas)"]:
        """Return the stacks that hold most."""
        if not 1 <= count <= MAX_STACKS:
            raise InvalidArgument(f"{count} stacks; from 1 to {MAX_STACKS}")
        found = await self._allocations.top(self._number, count)
        return [[x.pid, x.bytes, x.blocks, [shown_text(frame) for frame in x.frames]] for x in found]


def _follow(instruments: Instruments, number: int, backlog: int) -> int:
    if backlog > MAX_BACKLOG:
        raise InvalidArgument(f"backlog {backlog}; at most {MAX_BACKLOG}")
    return instruments.follow(number, backlog)


def details(view: AnomalyView) -> dict[str, Variant]:
    """Return an anomaly as ``ListAnomalies`` and the signals show it: its properties and its path."""
    return {**Anomaly.shown(view), "Path": Variant("o", anomaly_path(view.number))}


def _string_rows(rows: Sequence[Mapping[str, str | int]]) -> list[dict[str, Variant]]:
    return [{key: Variant("s" if isinstance(x, str) else "i", x) for key, x in row.items()} for row in rows]


_SCOPE = {"target": "o", "pid": "u", "tid": "u", "all": "b", "children": "b", "budget": "u"}
_HELD = {"target": "o", "pid": "u", "library": "s", "budget": "u"}
_ANOMALY_SIGNAL = (("anomaly", "o"), ("details", "a{sv}"))


class Manager(Interface[Whole]):
    """The daemon as a whole."""

    name = "org.osdetector1.Manager"
    signals = (
        Signal("AnomalyOpened", _ANOMALY_SIGNAL),
        Signal("AnomalyUpdated", _ANOMALY_SIGNAL),
        Signal("AnomalyClosed", _ANOMALY_SIGNAL),
        Signal("TargetExited", (("target", "o"), ("details", "a{sv}"))),
    )
    properties = (
        _whole("Version", "s", lambda view: view.daemon.version),
        _whole(
            "Collectors",
            "aa{sv}",
            lambda view: _string_rows(
                [
                    {"Collector": x.collector, "Hook": x.hook, "Rank": x.rank, "Why": shown_text(x.why)}
                    for x in view.daemon.collectors
                ]
            ),
        ),
        _whole(
            "Detectors",
            "aa{sv}",
            lambda view: _string_rows(
                [{"Name": x.name, "State": x.state, "Why": shown_text(x.why)} for x in view.daemon.detectors]
            ),
        ),
        _whole("Lost", "a{st}", lambda view: dict(view.daemon.lost)),
        _whole("SelfCost", "a{sd}", lambda view: {name: float(x) for name, x in view.daemon.self_cost.items()}),
        _whole("Worker", "s", lambda view: shown_text(view.daemon.worker)),
        _whole("Units", "a{ss}", lambda view: dict(view.daemon.units)),
        _whole("Targets", "ao", lambda view: [target_path(target.number) for target in view.targets()]),
    )

    def __init__(self, core: Core) -> None:
        super().__init__(lambda: Whole(core.manager(), core.targets))
        self._core = core
        self._rows: OrderedDict[int, tuple[AnomalyView, bytes]] = OrderedDict()

    @changes
    async def Watch(self, spec: String, options: Variants, *, asked_by: Caller) -> ObjectPath:
        """Start to watch; return the target's path."""
        if len(spec) > MAX_SPEC:
            raise InvalidArgument(f"a specification of {len(spec)} characters; at most {MAX_SPEC}")
        known = _checked(options, {"runtime": "b", "children": "b"}, "option")
        return target_path(await self._core.watch(spec, known, asked_by))

    @changes
    async def Unwatch(self, target: ObjectPath, *, asked_by: Caller) -> None:
        """Stop to watch."""
        await self._core.unwatch(number_at(target, TARGETS), asked_by)

    @traces
    async def AddProbe(self, location: String, options: Variants, *, asked_by: Caller) -> ObjectPath:
        """Measure the calls of a function; return the probe's path."""
        known = _checked_scope(_checked(options, _SCOPE, "option"))
        number = await self._core.instruments.add_probe(_short(location, "location"), known, asked_by)
        return f"{PROBES}/{number}"

    @traces
    async def RemoveProbe(self, probe: ObjectPath, *, asked_by: Caller) -> None:
        """Detach a probe."""
        view = self._core.instruments.probe(number_at(probe, PROBES))
        await self._core.instruments.remove(view.number, asked_by)

    @traces
    async def AddTrace(self, signature: String, options: Variants, *, asked_by: Caller) -> ObjectPath:
        """Print a line for each call of a function; return the trace's path."""
        known = _checked_scope(_checked(options, {**_SCOPE, "entry": "s", "return": "s"}, "option"))
        number = await self._core.instruments.add_trace(_short(signature, "signature"), known, asked_by)
        return f"{TRACES}/{number}"

    @traces
    async def RemoveTrace(self, trace: ObjectPath, *, asked_by: Caller) -> None:
        """Detach a trace."""
        view = self._core.instruments.trace(number_at(trace, TRACES))
        await self._core.instruments.remove(view.number, asked_by)

    @traces
    async def AddAllocations(self, options: Variants, *, asked_by: Caller) -> ObjectPath:
        """Watch what processes get from their allocators; return the path."""
        known = _checked_scope(_checked(options, _HELD, "option"))
        _short(known.get("library", ""), "library")
        return f"{ALLOCATIONS}/{await self._core.allocations.add(known, asked_by)}"

    @traces
    async def RemoveAllocations(self, allocations: ObjectPath, *, asked_by: Caller) -> None:
        """Watch allocations no more."""
        await self._core.allocations.remove(number_at(allocations, ALLOCATIONS), asked_by)

    @traces
    async def MeasureAllocationPrice(self, *, asked_by: Caller) -> Annotated[Any, "a{sd}"]:
        """Return what watching allocations costs here."""
        price = await self._core.allocations.price(asked_by)
        return {"malloc_s": price.malloc_s, "free_s": price.free_s, "before_s": price.before_s}

    @reads
    def ListAnomalies(self, filter: Variants) -> Annotated[Any, "aa{sv}"]:
        """Return anomalies, newest first."""
        known = _checked(filter, {"since_us": "t", "until_us": "t", "target": "o", "open": "b", "limit": "u"}, "filter")
        limit = known.get("limit", DEFAULT_ROWS)
        if limit > MAX_ROWS:
            raise InvalidArgument(f"limit {limit}; at most {MAX_ROWS}")
        found = self._core.list_anomalies(
            min(known.get("since_us", 0), LARGEST),
            min(known.get("until_us", 0), LARGEST),
            number_at(known["target"], TARGETS) if "target" in known else None,
            known.get("open", False),
            limit,
        )
        return Encoded(body.join_rows(self._row(view) for view in found[:limit]))

    @reads
    async def GetSeries(
        self, target: ObjectPath, metrics: Strings, since_us: Uint64, max_points: Uint32
    ) -> Annotated[Any, "a{s(atad)}"]:
        """Return samples by metric."""
        number = number_at(target, TARGETS)
        if not 1 <= len(metrics) <= MAX_METRICS:
            raise InvalidArgument(f"{len(metrics)} metrics; from 1 to {MAX_METRICS}")
        for metric in metrics:
            if len(metric) > MAX_METRIC_NAME:
                raise InvalidArgument(f"no metric {metric:.40}...")
        if not 1 <= max_points <= MAX_VALUES // len(metrics):
            raise InvalidArgument(
                f"{max_points} points of {len(metrics)} metrics; from 1 to {MAX_VALUES // len(metrics)}"
            )
        return Encoded(body.series(await self._core.series(number, metrics, min(since_us, LARGEST), max_points)))

    @reads
    async def GetEvidence(self, anomaly: ObjectPath) -> Fd:
        """Return a sealed memory file with JSON."""
        return sealed_file(await self._core.evidence(number_at(anomaly, ANOMALIES)))

    @changes
    async def Mute(self, target: ObjectPath, seconds: Uint64, *, asked_by: Caller) -> None:
        """Report nothing of a target for a while."""
        if seconds > MAX_MUTE_S:
            raise InvalidArgument(f"{seconds} seconds; at most {MAX_MUTE_S}")
        await self._core.mute(number_at(target, TARGETS), seconds, asked_by)

    @changes
    async def Feedback(self, anomaly: ObjectPath, useful: Bool, *, asked_by: Caller) -> None:
        """Say whether an anomaly was useful."""
        await self._core.feedback(number_at(anomaly, ANOMALIES), useful, asked_by)

    @changes
    async def ForgetFeedback(self, anomaly: ObjectPath, *, asked_by: Caller) -> None:
        """Take back what was said of an anomaly."""
        await self._core.forget_feedback(number_at(anomaly, ANOMALIES), asked_by)

    @changes
    async def Reload(self, *, asked_by: Caller) -> None:
        """Read the configuration again."""
        await self._core.reload(asked_by)

    def _row(self, view: AnomalyView) -> bytes:
        """Return an anomaly as bytes; those of the newest views are kept, since most anomalies never change again."""
        kept = self._rows.get(view.number)
        if kept is None or (kept[0] is not view and kept[0] != view):
            kept = (view, body.row(details(view)))
            self._rows[view.number] = kept
            if len(self._rows) > _ROWS_KEPT:
                self._rows.popitem(last=False)
        return kept[1]


def sealed_file(data: bytes) -> int:
    """Return a descriptor of a file in memory that nobody can change; the receiver may map it without fear."""
    fd = os.memfd_create("osdetectord-evidence", os.MFD_CLOEXEC | os.MFD_ALLOW_SEALING)
    try:
        with open(fd, "wb", closefd=False) as file:
            file.write(data)
        os.lseek(fd, 0, os.SEEK_SET)
        fcntl.fcntl(fd, fcntl.F_ADD_SEALS, _SEALS)
    except BaseException:
        os.close(fd)
        raise
    return fd


def _short(text: str, what: str) -> str:
    if len(text) > MAX_SPEC:
        raise InvalidArgument(f"a {what} of {len(text)} characters; at most {MAX_SPEC}")
    return text


def _checked_scope(options: dict[str, Any]) -> dict[str, Any]:
    return {**options, "target": number_at(options["target"], TARGETS)} if "target" in options else options


def _checked(given: Mapping[str, Variant], known: Mapping[str, str], what: str) -> dict[str, Any]:
    """Return the values of a dictionary of options, each of a known name and type."""
    for name, variant in given.items():
        if name not in known:
            raise InvalidArgument(f"unknown {what} {name:.40}; known: {', '.join(known)}")
        if variant.signature != known[name]:
            raise InvalidArgument(f"{what} {name} is of type {variant.signature}; expected {known[name]}")
    return {name: variant.value for name, variant in given.items()}
