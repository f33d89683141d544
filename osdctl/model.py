"""What the daemon tells, as values; times are wall-clock microseconds, as on the bus."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from osdctl.errors import OsdctlError

TARGET_ROOT = "/org/osdetector1/target/"
ANOMALY_ROOT = "/org/osdetector1/anomaly/"
PROBE_ROOT = "/org/osdetector1/probe/"
TRACE_ROOT = "/org/osdetector1/trace/"
ALLOCATIONS_ROOT = "/org/osdetector1/allocations/"

T = TypeVar("T")


def number_of(path: str) -> int:
    """Return the number at the end of an object path."""
    number = path.rpartition("/")[2]
    if not number.isdecimal():
        raise OsdctlError(f"the daemon sent an object path without a number: {path}")
    return int(number)


def _take(properties: Mapping[str, Any], name: str, kind: type[T]) -> T:
    value = properties.get(name)
    if not isinstance(value, kind):
        raise _improper(name)
    return value


def _improper(name: str) -> OsdctlError:
    return OsdctlError(f"the daemon's answer has no proper {name}", "are osdctl and osdetectord of one version?")


def each(make: Callable[[Any], T], rows: Iterable[Any], name: str) -> list[T]:
    """Return what is made of each row of the property or answer of this name.

    Raises
    ------
    OsdctlError
        If a row has not the fields that this version knows.
    """
    try:
        return [make(row) for row in rows]
    except (LookupError, TypeError, ValueError) as error:
        raise _improper(name) from error


def _rows(properties: Mapping[str, Any], name: str, kind: Callable[..., T]) -> tuple[T, ...]:
    return tuple(each(lambda row: kind(*row), _take(properties, name, list), name))


@dataclass(frozen=True, slots=True)
class Process:
    """A process of a target."""

    pid: int
    started_us: int
    comm: str
    state: str
    score: float
    progress: float


@dataclass(frozen=True, slots=True)
class Target:
    """Something that is watched."""

    id: int
    spec: str
    state: str
    since_us: int
    persistent: bool
    children: bool
    muted_until_us: int
    score: float
    progress: float
    processes: tuple[Process, ...]
    latest: dict[str, float]

    @property
    def path(self) -> str:
        """Its D-Bus object path."""
        return f"{TARGET_ROOT}{self.id}"

    @property
    def muted(self) -> bool:
        """Whether nothing is told of it now."""
        return self.muted_until_us > time.time() * 1e6

    @property
    def condition(self) -> str:
        """Its state, and whether it is muted."""
        return f"{self.state}, muted" if self.muted else self.state

    @classmethod
    def of(cls, path: str, properties: Mapping[str, Any]) -> Target:
        """Read the properties of ``org.osdetector1.Target``."""
        return cls(
            id=number_of(path),
            spec=_take(properties, "Spec", str),
            state=_take(properties, "State", str),
            since_us=_take(properties, "Since", int),
            persistent=_take(properties, "Persistent", bool),
            children=_take(properties, "FollowChildren", bool),
            muted_until_us=_take(properties, "MutedUntil", int),
            score=_take(properties, "Score", float),
            progress=_take(properties, "Progress", float),
            processes=_rows(properties, "Processes", Process),
            latest=dict(_take(properties, "Latest", dict)),
        )

    def json(self) -> dict[str, Any]:
        """For ``--json``: names and values that stay from version to version."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Blame:
    """A metric's part in an anomaly."""

    metric: str
    unit: str
    share: float
    observed: float
    low: float
    high: float
    onset_us: int

    @property
    def within(self) -> bool:
        """Whether it is within what is expected: only what it does together with others is unusual."""
        return self.low <= self.observed <= self.high


@dataclass(frozen=True, slots=True)
class Anomaly:
    """An episode of abnormal behaviour."""

    id: int
    target: int
    spec: str
    pid: int
    comm: str
    state: str
    kind: str
    opened_us: int
    closed_us: int
    score: float
    p_value: float
    detectors: tuple[str, ...]
    metrics: tuple[Blame, ...]
    message: str
    recurrence: int
    useful: str

    @property
    def path(self) -> str:
        """Its D-Bus object path."""
        return f"{ANOMALY_ROOT}{self.id}"

    @classmethod
    def of(cls, path: str, properties: Mapping[str, Any]) -> Anomaly:
        """Read the properties of ``org.osdetector1.Anomaly``."""
        return cls(
            id=number_of(path),
            target=number_of(_take(properties, "Target", str)),
            spec=_take(properties, "Spec", str),
            pid=_take(properties, "Pid", int),
            comm=_take(properties, "Comm", str),
            state=_take(properties, "State", str),
            kind=_take(properties, "Kind", str),
            opened_us=_take(properties, "Opened", int),
            closed_us=_take(properties, "Closed", int),
            score=_take(properties, "Score", float),
            p_value=_take(properties, "PValue", float),
            detectors=tuple(_take(properties, "Detectors", list)),
            metrics=_rows(properties, "Metrics", Blame),
            message=_take(properties, "Message", str),
            recurrence=_take(properties, "Recurrence", int),
            useful=_take(properties, "Useful", str),
        )

    def json(self) -> dict[str, Any]:
        """For ``--json``: names and values that stay from version to version."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Place:
    """Where a probe or trace is attached in a process, or why it is not."""

    pid: int
    path: str
    symbol: str
    address: int
    trouble: str


@dataclass(frozen=True, slots=True)
class Instrument:
    """What a probe and a trace have in common."""

    id: int
    scope: str
    state: str
    since_us: int
    budget: int
    children: bool
    places: tuple[Place, ...]
    calls: int
    rate: float
    lost: int

    @staticmethod
    def common(path: str, properties: Mapping[str, Any]) -> dict[str, Any]:
        """Read what ``org.osdetector1.Probe`` and ``org.osdetector1.Trace`` have in common."""
        return {
            "id": number_of(path),
            "scope": _take(properties, "Scope", str),
            "state": _take(properties, "State", str),
            "since_us": _take(properties, "Since", int),
            "budget": _take(properties, "Budget", int),
            "children": _take(properties, "FollowChildren", bool),
            "places": _rows(properties, "Places", Place),
            "calls": _take(properties, "Calls", int),
            "rate": _take(properties, "Rate", float),
            "lost": _take(properties, "Lost", int),
        }

    def json(self) -> dict[str, Any]:
        """For ``--json``: names and values that stay from version to version."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Probe(Instrument):
    """A function whose calls are measured."""

    location: str
    mean_s: float
    p50_s: float
    p99_s: float

    @property
    def path(self) -> str:
        """Its D-Bus object path."""
        return f"{PROBE_ROOT}{self.id}"

    @property
    def asked(self) -> str:
        """What was asked for."""
        return self.location

    @classmethod
    def of(cls, path: str, properties: Mapping[str, Any]) -> Probe:
        """Read the properties of ``org.osdetector1.Probe``."""
        return cls(
            **cls.common(path, properties),
            location=_take(properties, "Location", str),
            mean_s=_take(properties, "Mean", float),
            p50_s=_take(properties, "P50", float),
            p99_s=_take(properties, "P99", float),
        )


@dataclass(frozen=True, slots=True)
class Trace(Instrument):
    """A function each call of which prints a line."""

    signature: str
    lines: int

    @property
    def path(self) -> str:
        """Its D-Bus object path."""
        return f"{TRACE_ROOT}{self.id}"

    @property
    def asked(self) -> str:
        """What was asked for."""
        return self.signature

    @classmethod
    def of(cls, path: str, properties: Mapping[str, Any]) -> Trace:
        """Read the properties of ``org.osdetector1.Trace``."""
        return cls(
            **cls.common(path, properties),
            signature=_take(properties, "Signature", str),
            lines=_take(properties, "Lines", int),
        )


@dataclass(frozen=True, slots=True)
class Price:
    """What watching allocations costs a process: seconds that each call takes longer, and what both took before."""

    malloc_s: float
    free_s: float
    before_s: float

    @classmethod
    def of(cls, row: Mapping[str, float]) -> Price:
        """Read the answer of ``MeasureAllocationPrice``."""
        return cls(row["malloc_s"], row["free_s"], row["before_s"])


@dataclass(frozen=True, slots=True)
class Stack:
    """Who allocated what is outstanding, the innermost function first."""

    pid: int
    bytes: int
    blocks: int
    frames: tuple[str, ...]

    @classmethod
    def of(cls, row: Sequence[Any]) -> Stack:
        """Read one row of ``Top``."""
        pid, held, blocks, frames = row
        return cls(pid, held, blocks, tuple(frames))


@dataclass(frozen=True, slots=True)
class Held:
    """What a process got from its allocator, and what of it it holds: ``bytes`` in ``blocks``."""

    pid: int
    bytes: int
    blocks: int
    allocated_bytes: int
    allocations: int
    frees: int
    trouble: str


@dataclass(frozen=True, slots=True)
class Allocations:
    """The allocations of some processes."""

    id: int
    scope: str
    library: str
    state: str
    since_us: int
    budget: int
    processes: tuple[Held, ...]
    rate: float
    cost: float
    lost: int

    @property
    def path(self) -> str:
        """Their D-Bus object path."""
        return f"{ALLOCATIONS_ROOT}{self.id}"

    @property
    def bytes(self) -> int:
        """Outstanding bytes of all processes."""
        return sum(each.bytes for each in self.processes)

    @property
    def blocks(self) -> int:
        """Outstanding blocks of all processes."""
        return sum(each.blocks for each in self.processes)

    @classmethod
    def of(cls, path: str, properties: Mapping[str, Any]) -> Allocations:
        """Read the properties of ``org.osdetector1.Allocations``."""
        return cls(
            id=number_of(path),
            scope=_take(properties, "Scope", str),
            library=_take(properties, "Library", str),
            state=_take(properties, "State", str),
            since_us=_take(properties, "Since", int),
            budget=_take(properties, "Budget", int),
            processes=_rows(properties, "Processes", Held),
            rate=_take(properties, "Rate", float),
            cost=_take(properties, "Cost", float),
            lost=_take(properties, "Lost", int),
        )

    def json(self) -> dict[str, Any]:
        """For ``--json``: names and values that stay from version to version."""
        return {**asdict(self), "bytes": self.bytes, "blocks": self.blocks}


@dataclass(frozen=True, slots=True)
class Hook:
    """Which hook serves a collector, and why no better one does."""

    collector: str
    hook: str
    rank: int
    why: str

    @property
    def off(self) -> bool:
        """Whether nobody asked for the collector."""
        return self.rank == 0 and not self.hook

    @classmethod
    def of(cls, row: Mapping[str, Any]) -> Hook:
        """Read one row of ``Collectors``."""
        return cls(
            _take(row, "Collector", str), _take(row, "Hook", str), _take(row, "Rank", int), _take(row, "Why", str)
        )


@dataclass(frozen=True, slots=True)
class Detector:
    """An evidence: on, off or absent, and why."""

    name: str
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class Daemon:
    """The daemon as a whole."""

    version: str
    collectors: tuple[Hook, ...]
    detectors: tuple[Detector, ...]
    lost: dict[str, int]
    cost: dict[str, float]
    worker: str
    units: dict[str, str]
    """Unit of a sample, by metric."""

    @classmethod
    def of(cls, properties: Mapping[str, Any]) -> Daemon:
        """Read the properties of ``org.osdetector1.Manager``."""
        return cls(
            version=_take(properties, "Version", str),
            collectors=tuple(Hook.of(row) for row in _take(properties, "Collectors", list)),
            detectors=tuple(
                Detector(_take(row, "Name", str), _take(row, "State", str), _take(row, "Why", str))
                for row in _take(properties, "Detectors", list)
            ),
            lost=dict(_take(properties, "Lost", dict)),
            cost=dict(_take(properties, "SelfCost", dict)),
            worker=_take(properties, "Worker", str),
            units=dict(_take(properties, "Units", dict)),
        )

    def json(self) -> dict[str, Any]:
        """For ``--json``: names and values that stay from version to version."""
        return asdict(self)
