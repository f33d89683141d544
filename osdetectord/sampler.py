"""One tick of the daemon: who was born, executed and died, and a row of samples for each who lives."""

from __future__ import annotations

import errno
import os
import resource
import threading
from collections import OrderedDict
from collections.abc import Collection, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord import proc
from osdetectord.bpf.kernel import MAX_THREADS, Kernel, Sizes
from osdetectord.bpf.uprobe import Uprobes
from osdetectord.collector import Tables
from osdetectord.collectors import layout
from osdetectord.collectors.block import Latency
from osdetectord.collectors.cpu import INVOLUNTARY, OFF_CPU, ON_CPU, RUN_QUEUE, VOLUNTARY
from osdetectord.collectors.registry import COLLECTORS, OPTIONAL
from osdetectord.collectors.syscall_log import SMALLEST_PAGES, Logged
from osdetectord.collectors.syscalls import CLASS_TIME, SyscallCollector, SyscallTotal
from osdetectord.core import HookView
from osdetectord.errors import InvalidArgument, LoadError, NoSuchProcess, NoSuchTarget, TooManyTargets, Unsupported
from osdetectord.metric import Kind, Metric
from osdetectord.polling import UNKNOWN_CODE, Polling
from osdetectord.process import Process, ProcessInfo
from osdetectord.sample import Frame
from osdetectord.series import Rates
from osdetectord.top import Top
from osdetectord.trouble import Troubles

REMEMBERED = 4096
"""Ended processes whose series children may still name as their parent's."""

PATIENCE_TICKS = 5
"""How long an ended process is waited for whose threads never seem to end."""

SWEEP_TICKS = 60

# by rank of the cpu collector's hook, where /proc serves it
CPU_OF_RANK: dict[int, tuple[Metric, ...]] = {
    1: (ON_CPU, RUN_QUEUE, VOLUNTARY, INVOLUNTARY),
    2: (ON_CPU,),
    3: (ON_CPU,),
}
CPU_SOURCES = {"bcc": 0, "stat": 1, "top": 3}
"""What may be asked for as the source of CPU time -> rank of the cpu collector's hook."""

PROC_HOOKS = (
    HookView("memory", "/proc/PID/stat, statm", 0, ""),
    HookView("files", "/proc/PID/fd", 0, ""),
    HookView("io", "/proc/PID/io", 0, ""),
)

NOT_CONFIGURED = "off in the configuration"

# which readings of /proc an ended process's own totals replace
ENDED = {
    proc.USER.name: ("utime_ns", 1e-9),
    proc.SYSTEM.name: ("stime_ns", 1e-9),
    proc.MINOR_FAULTS.name: ("min_flt", 1.0),
    proc.MAJOR_FAULTS.name: ("maj_flt", 1.0),
    proc.READ_CHARS.name: ("rchar", 1.0),
    proc.WRITE_CHARS.name: ("wchar", 1.0),
    proc.READ_BYTES.name: ("read_bytes", 1.0),
    proc.WRITE_BYTES.name: ("write_bytes", 1.0),
}


def _is_off(collector: str, wanted: Collection[str] | None) -> bool:
    return collector in OPTIONAL and wanted is not None and collector not in wanted


@dataclass(frozen=True, slots=True)
class ProcessSeries:
    """A watched process and the number of its series.

    Parameters
    ----------
    series
        See :class:`osdetectord.sample.Frame`.
    info
        The process as it was when it was found, or when it last executed a program.
    parent_series
        Series of the parent, where that is, or was, watched too.
    root_series
        Series of the ancestor from which it was followed, its own if none.
    """

    series: int
    info: ProcessInfo
    parent_series: int | None
    root_series: int


@dataclass(frozen=True, slots=True)
class Exited:
    """The end of a watched process.

    Parameters
    ----------
    series, process, comm
        Who.
    code
        Exit status in ``[0, 255]``; -1 where it is not known.
    signal
        The signal that ended it, 0 for none.
    core
        Whether it left a core.
    totals
        By name of each counter: its total since the process was watched, in the metric's unit.
    """

    series: int
    process: Process
    comm: str
    code: int
    signal: int
    core: bool
    totals: dict[str, float]


@dataclass(frozen=True, slots=True)
class Tick:
    """What one tick found.

    ``readings`` are the totals and levels behind the frame's samples, in the same rows and columns;
    ``strangers`` are pids of processes that executed a program and are not watched.
    """

    frame: Frame
    readings: NDArray[np.float64]
    started: tuple[ProcessSeries, ...]
    execed: tuple[ProcessSeries, ...]
    exited: tuple[Exited, ...]
    strangers: tuple[int, ...]


@dataclass(slots=True)
class _Entry:
    about: ProcessSeries
    serial: int
    from_birth: bool
    execs: int
    files: proc.Files | None = None
    top: Any = None
    base: NDArray[np.float64] | None = None
    last: NDArray[np.float64] | None = None
    stuck: int = 0


class Sampler:
    """Watches processes and their children, and samples them.

    ``tick`` and ``syscalls`` are called by one thread; ``add`` and ``remove`` may be called by another.

    Parameters
    ----------
    kernel
        Watches and counts.
    max_processes
        Bound on the processes that are watched at once.
    top
        Reads CPU times where they are asked of psutil.
    collectors
        Names of those that are wanted; None means all.
    """

    def __init__(
        self,
        kernel: Kernel | Polling,
        max_processes: int,
        top: Top | None = None,
        collectors: Collection[str] | None = None,
    ) -> None:
        self._kernel, self._top = kernel, top
        self._max = max_processes
        self._lock = threading.RLock()
        self._fds_told = proc.fd_count_is_told()
        self._entries: dict[int, _Entry] = {}
        self._by_series: dict[int, _Entry] = {}
        self._roots: OrderedDict[int, tuple[int, int]] = OrderedDict()
        self._next_series = 1
        self._found: tuple[ProcessSeries, ...] = ()
        self._ticks = 0
        self._unopened = 0
        self._unread = Troubles("what /proc tells of %s can't be read", "what /proc tells of %s is read again")
        self._last_ns = 0
        self._collectors = [c for c in COLLECTORS if self._by_kernel(c.name)]
        served = tuple(metric for collector in self._collectors for metric in collector.metrics)
        self._proc_cpu = () if self._by_kernel("cpu") else CPU_OF_RANK[kernel.ranks["cpu"][0]]
        # functions of user programs: programs and tables, of no way where the kernel part is not loaded
        self.uprobes = Uprobes("", kernel.ranks["lifecycle"][1]) if isinstance(kernel, Polling) else kernel.uprobes
        views = [
            HookView(view.collector, "", 0, NOT_CONFIGURED) if _is_off(view.collector, collectors) else view
            for view in kernel.hook_views()
        ]
        self.hooks: tuple[HookView, ...] = (*views, *PROC_HOOKS)
        self.metrics: tuple[Metric, ...] = (*served, *self._proc_cpu, *proc.METRICS)
        self._first_proc = len(served)
        self._rates = Rates(self.metrics, differences=(OFF_CPU, *CLASS_TIME))
        self._counters = tuple((i, m.name) for i, m in enumerate(self.metrics) if m.kind is Kind.COUNTER)

    @classmethod
    def open(
        cls,
        *,
        max_processes: int = 4096,
        max_threads: int = MAX_THREADS,
        log_pages: int = SMALLEST_PAGES,
        collectors: Collection[str] | None = None,
        cpu: str = "bcc",
    ) -> Sampler:
        """Load the kernel part; what can't be served by it is served by /proc, and ``hooks`` say why.

        ``log_pages`` is the size of the ring for :meth:`log_syscalls`; ``collectors`` are the names of those that
        are wanted, None means all; ``cpu`` is one of :data:`CPU_SOURCES`.

        Raises
        ------
        ConfigError
            If ``cpu`` asks for psutil, and it is not installed.
        LoadError
            If nothing can serve: /proc is not that of this process's pid namespace.
        """
        top = Top() if cpu == "top" else None
        if cpu != "bcc":
            collectors = {c.name for c in COLLECTORS if collectors is None or c.name in collectors} - {"cpu"}
        try:
            own = os.readlink("/proc/self")
        except OSError as error:
            raise LoadError(f"no /proc: {error.strerror}") from None
        if own != str(os.getpid()):
            raise LoadError(f"/proc is of another pid namespace: it shows this process as {own}, not {os.getpid()}")
        # each watched process keeps a few files open
        _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
        try:
            sizes = Sizes.of(max_processes, max_threads, log_pages=log_pages)
            sizes = replace(sizes, packets=collectors is None or "packets" in collectors)
            kernel: Kernel | Polling = Kernel(sizes, collectors=collectors)
        except LoadError as error:
            kernel = Polling(str(error))
        else:
            rank, why = kernel.ranks["lifecycle"]
            if rank != 0:
                # without it nobody tells when a thread ends, and its id comes to mean another
                kernel.close()
                kernel = Polling(why)
        if cpu != "bcc":
            kernel.ranks = {**kernel.ranks, "cpu": (CPU_SOURCES[cpu], f"the configuration says cpu: {cpu}")}
        return cls(kernel, max_processes, top, collectors)

    def _by_kernel(self, collector: str) -> bool:
        rank = self._kernel.ranks[collector][0]
        hooks = next(c.hooks for c in COLLECTORS if c.name == collector)
        return rank >= 0 and bool(hooks[rank].attachments)

    def add(self, pid: int, follow_children: bool = True) -> ProcessSeries:
        """Watch a process with all its threads and, if asked, its children, present and future.

        A process that is watched already keeps its series, and its children are followed if anybody asked for that.
        Children that it has are told by the next tick.

        Raises
        ------
        NoSuchProcess
            If there is no such process, or it ended during the call.
        InvalidArgument
            If it is a thread.
        TooManyTargets
            If as many processes as there is room for are watched.
        """
        if pid <= 0:
            raise InvalidArgument(f"{pid} is not a process id")
        with self._lock:
            process = proc.identify(pid)
            for entry in self._entries.values():
                if entry.about.info.process == process:
                    row = self._kernel.process(entry.serial)
                    if follow_children and row is not None and not row["flags"] & layout.FOLLOW:
                        self._kernel.watch(pid, follow=True)
                    return entry.about
            if len(self._entries) >= self._max:
                raise TooManyTargets(f"{len(self._entries)} processes are watched, the most there is room for")
            lost = self._kernel.lost()
            serial = self._kernel.watch(pid, follow_children)
            if serial is None:
                if self._kernel.lost() != lost:
                    raise TooManyTargets(f"the kernel's tables have no room for process {pid}")
                raise NoSuchProcess(f"no process {pid}")
            try:
                info = proc.info(process)
            except NoSuchProcess:
                self._kernel.forget(np.array([serial], dtype=np.uint64), threads=True)
                raise
            row = self._kernel.process(serial)
            if row is None:
                raise NoSuchProcess(f"no process {pid}")
            if row["parent"]:
                # it was followed since the last tick, as may have been those between it and its root
                self._found += self._start(*self._processes(self._kernel.snapshot()))
                self._found = tuple(about for about in self._found if about.info.process != process)
            known = self._entries.get(serial) or self._new_entry(serial, info, row)
            return known.about

    def _new_entry(self, serial: int, info: ProcessInfo, row: Any) -> _Entry:
        series = self._next_series
        self._next_series += 1
        parent_series, root = self._roots.get(int(row["parent"]), (None, series))
        born = bool(row["flags"] & layout.BORN)
        entry = _Entry(ProcessSeries(series, info, parent_series, root), serial, born, int(row["execs"]))
        self._entries[serial] = entry
        self._by_series[series] = entry
        self._roots[serial] = (series, root)
        while len(self._roots) > len(self._entries) + REMEMBERED:
            self._roots.popitem(last=False)
        return entry

    def _open_files(self, entry: _Entry) -> None:
        try:
            if self._top is not None:
                entry.top = self._top.open(entry.about.info.process.pid)
            entry.files = proc.Files(entry.about.info.process, self._fds_told)
        except NoSuchProcess:
            pass
        except OSError as error:
            if error.errno not in (errno.EMFILE, errno.ENFILE):
                raise
            self._unopened += 1

    def remove(self, series: int) -> None:
        """Watch a process no longer; its children stay watched.

        Raises
        ------
        NoSuchTarget
            If there is no such series, or its process has ended.
        """
        with self._lock:
            if series not in self._by_series:
                raise NoSuchTarget(f"no series {series}")
            self.remove_all([series])

    def remove_all(self, series: Collection[int]) -> None:
        """The same for many at once, at hardly more than the price of one; those that have ended are left out."""
        with self._lock:
            entries = [self._by_series[one] for one in series if one in self._by_series]
            if not entries:
                return
            self._kernel.forget(np.array([entry.serial for entry in entries], dtype=np.uint64), threads=True)
            for entry in entries:
                self._drop(entry)

    def _drop(self, entry: _Entry) -> None:
        if entry.files is not None:
            entry.files.close()
        self._entries.pop(entry.serial, None)
        self._by_series.pop(entry.about.series, None)

    def report_strangers(self, on: bool) -> None:
        """Whether ticks tell of processes that execute a program and are not watched."""
        with self._lock:
            self._kernel.report_strangers(on)

    def tick(self, now_ns: int) -> Tick:
        """Look at everything once.

        Parameters
        ----------
        now_ns
            CLOCK_MONOTONIC of the grid point that this tick is for.
        """
        with self._lock:
            strangers = tuple(dict.fromkeys(int(pid) for pid in self._kernel.events()["pid"]))
            tables = self._kernel.snapshot()
            serials, processes = self._processes(tables)
            # told by the next tick where this one fails
            self._found += self._start(serials, processes)
            entries = [self._entries.get(int(serial)) for serial in serials]
            readings = self._readings(tables, serials, processes, entries)
            alive = np.array(
                [
                    e is not None and not flags & layout.EXITED
                    for e, flags in zip(entries, processes["flags"], strict=True)
                ],
                dtype=bool,
            )
            series = np.array([e.about.series if e else 0 for e in entries], dtype=np.uint64)[alive]
            interval_s = (tables.now_ns - self._last_ns) * 1e-9 if self._last_ns else 0.0
            values = self._rates.sample(tables.now_ns, series, readings[alive])
            self._last_ns = tables.now_ns
            # these are told only once, and so when all that may fail is done
            execed = self._execute(serials, processes)
            ended, exited = self._end(serials, processes, entries, readings)
            if len(ended):
                self._kernel.forget(ended, threads=False)
            self._ticks += 1
            if self._ticks % SWEEP_TICKS == 0:
                self._kernel.sweep(serials)
            frame = Frame(now_ns, interval_s, series, self.metrics, values)
            started, self._found = self._found, ()
            return Tick(frame, readings[alive], started, execed, exited, strangers)

    @staticmethod
    def _processes(tables: Tables) -> tuple[NDArray[np.uint64], NDArray[Any]]:
        serials, processes = tables.read("processes")
        order = np.argsort(serials)
        return serials[order], processes[order]

    def _start(self, serials: NDArray[np.uint64], processes: NDArray[Any]) -> tuple[ProcessSeries, ...]:
        known = np.fromiter(self._entries, dtype=np.uint64, count=len(self._entries))
        fresh = np.flatnonzero(~np.isin(serials, known))
        out = []
        # a parent starts before its child, and so gets its series first
        for index in fresh[np.argsort(processes["start_ns"][fresh])]:
            row = processes[index]
            if row["flags"] & layout.REMOVED:
                continue
            process = Process(int(row["pid"]), int(row["start_ns"]) // proc.START_TICK_NS)
            ended = bool(row["flags"] & layout.EXITED)
            comm, uid = os.fsdecode(bytes(row["comm"])), int(row["uid"])
            path = "" if ended else proc.exe(process.pid)
            info = ProcessInfo(process, int(row["parent_pid"]), comm, path, uid)
            entry = self._new_entry(int(serials[index]), info, row)
            out.append(entry.about)
        return tuple(out)

    def _execute(self, serials: NDArray[np.uint64], processes: NDArray[Any]) -> tuple[ProcessSeries, ...]:
        out = []
        for serial, row in zip(serials, processes, strict=True):
            entry = self._entries.get(int(serial))
            if entry is None or entry.execs == row["execs"]:
                continue
            entry.execs = int(row["execs"])
            info = entry.about.info
            path = "" if row["flags"] & layout.EXITED else proc.exe(info.process.pid)
            info = replace(info, comm=os.fsdecode(bytes(row["comm"])), exe=path or info.exe, uid=int(row["uid"]))
            entry.about = replace(entry.about, info=info)
            out.append(entry.about)
        return tuple(out)

    def _readings(
        self,
        tables: Tables,
        serials: NDArray[np.uint64],
        processes: NDArray[Any],
        entries: Sequence[_Entry | None],
    ) -> NDArray[np.float64]:
        blocks = [collector.read(tables, serials) for collector in self._collectors]
        rest = np.full((len(serials), len(self.metrics) - self._first_proc), np.nan)
        ended = (processes["flags"] & layout.EXITED) != 0
        for index, entry in enumerate(entries):
            if entry is None:
                continue
            info = entry.about.info
            with self._unread.apart(f"process {info.process.pid} ({info.comm})"):
                # one that came and went between two ticks has its totals from the kernel
                if entry.files is None and entry.stuck == 0 and not (ended[index] and entry.from_birth):
                    self._open_files(entry)
                if entry.files is not None:
                    try:
                        rest[index] = self._proc_row(entry, entry.files)
                    except NoSuchProcess:
                        entry.files.close()
                        entry.files = None
        out = np.hstack((*blocks, rest))
        for index, entry in enumerate(entries):
            if entry is not None:
                if entry.base is None:
                    entry.base = np.zeros(out.shape[1])
                    if not entry.from_birth:
                        entry.base[self._first_proc :] = np.nan_to_num(out[index, self._first_proc :])
                if entry.files is not None or entry.last is None:
                    entry.last = out[index]
        return out

    def _proc_row(self, entry: _Entry, files: proc.Files) -> list[float]:
        values = files.read()
        if not self._proc_cpu:
            return values
        if self._top is not None:
            return [self._top.seconds(entry.top), *values]
        if len(self._proc_cpu) == 1:
            return [values[0] + values[1], *values]
        return [*files.scheduled(), *values]

    def _end(
        self,
        serials: NDArray[np.uint64],
        processes: NDArray[Any],
        entries: Sequence[_Entry | None],
        readings: NDArray[np.float64],
    ) -> tuple[NDArray[np.uint64], tuple[Exited, ...]]:
        ended: list[int] = []
        exited: list[Exited] = []
        for index in np.flatnonzero((processes["flags"] & layout.EXITED != 0) | (processes["threads"] == 0)):
            entry, row = entries[index], processes[index]
            if entry is None:
                continue
            if row["threads"] or not row["flags"] & layout.EXITED:
                entry.stuck += 1
                if entry.stuck < PATIENCE_TICKS or (entry.files is not None and entry.files.alive()):
                    continue
            exited.append(self._exited(entry, row, readings[index]))
            ended.append(int(serials[index]))
            self._drop(entry)
        return np.array(ended, dtype=np.uint64), tuple(exited)

    def _exited(self, entry: _Entry, row: np.void, readings: NDArray[np.float64]) -> Exited:
        base = entry.base if entry.base is not None else np.zeros(len(readings))
        last = entry.last if entry.last is not None else readings
        totals: dict[str, float] = {}
        for column, name in self._counters:
            if column < self._first_proc:
                totals[name] = float(readings[column])
            elif entry.from_birth and name in ENDED:
                field, unit = ENDED[name]
                totals[name] = float(row[field]) * unit
            else:
                totals[name] = float(last[column] - base[column])
        code = int(row["exit_code"])
        known = bool(row["flags"] & layout.EXITED) and code != UNKNOWN_CODE
        return Exited(
            series=entry.about.series,
            process=entry.about.info.process,
            comm=os.fsdecode(bytes(row["comm"])),
            code=code >> 8 & 0xFF if known else -1,
            signal=code & 0x7F if known else 0,
            core=bool(known and code & 0x80),
            totals=totals,
        )

    def syscalls(self, series: int) -> tuple[SyscallTotal, ...]:
        """Every system call of a process since it is watched, most time first; raises NoSuchTarget."""
        with self._lock:
            if series not in self._by_series:
                raise NoSuchTarget(f"no series {series}")
            return self.syscalls_of([series])

    def syscalls_of(self, series: Collection[int]) -> tuple[SyscallTotal, ...]:
        """The same of several processes together; those that have ended are left out."""
        with self._lock:
            serials = [self._by_series[one].serial for one in series if one in self._by_series]
            return SyscallCollector().totals(self._kernel.snapshot(), serials)

    def syscall_totals(self) -> NDArray[Any]:
        """Every system call of every process since it is watched, records of ``collectors.syscalls.EACH``."""
        with self._lock:
            serials = np.array(sorted(self._entries), dtype=np.uint64)
            out = SyscallCollector().each(self._kernel.snapshot(), serials)
            series = np.array([self._entries[serial].about.series for serial in serials.tolist()], dtype=np.uint64)
            out["series"] = series[out["series"].astype(np.intp)]
            return out

    def waits(self, series: int) -> tuple[int, ...]:
        """How often the process waited for a CPU, by power of two microseconds; empty where not known.

        The first number counts waits below 2 us, the next those of 2 to 4 us, and so on; the last all longer ones.
        Raises NoSuchTarget.
        """
        with self._lock:
            entry = self._by_series.get(series)
            if entry is None:
                raise NoSuchTarget(f"no series {series}")
            return self._kernel.waits(entry.serial)

    def block_latency(self, series: int) -> Latency:
        """How long the process's requests to block devices took; empty where not known.  Raises NoSuchTarget."""
        with self._lock:
            entry = self._by_series.get(series)
            if entry is None:
                raise NoSuchTarget(f"no series {series}")
            return Latency.of(self._kernel.block(entry.serial))

    def thread_times(self) -> dict[tuple[int, int], float]:
        """Seconds on a CPU since it is watched of each live thread, by series and thread id.

        Raises
        ------
        Unsupported
            Where the scheduler's events are not seen.
        """
        with self._lock:
            if isinstance(self._kernel, Polling) or not self._by_kernel("cpu"):
                raise Unsupported(f"no times of single threads: {self._kernel.ranks['cpu'][1]}")
            numbers, threads = self._kernel.snapshot().read("threads")
            ns = dict(zip(numbers.tolist(), threads["cpu_ns"].tolist(), strict=True))
            out = {}
            for series, entry in self._by_series.items():
                for tid in proc.threads(entry.about.info.process.pid):
                    # the table has the kernel's own thread ids
                    found = self._kernel.look(tid)
                    if found is not None and found.tid in ns:
                        out[series, tid] = ns[found.tid] * 1e-9
            return out

    def log_syscalls(self, on: bool) -> None:
        """Whether every system call of every watched process is logged, for :meth:`logged_syscalls`.

        Raises
        ------
        Unsupported
            If it can't be.
        """
        with self._lock:
            if isinstance(self._kernel, Polling):
                raise Unsupported(f"system calls can't be logged: {self._kernel.ranks['lifecycle'][1]}")
            try:
                self._kernel.log_syscalls(on)
            except OSError as error:
                raise Unsupported(f"system calls can't be logged: {(error.strerror or str(error)).lower()}") from None

    def logged_syscalls(self) -> Logged:
        """What the log tells since the last call, for one thread that may be another.

        Raises
        ------
        Unsupported
            If it can't be switched on either.
        """
        if isinstance(self._kernel, Polling):
            raise Unsupported(f"system calls can't be logged: {self._kernel.ranks['lifecycle'][1]}")
        return self._kernel.logged_syscalls()

    def lost(self) -> dict[str, int]:
        """What was lost since the start, by cause."""
        with self._lock:
            return {**self._kernel.lost(), "runs": self._kernel.missed_runs(), "files": self._unopened}

    def run_time_ns(self) -> int | None:
        """CPU time of the BPF programs so far, where the kernel counts it (sysctl kernel.bpf_stats_enabled)."""
        with self._lock:
            return self._kernel.run_time_ns()

    def close(self) -> None:
        """Detach everything and forget everybody."""
        with self._lock:
            for entry in list(self._entries.values()):
                self._drop(entry)
            self._kernel.close()
