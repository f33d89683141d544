"""One run of snooping: the process, the signals, their files and detection, from the first tick to the summary."""

from __future__ import annotations

import math
import os
import select
import signal
import time
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

from osdetectord.collectors import syscall_log
from osdetectord.collectors.cpu import OFF_CPU
from osdetectord.collectors.network import TRAFFIC
from osdetectord.detection.settings import Settings
from osdetectord.errors import Unsupported
from osdetectord.metric import Metric
from osdetectord.polling import Polling
from osdetectord.probing.allocations import Allocations
from osdetectord.probing.probes import Probes
from osdetectord.sampler import Sampler
from osdetectord.series import Grid
from osdetectord.snoop.config import SnoopConfig, needs_kernel
from osdetectord.snoop.cpu import StatCpu, SwitchedCpu, ThreadCpu
from osdetectord.snoop.functions import PROBE_COLUMNS, TRACE_COLUMNS, Functions
from osdetectord.snoop.memory import AllocatedMemory, MappedMemory, library_of
from osdetectord.snoop.moment import Moment, Moments, Row, Signal
from osdetectord.snoop.network import Network
from osdetectord.snoop.program import Subject
from osdetectord.snoop.results import Found, Judge, Results, Sheet
from osdetectord.snoop.syscalls import SyscallLog
from osdetectord.snoop.table import CsvFile, Tell
from osdetectord.snoop.top import UNKNOWN, TopCpu

MAX_PROCESSES = 4096
DRAIN_S = 0.1
"""Rings of calls and messages are emptied so often."""
SETTLE_S = 0.02
MOST_SETTLES = 25
"""The end of a process is waited for so often, so long."""
WHOLE = 0.9
"""Rows of a shorter part of an interval are written, but not judged."""


@dataclass(frozen=True, slots=True)
class Summary:
    """What came of it.

    Parameters
    ----------
    status
        Exit status for us.
    how
        How it ended, for people.
    seconds
        How long was collected.
    files
        Each file that was written, and its rows.
    lost
        What was lost, by cause; only what was.
    found
        Anomalies, in their order.
    learned
        Whether any metric file had rows enough to learn from; None without detection.
    """

    status: int
    how: str
    seconds: float
    files: tuple[tuple[Path, int], ...]
    lost: dict[str, int]
    found: tuple[Found, ...]
    learned: bool | None
    unseen: tuple[str, ...] = ()
    """Functions of which no call was seen."""


@dataclass(frozen=True, slots=True)
class _Metrics:
    """A metric file: where its rows come from, and who judges them."""

    signal: Signal
    file: CsvFile
    judge: Judge | None


class Session:
    """Collects from a program's first instruction, or from now on, to the end.

    Parameters
    ----------
    config
        What to collect.
    subject
        Whom; it is let go by :meth:`run`.
    settings
        How to detect.
    tell
        Takes a line for people.

    Raises
    ------
    OsdetectorError
        If anything of what is wanted is impossible; then the program has not run.
    """

    def __init__(self, config: SnoopConfig, subject: Subject, settings: Settings, tell: Tell) -> None:
        self._config, self._subject, self._tell = config, subject, tell
        self._metrics: list[_Metrics] = []
        self._files: list[CsvFile] = []
        self._functions: Functions | None = None
        self._allocated: AllocatedMemory | None = None
        self._log: SyscallLog | None = None
        self._results: Results | None = None
        self._unseen: tuple[str, ...] = ()
        with ExitStack() as closing:
            self._sampler = _sampler(config)
            closing.callback(self._sampler.close)
            signals = self._signals(closing)
            self._moments = Moments(self._sampler.metrics)
            about = self._sampler.add(subject.pid, config.children)
            self._series = about.series
            self._moments.know(about)
            subject.load()
            self._begun_s = time.monotonic()
            first = self._moment()
            self._attach(closing, signals, first)
            closing.callback(self._end_files)
            self._open(signals, settings)
            for source in signals.values():
                source.rows(first)
            self._closing = closing.pop_all()

    # ---- beginning

    def _signals(self, closing: ExitStack) -> dict[str, Signal]:
        """What gives the rows of each metric file, by its key."""
        config, out = self._config, dict[str, Signal]()
        if config.cpu is not None:
            out["snoop_cpu"] = self._cpu(config.cpu.way)
        if config.memory is not None and config.memory.way == "bcc_kernel":
            out["snoop_mem"] = MappedMemory()
        elif config.memory is not None:
            allocations = Allocations(self._sampler)
            closing.callback(allocations.close)
            out["snoop_mem"] = AllocatedMemory(allocations, self._tell)
            self._tell(f"snoop_mem: {allocations.price()}")
        if config.network is not None:
            self._served("snoop_network", TRAFFIC[0])
            out["snoop_network"] = Network()
        return out

    def _cpu(self, way: str) -> Signal:
        threads = self._config.threads
        if way == "top":
            return TopCpu(threads)
        if way == "stat":
            return ThreadCpu(None) if threads else StatCpu()
        self._served("snoop_cpu", OFF_CPU)
        return ThreadCpu(self._sampler) if threads else SwitchedCpu()

    def _served(self, key: str, metric: Metric) -> None:
        if metric not in self._sampler.metrics:
            group = metric.name.partition(".")[0]
            why = "; ".join(hook.why for hook in self._sampler.hooks if hook.collector == group and hook.why)
            raise Unsupported(f"{key} 'bcc' is not possible here: {why or 'no hook serves it'}")

    def _attach(self, closing: ExitStack, signals: dict[str, Signal], first: Moment) -> None:
        """Probe functions, of which a program of ours has run none yet."""
        config, pid = self._config, self._subject.pid
        memory = signals.get("snoop_mem")
        if isinstance(memory, AllocatedMemory):
            self._allocated = memory
            memory.watch(self._series, pid, library_of(pid, self._subject.fresh))
        if config.probes is None and config.trace is None:
            return
        self._functions = Functions(Probes(self._sampler, time.monotonic_ns()), config.threads, self._tell)
        closing.callback(self._functions.close)
        pids = [pid, *(info.process.pid for info in first.alive.values() if info.process.pid != pid)]
        if config.probes is not None:
            self._functions.probe(config.probes, pids, config.children)
        if config.trace is not None:
            self._functions.trace(config.trace, pids, config.children)

    def _open(self, signals: dict[str, Signal], settings: Settings) -> None:
        """Make the files; every one of them has its header before anything runs."""
        config, who = self._config, "SPID" if self._config.threads else "PID"
        paths = config.paths()
        if config.outcome is not None:
            self._results = Results(config.outcome, config.detect_s, self._tell)
        for key, source in signals.items():
            identity = ("TIME", who, *(("COMM",) if source.named else ()))
            file = self._file(paths[key], (*identity, *source.metrics))
            judge = None
            if self._results is not None:
                columns = {source.metrics.index(name): name for name in source.judged}
                judge = self._results.judge(paths[key].stem, columns, identity, settings, config.interval_s)
            self._metrics.append(_Metrics(source, file, judge))
        calls = lines = None
        if config.probes is not None:
            calls = self._file(config.probes.path, (who, *PROBE_COLUMNS[1:]))
        if config.trace is not None:
            lines = self._file(config.trace.path, ("TIME", who, *TRACE_COLUMNS[2:]))
        if self._functions is not None:
            self._functions.write_to(calls, lines)
        if config.syscalls is not None:
            file = self._file(config.syscalls.path, ("TIME", who, "COMM", "ACTION", "SYSCALL_ID", "PARM1"))
            self._log = SyscallLog(self._sampler, file, config.threads, self._tell)

    def _file(self, path: Path, columns: tuple[str, ...]) -> CsvFile:
        file = CsvFile(path, columns, self._tell)
        self._files.append(file)
        return file

    # ---- running

    def run(self) -> Summary:
        """Let the process go, collect until it ends or somebody has had enough, and sum up."""
        reader, writer = os.pipe()
        os.set_blocking(writer, False)
        handled = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
        before = {number: signal.signal(number, lambda *_: None) for number in handled}
        wakeup = signal.set_wakeup_fd(writer, warn_on_full_buffer=False)
        try:
            if self._results is not None:
                self._results.start()
            self._subject.start()
            ended = self._collect(reader)
            seconds = time.monotonic() - self._begun_s
        finally:
            found, lost, files = self._stop()
            signal.set_wakeup_fd(wakeup)
            for number, handler in before.items():
                signal.signal(number, handler)
            os.close(reader)
            os.close(writer)
        status, how = self._subject.ended() if ended else self._subject.left()
        return Summary(
            status=status,
            how=how,
            seconds=seconds,
            files=files,
            lost=lost,
            found=found,
            learned=None if self._results is None else any(judge.learned for judge in self._results.judges),
            unseen=self._unseen,
        )

    def _collect(self, signals: int) -> bool:
        """Tick until the end; returns whether the process has ended."""
        poll = select.poll()
        poll.register(self._subject.descriptor, select.POLLIN)
        poll.register(signals, select.POLLIN)
        grid = Grid(round(self._config.interval_s * 1e9))
        next_ns = grid.next_after(time.monotonic_ns())
        enough_s = math.inf
        while True:
            pause_s = min(next_ns * 1e-9, enough_s) - time.monotonic()
            if self._functions is not None:
                pause_s = min(pause_s, DRAIN_S)
            ready = {fd for fd, _ in poll.poll(max(0.0, pause_s * 1e3))}
            if signals in ready:
                for number in os.read(signals, 64):
                    # who asks twice does not want to wait
                    patience_s = self._subject.interrupt(number) if enough_s == math.inf else 0.0
                    enough_s = min(enough_s, time.monotonic() + patience_s)
            if self._subject.descriptor in ready:
                self._settle()
                return True
            if time.monotonic() >= enough_s:
                self._take(self._moment())
                return False
            if time.monotonic_ns() >= next_ns:
                self._take(self._moment())
                next_ns = grid.next_after(time.monotonic_ns())
            elif self._functions is not None:
                self._functions.drain()

    def _settle(self) -> None:
        """Take the last moments of a process that has ended, until its totals are known."""
        for _ in range(MOST_SETTLES):
            moment = self._moment()
            self._take(moment)
            if self._series in moment.ended:
                return
            time.sleep(SETTLE_S)

    def _moment(self) -> Moment:
        return self._moments.of(self._sampler.tick(time.monotonic_ns()), time.time(), time.monotonic())

    def _take(self, moment: Moment) -> None:
        whole = moment.interval_s >= WHOLE * self._config.interval_s
        for metrics in self._metrics:
            rows = metrics.signal.rows(moment)
            metrics.file.add([_cells(moment.time_s, row, metrics.signal) for row in rows])
            if metrics.judge is not None and self._results is not None and whole:
                alive = tuple(row for row in rows if row.series in moment.alive)
                self._results.add(metrics.judge, Sheet(moment.time_s, time.monotonic_ns(), alive))
        if self._functions is not None:
            self._functions.take(moment)

    # ---- ending

    def _stop(self) -> tuple[tuple[Found, ...], dict[str, int], tuple[tuple[Path, int], ...]]:
        """Write what is left; returns what was found, what was lost, and the files with their rows."""
        if self._log is not None:
            self._log.stop()
        lost = {name: count for name, count in self._sampler.lost().items() if count}
        if self._functions is not None:
            self._functions.drain()
            self._unseen = self._functions.unseen()
            lost |= {name: count for name, count in self._functions.lost().items() if count}
        if self._allocated is not None:
            lost |= {name: count for name, count in self._allocated.lost().items() if count}
        lost |= {f"rows of {file.path}": file.lost for file in self._files if file.lost}
        files = tuple((file.path, file.rows) for file in self._files)
        found = () if self._results is None else self._results.stop()
        self._closing.close()
        return found, lost, files

    def _end_files(self) -> None:
        for file in self._files:
            file.end()
        if self._results is not None:
            self._results.stop()


def _cells(time_s: float, row: Row, source: Signal) -> tuple[object, ...]:
    names = (row.comm,) if source.named else ()
    return (f"{time_s:.2f}", row.number, *names, *(_cell(value, source.decimals) for value in row.values))


def _cell(value: float, decimals: int) -> str:
    if math.isnan(value):
        return ""
    return "-1" if value == UNKNOWN else f"{value:.{decimals}f}"


def _sampler(config: SnoopConfig) -> Sampler:
    keys = needs_kernel(config)
    if not keys:
        return Sampler(Polling("not asked for"), MAX_PROCESSES)
    if os.geteuid() != 0:
        raise Unsupported(f"{keys[0]} needs root: it is served by BPF programs")
    pages = syscall_log.PAGES if config.syscalls is not None else syscall_log.SMALLEST_PAGES
    sampler = Sampler.open(max_processes=MAX_PROCESSES, log_pages=pages, collectors=_collectors(config))
    why = next((hook.why for hook in sampler.hooks if hook.collector == "lifecycle" and hook.rank != 0), "")
    if why:
        sampler.close()
        raise Unsupported(f"{keys[0]} is not possible here: {why}")
    return sampler


def _collectors(config: SnoopConfig) -> tuple[str, ...]:
    """Those that give something that is wanted: others would only slow the program down."""
    needed = {
        "lifecycle": True,
        # calls of functions are told with their time on a CPU
        "cpu": (config.cpu is not None and config.cpu.way == "bcc") or config.probes is not None,
        "network": config.network is not None,
    }
    return tuple(name for name, wanted in needed.items() if wanted)
