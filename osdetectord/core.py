"""What the edges (the bus) may ask of the daemon, and the views they show of it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol


@dataclass(frozen=True, slots=True)
class Caller:
    """Who asks: unique bus name and user."""

    name: str
    uid: int
    gids: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class ProcessView:
    """A process of a target.  Times are wall-clock microseconds."""

    pid: int
    start_us: int
    comm: str
    state: str
    """``learning``, ``normal`` or ``anomalous``."""
    score: float
    progress: float
    """Warm-up done, in ``[0, 1]``."""


@dataclass(frozen=True, slots=True)
class TargetView:
    """A target as the bus shows it.  Times are wall-clock microseconds."""

    number: int
    spec: str
    """Canonical, for example ``pid:1234`` or ``unit:nginx.service``."""
    state: str
    """``waiting`` (nothing matches yet), ``learning``, ``normal``, ``anomalous`` or ``gone``."""
    since_us: int
    persistent: bool
    follow_children: bool
    muted_until_us: int
    score: float
    progress: float
    processes: tuple[ProcessView, ...] = ()
    latest: Mapping[str, float] = field(default_factory=dict)
    """Newest sample, counters summed over the processes, by metric name."""


@dataclass(frozen=True, slots=True)
class BlameView:
    """A metric's part in an anomaly; see :class:`osdetectord.anomaly.Blame`."""

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
class AnomalyView:
    """An anomaly as the bus shows it.  Times are wall-clock microseconds."""

    number: int
    target: int
    spec: str
    pid: int
    comm: str
    state: str
    """``open`` or ``closed``."""
    kind: str
    opened_us: int
    closed_us: int
    """0 while open."""
    score: float
    p_value: float
    detectors: tuple[str, ...]
    blames: tuple[BlameView, ...]
    message: str
    """The journal record's sentence."""
    recurrence: int = 0
    useful: str = ""
    """The user's word: ``yes``, ``no`` or nothing."""


@dataclass(frozen=True, slots=True)
class HookView:
    """Which hook serves a group of metrics, and why no better one does."""

    collector: str
    hook: str
    """Empty where nothing serves it, or it is off."""
    rank: int
    """0 is the first choice, and what is off; -1 where nothing serves it."""
    why: str
    """Why each better hook does not serve, or why it is off; empty for the first choice."""


@dataclass(frozen=True, slots=True)
class DetectorView:
    """An evidence and its state: ``on``, ``off`` or ``absent``, and why."""

    name: str
    state: str
    why: str


@dataclass(frozen=True, slots=True)
class PlaceView:
    """Where a probe or trace is attached in a process, or why it is not."""

    pid: int
    """0 for every process that maps the file."""
    path: str
    symbol: str
    address: int
    """Virtual address in the file."""
    trouble: str
    """Empty where it is attached."""


@dataclass(frozen=True, slots=True)
class ProbeView:
    """A probe as the bus shows it."""

    number: int
    location: str
    scope: str
    """``pid:1234``, ``tid:1240``, ``target:1`` or ``all``."""
    state: str
    """``on``, ``waiting`` (attached nowhere now) or ``over budget``."""
    since_us: int
    budget: int
    """Calls per second at which it is detached."""
    children: bool
    places: tuple[PlaceView, ...]
    calls: int
    """Calls that began."""
    rate: float
    """Of the last second, 1/s."""
    mean_s: float
    """Mean duration of all calls; NaN where none has returned."""
    p50_s: float
    """Quantiles of the duration of the newest calls; NaN where none has returned."""
    p99_s: float
    lost: int
    """Since it was added, of all probes and traces together: what they tell goes through the same rings."""


@dataclass(frozen=True, slots=True)
class TraceView:
    """A trace as the bus shows it; see :class:`ProbeView`."""

    number: int
    signature: str
    """As it was asked for; with messages, the location."""
    scope: str
    state: str
    since_us: int
    budget: int
    children: bool
    places: tuple[PlaceView, ...]
    calls: int
    rate: float
    lines: int
    """Lines printed."""
    lost: int


@dataclass(frozen=True, slots=True)
class HeldView:
    """What a process got from its allocator since it is watched, and what of it it holds."""

    pid: int
    bytes: int
    """Outstanding: allocated and not yet freed."""
    blocks: int
    allocated_bytes: int
    allocations: int
    frees: int
    trouble: str
    """Why it is not watched, or no longer; empty where it is."""


@dataclass(frozen=True, slots=True)
class AllocationsView:
    """The allocations of the processes of a target, or of one process, as the bus shows them."""

    number: int
    scope: str
    """``pid:1234`` or ``target:1``."""
    library: str
    """The binary that holds the allocator, as it was asked for; empty where it is found for each process."""
    state: str
    """``on``, ``waiting`` (of no process now) or ``over budget``."""
    since_us: int
    budget: int
    """Calls of the allocator per second at which a process is let go."""
    processes: tuple[HeldView, ...]
    rate: float
    """Calls of allocators in the last seconds, 1/s."""
    cost: float
    """What the processes pay for being watched, CPU seconds per second, by the price last measured; NaN without."""
    lost: int
    """Blocks and stacks that were not kept, by all allocations together, since it was added."""


@dataclass(frozen=True, slots=True)
class PriceView:
    """What watching costs a process: seconds that each call takes longer."""

    malloc_s: float
    free_s: float
    before_s: float
    """What a malloc and its free took without."""


@dataclass(frozen=True, slots=True)
class StackView:
    """Who allocated what is outstanding: functions, the innermost first."""

    pid: int
    bytes: int
    blocks: int
    frames: tuple[str, ...]


Instrument = ProbeView | TraceView | AllocationsView
"""What is attached to processes."""


@dataclass(frozen=True, slots=True)
class ManagerView:
    """The daemon as a whole."""

    version: str
    collectors: tuple[HookView, ...]
    detectors: tuple[DetectorView, ...]
    lost: Mapping[str, int]
    """What was lost since start, by cause; 0 where nothing was."""
    self_cost: Mapping[str, float]
    """cpu_percent, cpu_s, rss_bytes, worker_rss_bytes, worker_cpu_s, tick_ms ..."""
    worker: str
    """``connected``, ``connecting`` or a reason."""
    units: Mapping[str, str] = field(default_factory=dict)
    """Unit of a sample, by metric name."""


class Instruments(Protocol):
    """Probes and traces.  Every method raises :class:`~osdetectord.errors.OsdetectorError`."""

    def views(self) -> Sequence[ProbeView | TraceView]:
        """By number, which both kinds share."""

    def probe(self, number: int) -> ProbeView: ...
    def trace(self, number: int) -> TraceView: ...

    async def add_probe(self, location: str, options: Mapping[str, Any], asked_by: Caller) -> int:
        """Measure the calls of a function; returns the probe's number.

        Options: one of ``target`` (its number), ``pid``, ``tid`` and ``all`` (true); ``children`` (bool), ``budget``.
        """

    async def add_trace(self, signature: str, options: Mapping[str, Any], asked_by: Caller) -> int:
        """Print a line for each call; options as for a probe, and ``entry`` and ``return``: messages."""

    async def remove(self, number: int, asked_by: Caller) -> None: ...

    def follow(self, number: int, backlog: int) -> int:
        """Return a socket on which each record or line comes as one line of JSON, the last ``backlog`` first."""


class Allocations(Protocol):
    """What processes hold of their allocators' memory.  Every method raises OsdetectorError."""

    def views(self) -> Sequence[AllocationsView]: ...
    def get(self, number: int) -> AllocationsView: ...

    async def price(self, asked_by: Caller) -> PriceView:
        """Measure, on a process of our own, what watching costs on this machine."""

    async def add(self, options: Mapping[str, Any], asked_by: Caller) -> int:
        """Watch the allocations of some processes; returns their number.

        Options: one of ``target`` (its number) and ``pid``; ``library``, ``budget``.
        """

    async def remove(self, number: int, asked_by: Caller) -> None: ...

    async def top(self, number: int, count: int) -> Sequence[StackView]:
        """Return the stacks with the most outstanding bytes, most first."""


@dataclass(frozen=True, slots=True)
class LatencyView:
    """How often something took how long."""

    counts: tuple[int, ...]
    """Those below 2 units of 1.024 us, those of [2^i, 2^(i+1)) units for i = 1, 2, ..., the last all longer."""
    p50_s: float
    p99_s: float
    """Quantiles, within a factor of two; NaN where there is none."""
    longest_s: float
    """No one took longer, within a factor of two; NaN where there is none, infinite where that is not known."""


@dataclass(frozen=True, slots=True)
class SyscallView:
    """What one system call did in the processes of a target since they are watched."""

    number: int
    name: str
    calls: int
    errors: int
    total_s: float
    longest_s: float
    failures: Mapping[str, int]
    """By name of the error, like ``EAGAIN``: how many."""


@dataclass(frozen=True, slots=True)
class ThreadView:
    """A thread of a target's process."""

    pid: int
    tid: int
    comm: str
    state: str
    """The letter of ``/proc/PID/stat``."""
    cpu: float
    """On a CPU, of the time that was looked at."""
    cpu_s: float
    """On a CPU since its start."""
    voluntary: int
    involuntary: int
    """Switches since its start."""


class Inside(Protocol):
    """What goes on in a target's processes, looked at when somebody asks.  Raises OsdetectorError."""

    async def latency(self, target: int, kind: str) -> Mapping[str, LatencyView]:
        """Waits for a CPU (kind ``cpu``: ``wait``) or of requests to block devices (``block``: ``read``, ``write``)."""

    async def syscalls(self, target: int) -> Sequence[SyscallView]:
        """Every system call, most time first."""

    async def threads(self, target: int, seconds: float, limit: int) -> Sequence[ThreadView]:
        """Threads after a look of so many seconds, those first that were on a CPU for longest."""


class Core(Protocol):
    """The daemon, seen from the bus.  Every method raises :class:`~osdetectord.errors.OsdetectorError`."""

    @property
    def instruments(self) -> Instruments: ...
    @property
    def allocations(self) -> Allocations: ...
    @property
    def inside(self) -> Inside: ...

    def manager(self) -> ManagerView: ...
    def targets(self) -> Sequence[TargetView]: ...
    def target(self, number: int) -> TargetView: ...
    def anomaly(self, number: int) -> AnomalyView: ...

    async def watch(self, spec: str, options: Mapping[str, object], asked_by: Caller) -> int:
        """Start to watch; options ``runtime`` (bool), ``children`` (bool).  Returns the target's number."""

    async def unwatch(self, target: int, asked_by: Caller) -> None: ...

    def list_anomalies(
        self, since_us: int, until_us: int, target: int | None, only_open: bool, limit: int
    ) -> Sequence[AnomalyView]:
        """Newest first; ``until_us`` 0 means now."""

    async def series(
        self, target: int, metrics: Sequence[str], since_us: int, max_points: int
    ) -> Mapping[str, tuple[Sequence[int], Sequence[float]]]:
        """By name: times in wall-clock microseconds, and samples summed over the target's processes.

        A name is a metric's, or that with ``:min``, ``:max``, ``:low`` or ``:high``.
        """

    async def evidence(self, anomaly: int) -> bytes:
        """What the anomaly rests on, as JSON: the record and its series from before its onset."""

    async def mute(self, target: int, seconds: int, asked_by: Caller) -> None: ...
    async def feedback(self, anomaly: int, useful: bool, asked_by: Caller) -> None: ...
    async def forget_feedback(self, anomaly: int, asked_by: Caller) -> None:
        """Take back what was said of an anomaly."""

    async def reload(self, asked_by: Caller) -> None: ...


class Listener(Protocol):
    """What the daemon tells the bus."""

    def manager_changed(self, names: Sequence[str]) -> None:
        """Manager properties (D-Bus names) whose values changed."""

    def target_added(self, target: TargetView) -> None: ...
    def target_changed(self, target: TargetView, names: Sequence[str]) -> None: ...
    def target_exited(self, target: int, details: Mapping[str, object]) -> None: ...
    def target_removed(self, number: int) -> None: ...
    def instrument_added(self, view: Instrument) -> None: ...
    def instrument_changed(self, view: Instrument) -> None: ...
    def instrument_removed(self, view: Instrument) -> None: ...
    def anomaly_opened(self, anomaly: AnomalyView) -> None: ...
    def anomaly_updated(self, anomaly: AnomalyView) -> None: ...
    def anomaly_closed(self, anomaly: AnomalyView) -> None: ...
