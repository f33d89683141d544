"""Probes and traces of functions of user programs: attached, followed over fork and exec, bounded and read.

A probe is attached to each process that it is for, not to the file, because a breakpoint in a file is paid for by
every process that maps it.  Children of a probed process are probed when the collectors tell of them, and a
process that executes another program is probed there again; between fork or exec and that tick a call may be
missed.
"""

from __future__ import annotations

import errno
import os
import threading
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from osdetectord.bpf.uprobe import Uprobes
from osdetectord.collectors import uprobe
from osdetectord.core import HookView, PlaceView
from osdetectord.errors import (
    InvalidArgument,
    NoSuchProcess,
    NoSuchTarget,
    OsdetectorError,
    TooManyTargets,
    Unsupported,
)
from osdetectord.probing import mapping
from osdetectord.probing.event import RESULT, Event, Text
from osdetectord.probing.location import Location
from osdetectord.probing.signature import TraceForm, event_line, parse_formats, parse_trace
from osdetectord.process import Process, ProcessInfo

DEFAULT_BUDGET = 20_000
"""Calls per second that a probe may cost at most before it is detached."""

MAX_PROBES = 256
MAX_ATTACHMENTS = 2048

WINDOW_NS = 1_000_000_000
"""Time over which a rate is compared with its budget."""

PATIENCE_NS = 2_000_000_000
"""How long the line of an entry waits for its return, where a string of it could not be read."""

MAX_WAITING = 8192

RETRY_NS, RETRY_MAX_NS = 250_000_000, 60_000_000_000
"""When a process without the function is looked at again, each time later: its libraries may not be loaded yet."""

SWEEP_NS = 10_000_000_000
"""How often ended processes are looked for that nobody tells of."""

CALL = np.dtype(
    [
        ("number", "<u4"),
        ("pid", "<u4"),
        ("tid", "<u4"),
        ("depth", "<u4"),
        ("entered_ns", "<u8"),
        ("returned_ns", "<u8"),
        ("cpu_ns", "<f8"),
        ("cpu_exact", "?"),
        ("user_ns", "<u8"),
        ("system_ns", "<u8"),
        ("voluntary", "<u8"),
        ("involuntary", "<u8"),
        ("allocated", "<f8"),
        ("allocations", "<f8"),
        ("result", "<u8"),
    ]
)
"""One call of a probed function.

Times are CLOCK_MONOTONIC.  ``cpu_ns`` is time on a CPU, by the scheduler's switches where ``cpu_exact``, else by
its tick; NaN where the thread came to be watched during the call.  ``user_ns`` and ``system_ns`` are sampled by the
tick: 0 in most short calls, a whole tick in some.  ``allocated`` and ``allocations`` are what the
thread got from the allocator less what it gave back, bytes and blocks; NaN unless its process's allocations are
watched.  ``depth`` counts the calls of the same
function that were under way in the thread.
"""


class HasUprobes(Protocol):
    """What of :class:`osdetectord.bpf.kernel.Kernel` is needed here."""

    uprobes: Uprobes


@dataclass(frozen=True, slots=True)
class ProbeTotal:
    """What a probe counted in one process since the tick before.

    Parameters
    ----------
    number, pid
        Which probe, which process.
    entries, calls
        Calls that began, and calls that returned.
    interval_s
        Time since the tick before.
    total_ns, cpu_ns
        Sums of the calls' durations and times on a CPU.
    bucket
        Durations; see :data:`osdetectord.collectors.uprobe.BOUNDS`.
    longest_ns
        Longest call since the probe was attached.
    """

    number: int
    pid: int
    entries: int
    calls: int
    interval_s: float
    total_ns: int
    cpu_ns: int
    bucket: NDArray[np.uint64]
    longest_ns: int

    @property
    def p50_ns(self) -> float:
        """Median of the durations, within a quarter; NaN without calls."""
        return uprobe.quantile(self.bucket, 0.5)

    @property
    def p99_ns(self) -> float:
        """What one call in a hundred exceeded, within a quarter; NaN without calls."""
        return uprobe.quantile(self.bucket, 0.99)

    @property
    def rate(self) -> float:
        """Calls that began per second."""
        return self.entries / self.interval_s if self.interval_s > 0 else 0.0


@dataclass(frozen=True, slots=True)
class TraceLine:
    """A line of a trace; ``time_ns`` is CLOCK_MONOTONIC of the entry or return that it tells of."""

    number: int
    pid: int
    tid: int
    time_ns: int
    returned: bool
    text: str


@dataclass(frozen=True, slots=True)
class Detached:
    """A probe or trace that was detached because it was called more often than its budget allows."""

    number: int
    location: str
    rate: float
    budget: int

    def __str__(self) -> str:
        return f"{self.location} was called {self.rate:.0f} times a second, more than {self.budget}: detached"


@dataclass(frozen=True, slots=True)
class ProbeTick:
    """What happened since the tick before."""

    calls: NDArray[Any]
    """Of dtype ``CALL``, in the order of the returns."""
    lines: tuple[TraceLine, ...]
    totals: tuple[ProbeTotal, ...]
    detached: tuple[Detached, ...]


@dataclass(frozen=True, slots=True)
class ProbeView:
    """A probe as others see it."""

    number: int
    location: str
    state: str
    """``on``, ``waiting`` (attached nowhere) or ``over budget``."""
    budget: int
    tid: int
    children: bool
    places: tuple[PlaceView, ...]
    entries: int
    calls: int
    total_ns: int
    """Over the whole life of the probe."""


@dataclass(frozen=True, slots=True)
class TraceView(ProbeView):
    """A trace as others see it."""

    lines: int = 0


@dataclass(slots=True)
class _Attachment:
    cookie: int
    place: mapping.Place
    links: tuple[int, ...]


@dataclass(slots=True)
class _Trouble:
    why: str
    again_ns: int
    delay_ns: int = RETRY_NS


@dataclass(slots=True)
class _Probe:
    number: int
    location: Location
    form: TraceForm | None
    tid: int
    budget: int
    children: bool
    pids: set[int]
    attached: dict[int, _Attachment] = field(default_factory=dict)
    troubles: dict[int, _Trouble] = field(default_factory=dict)
    over_budget: bool = False
    entries: int = 0
    calls: int = 0
    total_ns: int = 0
    lines: int = 0
    window_ns: int = 0
    window_entries: int = 0


class Probes:
    """All probes and traces.  Any thread may call; one at a time is served.

    Parameters
    ----------
    kernel
        The loaded programs.
    now_ns
        CLOCK_MONOTONIC.
    """

    def __init__(self, kernel: HasUprobes, now_ns: int) -> None:
        self._uprobes = kernel.uprobes
        self._lock = threading.RLock()
        self._probes: dict[int, _Probe] = {}
        # a cookie stays known until what it left in the rings has been read
        self._owner: dict[int, _Probe] = {}
        self._retired: list[int] = []
        self._last: dict[tuple[int, int], NDArray[Any]] = {}
        self._waiting: OrderedDict[tuple[int, int, int], tuple[Event, bool]] = OrderedDict()
        # another life of the same kernel part used other cookies
        self._next_number, self._next_cookie = 1, max(1, now_ns)
        self._tick_ns = self._sweep_ns = now_ns
        self._forgotten = 0

    # ---- adding and removing

    def add_probe(
        self, location: str, *, pids: Sequence[int], tid: int = 0, budget: int = DEFAULT_BUDGET, children: bool = True
    ) -> int:
        """Measure every call of a function; returns the probe's number.

        Parameters
        ----------
        location
            See :class:`osdetectord.probing.location.Location`.
        pids
            Processes of the daemon's namespace; with 0 in it, every process that maps the file.
        tid
            Only this thread; 0 for all.
        budget
            Calls per second, over all processes, at which the probe is detached.
        children
            Whether children that are started later are probed too.

        Raises
        ------
        OsdetectorError
            Where it can be attached in none of the processes: the reason for the first of them.
        """
        return self._add(Location.parse(location), None, pids, tid, budget, children)

    def add_trace(
        self,
        signature: str,
        *,
        pids: Sequence[int],
        entry: str | None = None,
        returned: str | None = None,
        tid: int = 0,
        budget: int = DEFAULT_BUDGET,
        children: bool = True,
    ) -> int:
        """Print a line at entry or return of a function; returns the trace's number.

        ``signature`` is a typed signature; or, where ``entry`` or ``returned`` is a message, a location.  See
        :mod:`osdetectord.probing.signature`; for the rest, :meth:`add_probe`.
        """
        if entry or returned:
            return self._add(Location.parse(signature), parse_formats(entry, returned), pids, tid, budget, children)
        location, form = parse_trace(signature)
        return self._add(location, form, pids, tid, budget, children)

    def _add(
        self, location: Location, form: TraceForm | None, pids: Sequence[int], tid: int, budget: int, children: bool
    ) -> int:
        if not self._uprobes.way:
            raise Unsupported(f"functions of user programs can't be probed here: {self._uprobes.why}")
        if not pids:
            raise InvalidArgument("no process to probe")
        if budget < 1:
            raise InvalidArgument(f"budget {budget}, expected at least one call per second")
        if tid and not any(os.path.exists(f"/proc/{pid}/task/{tid}") for pid in pids):
            raise NoSuchProcess(f"no thread {tid} of process {', '.join(map(str, pids))}")
        with self._lock:
            if len(self._probes) >= MAX_PROBES:
                raise TooManyTargets(f"{MAX_PROBES} probes and traces are there already")
            probe = _Probe(self._next_number, location, form, tid, budget, children, set(pids), window_ns=self._tick_ns)
            first: OsdetectorError | None = None
            for pid in pids:
                try:
                    self._attach(probe, pid)
                except OsdetectorError as error:
                    first = first or error
                    probe.troubles[pid] = _Trouble(str(error), self._tick_ns + RETRY_NS)
            if not probe.attached and first is not None:
                raise first
            self._next_number += 1
            self._probes[probe.number] = probe
            return probe.number

    def add_process(self, number: int, pid: int) -> None:
        """Probe one more process, for example a new one of a service; raises our errors."""
        with self._lock:
            probe = self._probe(number)
            if pid in probe.pids:
                return
            self._attach(probe, pid)
            probe.pids.add(pid)

    def remove(self, number: int) -> None:
        """Detach; raises NoSuchTarget."""
        with self._lock:
            self._detach_all(self._probe(number))
            del self._probes[number]

    def _probe(self, number: int) -> _Probe:
        probe = self._probes.get(number)
        if probe is None:
            raise NoSuchTarget(f"no probe or trace {number}")
        return probe

    def close(self) -> None:
        """Detach everything."""
        with self._lock:
            for number in list(self._probes):
                self.remove(number)

    # ---- attaching

    def _attach(self, probe: _Probe, pid: int) -> None:
        place = mapping.find(probe.location, pid)
        try:
            self._attach_at(probe, pid, place)
        finally:
            place.close()
        probe.troubles.pop(pid, None)

    def _attach_at(self, probe: _Probe, pid: int, place: mapping.Place) -> None:
        if len(self._owner) >= MAX_ATTACHMENTS:
            raise TooManyTargets(f"probes are attached at {MAX_ATTACHMENTS} places already")
        rule, returns = _rule(probe, place)
        cookie = self._next_cookie
        self._next_cookie += 1
        rules = self._uprobes.maps["probe_rules"]
        links: list[int] = []
        key = cookie.to_bytes(8, "little")
        rules.set(key, rule.tobytes())
        try:
            if self._uprobes.rings is not None:
                self._uprobes.rings.open()
            # a return without its entry is passed over, an entry without its return would not be
            if returns:
                links += self._uprobes.attach("probe_return", place.path, place.offset, cookie, pid, True)
            links += self._uprobes.attach("probe_enter", place.path, place.offset, cookie, pid, False)
        except OSError as error:
            _close(links)
            rules.delete(np.array([cookie], dtype=np.uint64))
            self._close_unused_rings()
            raise _refused(error, probe, place, pid) from None
        probe.attached[pid] = _Attachment(cookie, place, tuple(links))
        self._owner[cookie] = probe

    def _detach(self, probe: _Probe, pid: int) -> None:
        attachment = probe.attached.pop(pid, None)
        if attachment is None:
            return
        # no rule, no work: whatever is still under way does nothing
        self._uprobes.maps["probe_rules"].delete(np.array([attachment.cookie], dtype=np.uint64))
        _close(attachment.links)
        self._retired.append(attachment.cookie)

    def _detach_all(self, probe: _Probe) -> None:
        for pid in list(probe.attached):
            self._detach(probe, pid)

    # ---- following

    def tick(
        self,
        now_ns: int,
        started: Sequence[ProcessInfo] = (),
        execed: Sequence[ProcessInfo] = (),
        exited: Sequence[Process] = (),
    ) -> ProbeTick:
        """Follow what the collectors found, and tell what happened since the tick before.

        Parameters
        ----------
        now_ns
            CLOCK_MONOTONIC.
        started, execed, exited
            Processes that were born, executed a program, or ended.
        """
        with self._lock:
            for info in started:
                for probe in self._probes.values():
                    if probe.children and info.parent_pid and info.parent_pid in probe.pids:
                        probe.pids.add(info.process.pid)
                        self._follow(probe, info.process.pid, now_ns)
            for info in execed:
                for probe in self._probes.values():
                    if info.process.pid in probe.pids:
                        self._follow(probe, info.process.pid, now_ns)
            self._retry(now_ns)
            calls, lines = self.drain(now_ns)
            totals = self._read_totals(now_ns)
            detached = self._enforce(now_ns)
            for pid in {*(process.pid for process in exited), *self._ended(now_ns)}:
                for probe in self._probes.values():
                    probe.pids.discard(pid)
                    probe.troubles.pop(pid, None)
                    self._detach(probe, pid)
            self._tick_ns = now_ns
            return ProbeTick(calls, lines, totals, detached)

    def _retry(self, now_ns: int) -> None:
        for probe in self._probes.values():
            for pid in [pid for pid, trouble in probe.troubles.items() if trouble.again_ns <= now_ns]:
                self._follow(probe, pid, now_ns)

    def _ended(self, now_ns: int) -> set[int]:
        """Processes that ended though the collectors, which may not watch them, did not tell."""
        if now_ns - self._sweep_ns < SWEEP_NS:
            return set()
        self._sweep_ns = now_ns
        known = {pid for probe in self._probes.values() for pid in probe.pids if pid}
        return {pid for pid in known if not os.path.exists(f"/proc/{pid}")}

    def _follow(self, probe: _Probe, pid: int, now_ns: int) -> None:
        """Attach to a process that is new, or that has executed a program."""
        if probe.over_budget or 0 in probe.pids:
            return
        try:
            place = mapping.find(probe.location, pid)
        except OsdetectorError as error:
            self._detach(probe, pid)
            self._trouble(probe, pid, error, now_ns)
            return
        try:
            before = probe.attached.get(pid)
            # a link is to a process and a file: over the execution of the same file it stays
            if before and (before.place.inode, before.place.offset) == (place.inode, place.offset):
                return
            self._detach(probe, pid)
            self._attach_at(probe, pid, place)
            probe.troubles.pop(pid, None)
        except OsdetectorError as error:
            self._trouble(probe, pid, error, now_ns)
        finally:
            place.close()

    def _trouble(self, probe: _Probe, pid: int, error: OsdetectorError, now_ns: int) -> None:
        if isinstance(error, NoSuchProcess):
            probe.pids.discard(pid)
            probe.troubles.pop(pid, None)
            return
        before = probe.troubles.get(pid)
        delay_ns = min(2 * before.delay_ns, RETRY_MAX_NS) if before else RETRY_NS
        probe.troubles[pid] = _Trouble(str(error), now_ns + delay_ns, delay_ns)

    # ---- reading

    def drain(self, now_ns: int) -> tuple[NDArray[Any], tuple[TraceLine, ...]]:
        """Calls and lines since the last time; more often than once a second keeps the rings from running over."""
        with self._lock:
            rings = self._uprobes.rings
            if rings is None:
                return np.zeros(0, dtype=CALL), ()
            calls = self._calls(rings.read("probe_calls"))
            lines: list[TraceLine] = []
            for event in uprobe.events_of(rings.read("probe_events")):
                probe = self._owner.get(event.cookie)
                if probe is not None and probe.form is not None:
                    lines += self._lines(probe, probe.form, event)
            lines += self._overdue(now_ns)
            lines.sort(key=lambda line: line.time_ns)
            return calls, tuple(lines)

    def _calls(self, records: NDArray[Any]) -> NDArray[Any]:
        numbers = {cookie: probe.number for cookie, probe in self._owner.items() if probe.form is None}
        cookies, at = np.unique(records["cookie"], return_inverse=True)
        known = np.array([numbers.get(int(cookie), 0) for cookie in cookies], dtype=np.uint32)
        number = known[at] if len(records) else np.zeros(0, dtype=np.uint32)
        records, number = records[number != 0], number[number != 0]
        out = np.zeros(len(records), dtype=CALL)
        out["number"] = number
        for name in (
            *("pid", "tid", "depth", "entered_ns", "returned_ns", "user_ns", "system_ns"),
            *("voluntary", "involuntary", "result"),
        ):
            out[name] = records[name]
        flags = records["flags"]
        out["cpu_ns"] = np.where(flags & uprobe.CPU_UNKNOWN, np.nan, records["cpu_ns"])
        out["cpu_exact"] = flags & uprobe.CPU_EXACT != 0
        for name in ("allocated", "allocations"):
            out[name] = np.where(flags & uprobe.ALLOCATED_KNOWN, records[name], np.nan)
        return out

    def _lines(self, probe: _Probe, form: TraceForm, event: Event) -> list[TraceLine]:
        """Lines that an event completes.

        Strings are read at entry, because the function may change them; what was not in memory then is read
        again at the return.
        """
        key = (event.cookie, event.tid, event.entered_ns)
        if not event.returned:
            missing = any(text.data is None and event.values[at] for at, text in event.texts.items())
            attachment_returns = not _is_go(probe, event.cookie)
            held = form.entry is not None and missing and attachment_returns
            out = [] if held or form.entry is None else [self._line(probe, form, event, event.texts)]
            if held or (form.returned is not None and event.texts):
                self._waiting[key] = (event, held)
            return out
        entry, held = self._waiting.pop(key, (None, False))
        texts = dict(event.texts)
        if entry is not None:
            texts |= {at: text for at, text in entry.texts.items() if text.data is not None}
        out = []
        if held and entry is not None:
            out.append(self._line(probe, form, entry, texts))
        if form.returned is not None:
            out.append(self._line(probe, form, event, texts))
        return out

    def _overdue(self, now_ns: int) -> list[TraceLine]:
        """Lines of entries that have waited long enough, and what there is no room to remember."""
        out = []
        for key, (event, held) in list(self._waiting.items()):
            late = event.time_ns + PATIENCE_NS < now_ns
            if not late and len(self._waiting) <= MAX_WAITING:
                break
            if not held and len(self._waiting) <= MAX_WAITING:
                continue
            del self._waiting[key]
            probe = self._owner.get(event.cookie)
            if probe is None or probe.form is None:
                continue
            if held:
                out.append(self._line(probe, probe.form, event, event.texts))
                if probe.form.returned is not None:
                    self._waiting[key] = (event, False)
            else:
                self._forgotten += 1
        return out

    def _line(self, probe: _Probe, form: TraceForm, event: Event, texts: Mapping[int, Text]) -> TraceLine:
        probe.lines += 1
        return TraceLine(
            probe.number, event.pid, event.tid, event.time_ns, event.returned, event_line(form, event, texts)
        )

    def _read_totals(self, now_ns: int) -> tuple[ProbeTotal, ...]:
        if not self._owner:
            return ()
        interval_s = (now_ns - self._tick_ns) * 1e-9
        keys, sums = self._uprobes.maps["probe_sums"].read()
        out = []
        for key, value in zip(keys, sums, strict=True):
            cookie, pid = int(key["cookie"]), int(key["pid"])
            probe = self._owner.get(cookie)
            if probe is None:
                continue
            last = self._last.get((cookie, pid))
            since = {name: int(value[name]) - (0 if last is None else int(last[name])) for name in COUNTED}
            bucket = value["bucket"] if last is None else value["bucket"] - last["bucket"]
            self._last[cookie, pid] = value
            probe.entries += since["entries"]
            probe.calls += since["calls"]
            probe.total_ns += since["total_ns"]
            nothing_new = cookie in self._retired and not since["entries"] and not since["calls"]
            if probe.form is None and not nothing_new:
                out.append(
                    ProbeTotal(
                        number=probe.number,
                        pid=pid,
                        entries=since["entries"],
                        calls=since["calls"],
                        interval_s=interval_s,
                        total_ns=since["total_ns"],
                        cpu_ns=since["cpu_ns"],
                        bucket=bucket,
                        longest_ns=int(value["longest_ns"]),
                    )
                )
        self._forget_retired(keys)
        return tuple(out)

    def _forget_retired(self, keys: NDArray[Any]) -> None:
        """What is detached has now been read to its end."""
        if not self._retired:
            return
        retired = np.array(self._retired, dtype=np.uint64)
        self._uprobes.maps["probe_sums"].delete(keys[np.isin(keys["cookie"], retired)])
        gone = set(self._retired)
        self._last = {key: value for key, value in self._last.items() if key[0] not in gone}
        self._waiting = OrderedDict((key, held) for key, held in self._waiting.items() if key[0] not in gone)
        for cookie in self._retired:
            del self._owner[cookie]
        self._retired = []
        self._close_unused_rings()

    def _close_unused_rings(self) -> None:
        if not self._owner and self._uprobes.rings is not None:
            self._uprobes.rings.close()

    def _enforce(self, now_ns: int) -> tuple[Detached, ...]:
        """Detach what was called too often: judged over a second, or at once where a second's worth is spent."""
        out = []
        for probe in self._probes.values():
            elapsed = now_ns - probe.window_ns
            count = probe.entries - probe.window_entries
            seconds = max(elapsed, WINDOW_NS) * 1e-9
            if probe.attached and count > probe.budget * seconds:
                probe.over_budget = True
                self._detach_all(probe)
                rate = count / (elapsed * 1e-9) if elapsed > 0 else float(count)
                out.append(Detached(probe.number, str(probe.location), rate, probe.budget))
            if elapsed >= WINDOW_NS:
                probe.window_ns, probe.window_entries = now_ns, probe.entries
        return tuple(out)

    # ---- views

    def list(self) -> tuple[ProbeView | TraceView, ...]:
        """All probes and traces, by number."""
        with self._lock:
            return tuple(_view(probe) for probe in self._probes.values())

    def view(self, number: int) -> ProbeView | TraceView:
        """One of them; raises NoSuchTarget."""
        with self._lock:
            return _view(self._probe(number))

    def hook_view(self) -> HookView:
        """How functions of user programs are probed here, and why no better way works."""
        return self._uprobes.hook_view()

    def lost(self) -> dict[str, int]:
        """What was lost since the load, by cause."""
        with self._lock:
            causes = [name for name in uprobe.LOST if name not in uprobe.LOST_OF_ALLOCATIONS]
            return {**self._uprobes.lost(causes), "probe_forgotten": self._forgotten}


COUNTED = ("entries", "calls", "total_ns", "cpu_ns")


def _is_go(probe: _Probe, cookie: int) -> bool:
    return any(held.cookie == cookie and held.place.is_go for held in probe.attached.values())


def _rule(probe: _Probe, place: mapping.Place) -> tuple[NDArray[Any], bool]:
    """What the programs do for a probe at a place, and whether they see returns there."""
    rule = np.zeros(1, dtype=uprobe.RULE)
    rule["tid"] = probe.tid
    if probe.form is None:
        if place.is_go:
            raise Unsupported(_go(place))
        rule["flags"] = uprobe.RECORD_CALLS | uprobe.HAS_RETURN
        return rule, True
    form = probe.form
    texts = form.entry_texts()
    flags = 0
    if form.entry is not None or texts:
        flags |= uprobe.TRACE_ENTRY
    if form.returned is not None:
        if place.is_go:
            raise Unsupported(_go(place))
        flags |= uprobe.TRACE_RETURN
    elif texts and not place.is_go:
        flags |= uprobe.TRACE_RETRY
    returns = bool(flags & (uprobe.TRACE_RETURN | uprobe.TRACE_RETRY))
    rule["flags"] = flags | (uprobe.HAS_RETURN if returns else 0)
    rule["entry_texts"] = sum(1 << position for position in texts)
    rule["return_texts"] = 1 << RESULT if form.result_is_text() else 0
    return rule, returns


def _go(place: mapping.Place) -> str:
    return (
        f"{place.shown} was made by the Go compiler, which moves stacks: a probe at a return would crash it; "
        "its entries can be traced"
    )


def _refused(error: OSError, probe: _Probe, place: mapping.Place, pid: int) -> OsdetectorError:
    where = f"{place.shown}:{place.symbol}"
    if error.errno == errno.ESRCH:
        return NoSuchProcess(f"no process {pid}")
    if error.errno in (errno.EINVAL, errno.ENOTSUP, errno.EILSEQ):
        return InvalidArgument(f"{where} can't be probed: there is no instruction that can be ({probe.location})")
    return Unsupported(f"{where} can't be probed: {(error.strerror or '').lower()}")


def _close(links: Sequence[int]) -> None:
    for fd in links:
        os.close(fd)


def _view(probe: _Probe) -> ProbeView | TraceView:
    places = [
        PlaceView(pid, held.place.shown, held.place.symbol, held.place.address, "")
        for pid, held in probe.attached.items()
    ]
    places += [PlaceView(pid, "", "", 0, trouble.why) for pid, trouble in probe.troubles.items()]
    state = "over budget" if probe.over_budget else "on" if probe.attached else "waiting"
    shared = (
        *(probe.number, str(probe.location), state, probe.budget, probe.tid, probe.children),
        *(tuple(sorted(places, key=lambda view: view.pid)), probe.entries, probe.calls, probe.total_ns),
    )
    return ProbeView(*shared) if probe.form is None else TraceView(*shared, probe.lines)
