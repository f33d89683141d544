"""The kernel part as the daemon holds it: tables, commands and links, by descriptors only.

Whatever happens to the daemon, its descriptors close, and with them everything detaches.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import subprocess
import sys
import tempfile
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from time import CLOCK_MONOTONIC, CLOCK_REALTIME, clock_gettime_ns
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord import proc
from osdetectord.bpf.ring import Ring
from osdetectord.bpf.syscall import NUMBER, Map, Program, close_all, online_cpus, open_raw_tracepoint, possible_cpus
from osdetectord.bpf.uprobe import WAYS, Rings, Uprobes
from osdetectord.collector import Collector
from osdetectord.collectors import layout, syscall_log, uprobe
from osdetectord.collectors.registry import COLLECTORS, sources, without_kernel
from osdetectord.collectors.syscall_log import Logged
from osdetectord.collectors.syscall_names import number_of, probe_numbers
from osdetectord.core import HookView
from osdetectord.errors import LoadError
from osdetectord.hooks import hook_views

LOADER_TIMEOUT_S = 60.0
NOT_WANTED = "not asked for"
MAX_DESCRIPTORS = 253  # SCM_MAX_FD

SYSCALL_TABLE_BYTES = 32 << 20
"""What the table of system calls may take of kernel memory, over all CPUs."""

MAX_THREADS = 32_768
"""Threads for which there is room where nothing else is said."""

MAX_SCANS = 100
"""Scans of a process's threads: more are needed only while threads that are not yet watched start others."""

SELF, LOOK, WATCH_PROCESS, WATCH_THREAD, FORGET_THREAD, FLAGS = range(6)
ABSENT, OLD = 1, 2


@dataclass(frozen=True, slots=True)
class Answer:
    """What the kernel says of a thread: ids, start and flags of its process and the process's serial."""

    serial: int
    start_ns: int
    tid: int
    pid: int
    flags: int
    new: bool


@dataclass(frozen=True, slots=True)
class Sizes:
    """Bounds of the tables."""

    processes: int
    threads: int
    syscalls: int
    event_pages: int
    log_pages: int
    packets: bool = True
    """Whether segments are counted: the table of their sockets takes memory."""

    @classmethod
    def of(
        cls,
        max_processes: int,
        max_threads: int = MAX_THREADS,
        event_pages: int = 64,
        log_pages: int = syscall_log.SMALLEST_PAGES,
    ) -> Sizes:
        """Room for so many processes; the dead stay until they are read, so there is some for them too."""
        # key, value, hash element and, for each CPU, the value
        per_call = 80 + 32 * possible_cpus()
        return cls(
            processes=2 * max_processes,
            threads=max(max_threads, 2 * max_processes),
            syscalls=max(1024, min(32 * max_processes, SYSCALL_TABLE_BYTES // per_call)),
            event_pages=event_pages,
            log_pages=log_pages,
        )

    @property
    def name_pages(self) -> int:
        """Size of the ring of the log's names."""
        return max(1, self.log_pages // syscall_log.PAGES_OF_A_NAME_PAGE)

    def defines(self) -> dict[str, int]:
        return {
            "MAX_PROCESSES": self.processes,
            "MAX_THREADS": self.threads,
            "MAX_SYSCALLS": self.syscalls,
            "EVENT_PAGES": self.event_pages,
            "SYSCALL_LOG_PAGES": self.log_pages,
            "THREAD_NAME_PAGES": self.name_pages,
            "LOG_CHUNK": syscall_log.CHUNK_RECORDS,
            "WAIT_BUCKETS": layout.WAIT_BUCKETS,
            "SUSPECT_SLOTS": layout.SUSPECT_SLOTS,
            "LOST_CAUSES": len(layout.LOST),
            "MAX_REQUESTS": layout.MAX_REQUESTS,
            "MAX_SOCKETS": layout.MAX_SOCKETS,
            "MAX_COUNTED_SOCKETS": layout.MAX_SOCKETS if self.packets else 256,
            **{f"NR_{name}": number_of(name) for name in layout.NUMBERS},
            **{f"NR_{name}": number for name, number in probe_numbers().items()},
            **uprobe.DEFINES,
        }

    def capacity(self, table: str) -> int:
        return {
            "threads": self.threads,
            **dict.fromkeys(layout.BY_CALL, self.syscalls),
            "suspects": layout.SUSPECT_SLOTS,
            "settings": 1,
            "answers": 1,
            "lost": len(layout.LOST),
            "requests": layout.MAX_REQUESTS,
        }.get(table, self.processes)


class Kernel:
    """Loaded programs and their tables.  One thread at a time.

    Parameters
    ----------
    sizes
        Bounds of the tables.
    uprobe_ways
        Ways to attach to functions of user programs, best first; see :mod:`osdetectord.bpf.uprobe`.
    collectors
        Names of those that are to be served by programs; None means all.

    Raises
    ------
    LoadError
        Where the programs can't be compiled, loaded or attached; says why.
    """

    def __init__(
        self, sizes: Sizes, uprobe_ways: Sequence[str] = WAYS, collectors: Collection[str] | None = None
    ) -> None:
        self._sizes = sizes
        wanted = [c for c in COLLECTORS if collectors is None or c.name in collectors]
        answer, descriptors = _run_loader(sizes, uprobe_ways, wanted)
        self._all = descriptors
        fd = descriptors.__getitem__
        self.maps = {
            name: Map(fd(answer["maps"][name]), table.key, table.value, sizes.capacity(name), table.per_cpu)
            for name, table in layout.TABLES.items()
        }
        self._command = Program(fd(answer["programs"]["command"]))
        self._flush = Program(fd(answer["programs"]["cpu_flush"]))
        self._missed = 0
        self._attached = [fd(index) for index in answer["attached"].values()]
        self.ranks: Mapping[str, tuple[int, str]] = {
            **{c.name: (without_kernel(c), NOT_WANTED) for c in COLLECTORS},
            **{name: (rank, why) for name, (rank, why) in answer["hooks"].items()},
        }
        self._settings = np.zeros(1, dtype=layout.SETTINGS)
        try:
            page = os.sysconf("SC_PAGESIZE")
            self._ring = Ring(fd(answer["maps"][layout.RING]), sizes.event_pages * page, layout.EVENT)
            calls, names = (fd(answer["maps"][name]) for name in syscall_log.RINGS)
            self._log = Ring(calls, sizes.log_pages * page, syscall_log.CHUNK)
            self._names = Ring(names, sizes.name_pages * page, syscall_log.NAME)
            self._log_flush = Program(fd(answer["programs"]["syscall_log_flush"]))
            self._log_programs = {name: fd(answer["programs"][name]) for name in self._log_hooks()}
            self._log_links: list[int] = []
            self._logs = 0
            self._log_taken_ns = 0
            self._stale: set[int] = set()
            self.uprobes = _uprobes(answer, descriptors)
            self._learn_namespace()
        except OSError as error:
            self.close()
            raise LoadError(f"the kernel part does not answer: {error.strerror}") from None

    def _learn_namespace(self) -> None:
        self._command.run(SELF, NUMBER)
        held = self.maps["settings"].get(bytes(4))
        known = self.maps["answers"].get(bytes(4))
        if held is None or known is None or int(known["pid"]) != os.getpid():
            raise LoadError("the kernel part does not find this process in its pid namespace")
        self._settings[0] = held
        self._settings["cpu_served"] = self.ranks["cpu"][0] == 0
        self._settings["packets"] = self.ranks.get("packets", (-1, ""))[0] >= 0
        self.maps["settings"].set(bytes(4), self._settings.tobytes())

    def hook_views(self) -> tuple[HookView, ...]:
        """Which hook serves each collector."""
        return hook_views(COLLECTORS, self.ranks)

    def report_strangers(self, on: bool) -> None:
        """Whether executions of processes that are not watched are told."""
        self._settings["strangers"] = on
        self.maps["settings"].set(bytes(4), self._settings.tobytes())

    def watch(self, pid: int, follow: bool) -> int | None:
        """Watch a process, all its threads and, if asked, all its descendants; returns its serial.

        ``pid`` is of the daemon's namespace.  None if there is no such process, or no room.  There is no gap:
        what a thread forks after it got in is followed by the kernel, what it forked before is found by the scan
        that follows.  A process that is watched already stays so; whether its children are can only be added to it.
        """
        flags = layout.FOLLOW if follow else 0
        root: int | None = None
        queue = [(pid, 0, 0)]
        for process, parent, parent_pid in queue:
            answer = self._ask(WATCH_PROCESS, process, flags, parent, parent_pid)
            if answer is None:
                if root is None:
                    return None
                continue
            if root is None:
                root = answer.serial
            if follow and not answer.new:
                self.set_flags(answer.serial, layout.FOLLOW)
            self._watch_threads(process, answer.serial)
            if follow:
                queue += [(child, answer.serial, process) for child in proc.children(process)]
        return root

    def _watch_threads(self, pid: int, serial: int) -> None:
        for _ in range(MAX_SCANS):
            answers = [self._ask(WATCH_THREAD, tid, serial) for tid in proc.threads(pid)]
            if not any(answer is not None and answer.new for answer in answers):
                return

    def process(self, serial: int) -> Any:
        """What the kernel keeps of a process, a record of ``layout.PROCESS``, or None."""
        return self.maps["processes"].get(serial.to_bytes(8, "little"))

    def waits(self, serial: int) -> tuple[int, ...]:
        """Run-queue waits of a process by power of two microseconds."""
        value = self.maps["waits"].get(serial.to_bytes(8, "little"))
        return () if value is None else tuple(int(count) for count in value["bucket"])

    def block(self, serial: int) -> Any:
        """What a process asked of block devices, a record of ``layout.BLOCK``, or None."""
        return self.maps["block"].get(serial.to_bytes(8, "little"))

    def look(self, tid: int) -> Answer | None:
        """Who is that?"""
        return self._ask(LOOK, tid)

    def _ask(self, *command: int) -> Answer | None:
        result = self._command.run(*command)
        if result not in (0, OLD):
            return None
        value = self.maps["answers"].get(bytes(4))
        if value is None:
            return None
        return Answer(
            serial=int(value["serial"]),
            start_ns=int(value["start_ns"]),
            tid=int(value["tid"]),
            pid=int(value["pid"]),
            flags=int(value["flags"]),
            new=result == 0,
        )

    def set_flags(self, serial: int, on: int, off: int = 0) -> None:
        """Change flags of a process, if it is there."""
        self._command.run(FLAGS, serial, on, off)

    def forget(self, serials: NDArray[np.uint64], threads: bool) -> None:
        """Delete all that is kept of processes; with ``threads`` also what still runs."""
        if threads:
            for serial in serials:
                self.set_flags(int(serial), layout.REMOVED)
            # a fork that was under way while the flag was set adds at most one more
            for _ in range(2):
                tids, values = self.maps["threads"].read()
                for index in np.flatnonzero(np.isin(values["serial"], serials)):
                    self._command.run(FORGET_THREAD, int(tids[index]), int(values["serial"][index]))
        for name in layout.BY_SERIAL:
            self.maps[name].delete(serials)
        for name in layout.BY_CALL:
            stale = [keys[np.isin(keys["serial"], serials)] for keys, _ in self.maps[name].batches()]
            for keys in stale:
                self.maps[name].delete(keys)

    def sweep(self, serials: NDArray[np.uint64]) -> None:
        """Delete what belongs to no process: a thread in a system call may write once more after its removal.

        ``serials`` are of some moment before, and processes are born meanwhile: what is deleted belonged to none
        at the last sweep either.
        """
        stale: set[int] = set()
        for name in layout.BY_SERIAL[1:]:
            keys, _ = self.maps[name].read()
            stale.update(keys[~np.isin(keys, serials)].tolist())
        tids, threads = self.maps["threads"].read()
        stale.update(threads["serial"][~np.isin(threads["serial"], serials)].tolist())
        calls = [(name, keys.copy()) for name in layout.BY_CALL for keys, _ in self.maps[name].batches()]
        for _, keys in calls:
            stale.update(keys["serial"][~np.isin(keys["serial"], serials)].tolist())
        gone = np.array(sorted(stale & self._stale), dtype=np.uint64)
        self._stale = stale
        for name in layout.BY_SERIAL[1:]:
            self.maps[name].delete(gone)
        for index in np.flatnonzero(np.isin(threads["serial"], gone)):
            self._command.run(FORGET_THREAD, int(tids[index]), int(threads["serial"][index]))
        for name, keys in calls:
            self.maps[name].delete(keys[np.isin(keys["serial"], gone)])

    def flush(self) -> None:
        """Charge the threads that run right now up to now."""
        if self.ranks["cpu"][0] != 0:
            return
        _run_everywhere(self._flush)

    def snapshot(self) -> Snapshot:
        """The tables now."""
        self.flush()
        return Snapshot(self.maps)

    def events(self) -> NDArray[Any]:
        """Executions of strangers since the last call."""
        return self._ring.read()

    def _log_hooks(self) -> dict[str, str]:
        """Which programs the log attaches: those of system calls are there where calls are counted."""
        counted = self.ranks["syscalls"][0] >= 0
        return {**syscall_log.PROGRAMS, **({} if counted else syscall_log.UNCOUNTED)}

    def log_syscalls(self, on: bool) -> None:
        """Whether every system call of every watched thread is logged; raises OSError."""
        if on == bool(self._log_links):
            return
        if on:
            links: list[int] = []
            try:
                for name, event in self._log_hooks().items():
                    links.append(open_raw_tracepoint(self._log_programs[name], event))
            except OSError:
                close_all(links)
                raise
            self._log_links = links
            # each log has its own number, so that nothing that threads remember of another is taken for this one's
            self._logs += 1
        else:
            close_all(self._log_links)
            self._log_links = []
        self._settings["log"] = self._logs if on else 0
        self.maps["settings"].set(bytes(4), self._settings.tobytes())

    def logged_syscalls(self) -> Logged:
        """What the log tells since the last call."""
        taken_ns = clock_gettime_ns(CLOCK_MONOTONIC)
        wall_ns = clock_gettime_ns(CLOCK_REALTIME) - taken_ns
        # A call is under way on its CPU first and where its thread waits later: in that order nobody slips through,
        # and what leaves meanwhile is flushed at last.
        _run_everywhere(self._log_flush, True)
        under_way = self._under_way()
        _run_everywhere(self._log_flush, False)
        chunks = self._log.read()
        # whoever has a call among them was told before it
        logged = Logged(taken_ns, wall_ns, self._names.read(), under_way, chunks)
        self._log_taken_ns = taken_ns
        return logged

    def _under_way(self) -> NDArray[Any]:
        """Calls that wait, and entered since this was last asked."""
        log = int(self._settings["log"][0])
        tids, threads = self.maps["threads"].read()
        new = (threads["logged"] == log) & (threads["entered_ns"] > self._log_taken_ns) & (log > 0)
        found = np.zeros(np.count_nonzero(new), syscall_log.RECORD)
        found["tid"] = tids[new]
        for ours, theirs in (("entered_ns", "entered_ns"), ("first", "first"), ("number", "nr")):
            found[ours] = threads[theirs][new]
        # a thread that is read while it changes may show half of each of two calls, but not twice
        return found[[self._is_in(call) for call in found]]

    def _is_in(self, call: Any) -> bool:
        thread = self.maps["threads"].get(call["tid"].tobytes())
        if thread is None:
            return False
        same = zip(("entered_ns", "first", "nr"), ("entered_ns", "first", "number"), strict=True)
        return all(thread[theirs] == call[ours].astype(thread[theirs].dtype) for theirs, ours in same)

    def lost(self) -> dict[str, int]:
        """What was lost since the load, by cause."""
        _, counts = self._read_lost()
        return dict(zip(layout.LOST, counts, strict=True))

    def _read_lost(self) -> tuple[range, list[int]]:
        table = self.maps["lost"]
        counts = []
        for cause in range(len(layout.LOST)):
            value = table.get(cause.to_bytes(4, "little"))
            counts.append(0 if value is None else int(value.sum()))
        return range(len(layout.LOST)), counts

    def run_time_ns(self) -> int | None:
        """CPU time of the programs so far, where the kernel counts it (``kernel.bpf_stats_enabled``)."""
        try:
            with open("/proc/sys/kernel/bpf_stats_enabled", encoding="ascii") as file:
                if file.read().strip() != "1":
                    return None
        except OSError:
            return None
        try:
            return self._told_of_programs("run_time_ns")
        except OSError:  # no descriptor is free
            return None

    def missed_runs(self) -> int:
        """Events that the kernel did not tell a program, because they came while it ran on the same CPU."""
        with suppress(OSError):  # where no descriptor is free, what was known last
            self._missed = self._told_of_programs("recursion_misses")
        return self._missed

    def _told_of_programs(self, name: str) -> int:
        """A number of bpf_prog_show_fdinfo() of kernel/bpf/syscall.c, summed over the attached programs."""
        total = 0
        for fd in self._attached:
            with open(f"/proc/self/fdinfo/{fd}", encoding="ascii") as file:
                total += sum(int(line.split()[1]) for line in file if line.startswith(f"{name}:"))
        return total

    def close(self) -> None:
        """Detach everything."""
        for name in ("_ring", "_log", "_names"):
            ring = getattr(self, name, None)
            if ring is not None:
                ring.close()
        close_all(getattr(self, "_log_links", []))
        if hasattr(self, "uprobes") and self.uprobes.rings is not None:
            self.uprobes.rings.close()
        close_all(self._all)
        self._all = []


def _run_everywhere(program: Program, *arguments: int) -> None:
    """Run a program on each CPU until it has done its work there, which it says with 0."""
    for cpu in online_cpus():
        try:
            while program.run(*arguments, cpu=cpu):
                pass
        except OSError as error:
            # it went off line
            if error.errno != errno.ENXIO:
                raise


class Snapshot:
    """The tables at one instant; see :class:`osdetectord.collector.Tables`."""

    def __init__(self, maps: Mapping[str, Map]) -> None:
        self._maps = maps
        self._read: dict[str, tuple[NDArray[Any], NDArray[Any]]] = {}
        self.now_ns = clock_gettime_ns(CLOCK_MONOTONIC)

    def read(self, name: str) -> tuple[NDArray[Any], NDArray[Any]]:
        if name not in self._read:
            self._read[name] = self._maps[name].read()
        return self._read[name]

    def batches(self, name: str) -> Iterator[tuple[NDArray[Any], NDArray[Any]]]:
        table = self._maps[name]
        for keys, values in table.batches():
            yield keys, table.summed(values)


def _runtime_directory() -> str | None:
    for place in (os.environ.get("RUNTIME_DIRECTORY", "").split(":")[0], "/run"):
        if place and os.access(place, os.W_OK):
            return place
    return None


def _uprobes(answer: Mapping[str, Any], descriptors: Sequence[int]) -> Uprobes:
    fds = {name: descriptors[index] for name, index in answer["maps"].items()}
    told = answer["uprobes"]
    return Uprobes(
        way=told["way"],
        why=told["why"],
        programs={name: descriptors[index] for name, index in told["programs"].items()},
        maps={
            name: Map(fds[name], table.key, table.value, uprobe.CAPACITY[name], table.per_cpu)
            for name, table in uprobe.TABLES.items()
        },
        rings=Rings(Map(fds[uprobe.RING_TABLE], "<u4", "<u4", len(uprobe.RINGS), per_cpu=False)),
    )


def _plan(sizes: Sizes, tree: str, uprobe_ways: Sequence[str], wanted: Sequence[Collector]) -> dict[str, Any]:
    return {
        "tree": tree,
        "sources": [str(path) for path in sources()],
        "defines": sizes.defines(),
        "maps": [*layout.TABLES, layout.RING, *syscall_log.RINGS, *uprobe.TABLES, uprobe.RING_TABLE],
        "programs": ["command", "cpu_flush", "syscall_log_flush", *syscall_log.PROGRAMS, *syscall_log.UNCOUNTED],
        "uprobes": uprobe.PROGRAMS,
        "uprobe_ways": list(uprobe_ways),
        "chains": {
            collector.name: [
                {"name": hook.name, "attachments": [[a.program, a.kind.value, a.event] for a in hook.attachments]}
                for hook in collector.hooks
            ]
            for collector in wanted
        },
    }


def _run_loader(
    sizes: Sizes, uprobe_ways: Sequence[str], wanted: Sequence[Collector]
) -> tuple[dict[str, Any], list[int]]:
    ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    package = str(Path(__file__).resolve().parents[2])
    environment = dict(os.environ)
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, (package, environment.get("PYTHONPATH"))))
    with (
        ours,
        tempfile.TemporaryDirectory(prefix="osdetectord-", dir=_runtime_directory()) as tree,
        tempfile.TemporaryFile(dir=tree) as told,
    ):
        with theirs:
            child = subprocess.Popen(
                [sys.executable, "-m", "osdetectord.bpf.loader", str(theirs.fileno())],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=told,
                pass_fds=[theirs.fileno()],
                env=environment,
            )
        try:
            ours.settimeout(LOADER_TIMEOUT_S)
            message, descriptors = _converse(child, ours, _plan(sizes, tree, uprobe_ways, wanted))
        finally:
            child.kill()
            child.wait()
        if not message:
            told.seek(0)
            tail = told.read().decode(errors="replace").strip().splitlines()[-1:]
            raise LoadError(f"the loader ended with status {child.returncode}: {' '.join(tail)}")
    answer: dict[str, Any] = json.loads(message)
    if "error" in answer:
        close_all(descriptors)
        raise LoadError(answer["error"])
    return answer, descriptors


def _converse(child: subprocess.Popen[bytes], peer: socket.socket, plan: dict[str, Any]) -> tuple[bytes, list[int]]:
    try:
        assert child.stdin is not None
        with child.stdin as stdin:
            stdin.write(json.dumps(plan).encode())
    except BrokenPipeError:
        return b"", []
    try:
        message, descriptors, _, _ = socket.recv_fds(peer, 1 << 20, MAX_DESCRIPTORS)
    except TimeoutError:
        raise LoadError(f"the loader said nothing for {LOADER_TIMEOUT_S:.0f} s") from None
    for fd in descriptors:
        os.set_inheritable(fd, False)
    return message, list(descriptors)
