"""What /proc tells of a process, read through descriptors that can't come to mean another process.

A descriptor of a file below ``/proc/PID`` belongs to that process: once the process is gone, reading gives
ESRCH, even if its pid has been given to another (fs/proc/base.c, ``get_proc_task``).
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass

from osdetectord.errors import InvalidArgument, NoSuchProcess, Unsupported
from osdetectord.metric import Kind, Metric
from osdetectord.process import Process, ProcessInfo

START_TICK_NS = 1_000_000_000 // os.sysconf("SC_CLK_TCK")
TICK_S = 1 / os.sysconf("SC_CLK_TCK")
PAGE = os.sysconf("SC_PAGESIZE")

# include/linux/sched.h
PF_KTHREAD = 0x200000

USER = Metric("cpu.user", "s", Kind.COUNTER, "time in user mode, by the scheduler's tick")
SYSTEM = Metric("cpu.system", "s", Kind.COUNTER, "time in the kernel, by the scheduler's tick")
RSS = Metric("memory.rss", "bytes", Kind.GAUGE, "resident memory")
ANON = Metric("memory.anon", "bytes", Kind.GAUGE, "resident memory that is no file's and not shared")
VIRTUAL = Metric("memory.virtual", "bytes", Kind.GAUGE, "mapped addresses")
MINOR_FAULTS = Metric("memory.minor_faults", "faults", Kind.COUNTER, "page faults served from memory")
MAJOR_FAULTS = Metric("memory.major_faults", "faults", Kind.COUNTER, "page faults that waited for storage")
THREADS = Metric("process.threads", "threads", Kind.GAUGE, "threads")
FDS = Metric("process.fds", "descriptors", Kind.GAUGE, "open descriptors")
READ_CHARS = Metric(
    "io.read_chars", "bytes", Kind.COUNTER, "bytes that read calls returned, cache and sockets included"
)
WRITE_CHARS = Metric("io.write_chars", "bytes", Kind.COUNTER, "bytes given to write calls, cache and sockets included")
READ_BYTES = Metric("io.read_bytes", "bytes", Kind.COUNTER, "bytes fetched from storage")
WRITE_BYTES = Metric("io.write_bytes", "bytes", Kind.COUNTER, "bytes sent to storage")

METRICS = (
    *(USER, SYSTEM, RSS, ANON, VIRTUAL, MINOR_FAULTS, MAJOR_FAULTS, THREADS, FDS),
    *(READ_CHARS, WRITE_CHARS, READ_BYTES, WRITE_BYTES),
)

NAN = float("nan")


@dataclass(frozen=True, slots=True)
class Stat:
    """``/proc/PID/stat`` of a process or a thread; see proc_pid_stat(5)."""

    pid: int
    comm: str
    state: str
    parent_pid: int
    flags: int
    minor_faults: int
    major_faults: int
    user_ticks: int
    system_ticks: int
    threads: int
    start_ticks: int

    @classmethod
    def parse(cls, data: bytes) -> Stat:
        # the name may hold anything, parentheses and newlines too; nothing after it can
        opened, closed = data.index(b"("), data.rindex(b")")
        field = data[closed + 2 :].split()
        return cls(
            pid=int(data[:opened]),
            comm=os.fsdecode(data[opened + 1 : closed]),
            state=field[0].decode(),
            parent_pid=int(field[1]),
            flags=int(field[6]),
            minor_faults=int(field[7]),
            major_faults=int(field[9]),
            user_ticks=int(field[11]),
            system_ticks=int(field[12]),
            threads=int(field[17]),
            start_ticks=int(field[19]),
        )


def _read(path: str) -> bytes:
    with open(path, "rb", buffering=0) as file:
        return file.read(4096) or b""


def stat_of(pid: int) -> Stat:
    """Raises NoSuchProcess."""
    try:
        return Stat.parse(_read(f"/proc/{pid}/stat"))
    except (OSError, ValueError):
        raise NoSuchProcess(f"no process {pid}") from None


def identify(pid: int) -> Process:
    """Identity of a process that can be watched.

    Raises
    ------
    NoSuchProcess
        If there is none, or it has ended and waits for its parent.
    InvalidArgument
        If it is a thread of another process.
    Unsupported
        If it is a thread of the kernel.
    """
    stat = stat_of(pid)
    if stat.flags & PF_KTHREAD:
        raise Unsupported(f"process {pid} ({stat.comm}) is a thread of the kernel and can't be watched")
    leader = leader_of(pid)
    if leader != pid:
        raise InvalidArgument(f"{pid} is a thread of process {leader}")
    # The main thread may end before the others: then its state is Z too, but the process lives.
    if stat.state in "ZX" and stat.threads <= 1:
        raise NoSuchProcess(f"process {pid} ({stat.comm}) has ended")
    return Process(pid, stat.start_ticks)


def leader_of(tid: int) -> int:
    """The process of a thread; raises NoSuchProcess."""
    return int(_status_field(tid, b"Tgid:")[0])


def _status_field(pid: int, name: bytes) -> list[bytes]:
    try:
        for line in _read(f"/proc/{pid}/status").splitlines():
            if line.startswith(name):
                return line[len(name) :].split()
    except OSError:
        pass
    raise NoSuchProcess(f"no process {pid}")


def info(process: Process) -> ProcessInfo:
    """Raises NoSuchProcess, also where the pid means another process by now."""
    stat = stat_of(process.pid)
    uid = uid_of(process.pid)
    path = exe(process.pid)
    if stat.start_ticks != process.start_ticks or stat_of(process.pid).start_ticks != process.start_ticks:
        raise NoSuchProcess(f"no process {process.pid}")
    return ProcessInfo(process, stat.parent_pid, stat.comm, path, uid)


def uid_of(pid: int) -> int:
    """Real user id of a process; raises NoSuchProcess."""
    return int(_status_field(pid, b"Uid:")[0])


def exe(pid: int) -> str:
    """Path of a process's executable, empty where it can't be read."""
    try:
        return os.readlink(f"/proc/{pid}/exe")
    except OSError:
        return ""


def threads(pid: int) -> list[int]:
    """Thread ids of a process, none if it is gone."""
    try:
        return [int(name) for name in os.listdir(f"/proc/{pid}/task")]
    except OSError:
        return []


def thread_times(pid: int, most: int | None = None) -> dict[int, int]:
    """Nanoseconds on a CPU of up to ``most`` threads of a process, by thread id; none if it is gone.

    From ``schedstat``, which is as fresh as the scheduler's last tick or switch.
    """
    out = {}
    for tid in threads(pid)[:most]:
        try:
            with open(f"/proc/{pid}/task/{tid}/schedstat", "rb", buffering=0) as file:
                out[tid] = int(file.read().split()[0])
        except (OSError, IndexError):
            continue  # it ended meanwhile, or the kernel keeps no such statistics
    return out


def thread_name(pid: int, tid: int) -> str:
    """Name of a thread, empty if it is gone."""
    try:
        with open(f"/proc/{pid}/task/{tid}/comm", "rb") as file:
            return os.fsdecode(file.read().rstrip(b"\n"))
    except OSError:
        return ""


def children(pid: int) -> list[int]:
    """Child processes of all threads of a process, those that it had at this moment."""
    out: list[int] = []
    try:
        for tid in threads(pid):
            with open(f"/proc/{pid}/task/{tid}/children", "rb") as file:
                out.extend(int(child) for child in file.read().split())
    except FileNotFoundError:
        # the thread is gone, or the kernel was built without CONFIG_PROC_CHILDREN
        if os.path.exists(f"/proc/{os.getpid()}/task/{os.getpid()}/children"):
            return out
        return [child for child in pids() if _parent(child) == pid]
    except ProcessLookupError:
        return out
    return out


def _parent(pid: int) -> int:
    try:
        return stat_of(pid).parent_pid
    except NoSuchProcess:
        return 0


def pids() -> Iterator[int]:
    """Every process of the daemon's pid namespace."""
    return (int(name) for name in os.listdir("/proc") if name.isdigit())


def fd_count_is_told() -> bool:
    """Whether the size of ``/proc/PID/fd`` is the number of descriptors (since f1f1f2569901, 6.2)."""
    return os.stat("/proc/self/fd").st_size > 0


class Files:
    """The files of one process, open for as long as it is watched.

    Parameters
    ----------
    process
        Identity.
    fds_told
        See :func:`fd_count_is_told`.

    Raises
    ------
    NoSuchProcess
        If it is gone.
    OSError
        EMFILE, if there are too many open files.
    """

    def __init__(self, process: Process, fds_told: bool) -> None:
        self._fds_told = fds_told
        self._open: list[int] = []
        try:
            self._directory = self._keep(os.open(f"/proc/{process.pid}", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC))
            self._stat = self._keep(self._at("stat"))
            self._statm = self._keep(self._at("statm"))
            try:
                self._io = self._keep(self._at("io"))
            except (PermissionError, FileNotFoundError):
                # not permitted, or a kernel without CONFIG_TASK_IO_ACCOUNTING
                self._io = -1
            if Stat.parse(os.pread(self._stat, 4096, 0)).start_ticks != process.start_ticks:
                raise ProcessLookupError
        except (ProcessLookupError, FileNotFoundError):
            self.close()
            raise NoSuchProcess(f"no process {process.pid}") from None
        except OSError:
            self.close()
            raise

    def _keep(self, fd: int) -> int:
        self._open.append(fd)
        return fd

    def _at(self, name: str) -> int:
        return os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=self._directory)

    def read(self) -> list[float]:
        """Readings in the order of ``METRICS``, NaN where missing; raises NoSuchProcess."""
        try:
            data = os.pread(self._stat, 4096, 0)
            field = data[data.rindex(b")") + 2 :].split(None, 21)
            virtual, resident, shared, _ = os.pread(self._statm, 256, 0).split(None, 3)
            pages = int(resident)
            return [
                int(field[11]) * TICK_S,
                int(field[12]) * TICK_S,
                pages * PAGE,
                (pages - int(shared)) * PAGE,
                int(virtual) * PAGE,
                int(field[7]),
                int(field[9]),
                int(field[17]),
                self._fd_count(),
                *self._io_counts(),
            ]
        except (ProcessLookupError, FileNotFoundError, ValueError):
            raise NoSuchProcess("the process has ended") from None

    def _fd_count(self) -> float:
        try:
            if self._fds_told:
                return os.stat("fd", dir_fd=self._directory).st_size
            directory = os.open("fd", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory)
            try:
                return len(os.listdir(directory))
            finally:
                os.close(directory)
        except PermissionError:
            return NAN

    def _io_counts(self) -> tuple[float, float, float, float]:
        if self._io < 0:
            return NAN, NAN, NAN, NAN
        # rchar wchar syscr syscw read_bytes write_bytes cancelled_write_bytes, each with its name
        try:
            word = os.pread(self._io, 512, 0).split(None, 12)
        except PermissionError:
            # asked at each reading, not when it is opened (do_io_accounting() of fs/proc/base.c)
            return NAN, NAN, NAN, NAN
        return int(word[1]), int(word[3]), int(word[9]), int(word[11])

    def scheduled(self) -> tuple[float, float, float, float]:
        """Seconds on CPU, seconds in the run queue, voluntary and involuntary switches, over the live threads."""
        on = queued = voluntary = involuntary = 0
        try:
            tasks = os.open("task", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=self._directory)
        except (FileNotFoundError, ProcessLookupError):
            raise NoSuchProcess("the process has ended") from None
        try:
            for tid in os.listdir(tasks):
                try:
                    first, second, _ = _read_at(tasks, f"{tid}/schedstat").split()
                    status = _read_at(tasks, f"{tid}/status")
                except (FileNotFoundError, ProcessLookupError, ValueError):
                    continue
                on += int(first)
                queued += int(second)
                voluntary += int(status.rpartition(b"\nvoluntary_ctxt_switches:")[2].split(None, 1)[0])
                involuntary += int(status.rpartition(b"\nnonvoluntary_ctxt_switches:")[2].split(None, 1)[0])
        finally:
            os.close(tasks)
        return on * 1e-9, queued * 1e-9, float(voluntary), float(involuntary)

    def alive(self) -> bool:
        """Whether the process still runs."""
        try:
            stat = Stat.parse(os.pread(self._stat, 4096, 0))
        except (OSError, ValueError):
            return False
        return stat.state not in "ZX" or stat.threads > 1

    def close(self) -> None:
        for fd in self._open:
            os.close(fd)
        self._open = []


def _read_at(directory: int, name: str) -> bytes:
    fd = os.open(name, os.O_RDONLY | os.O_CLOEXEC, dir_fd=directory)
    try:
        return os.read(fd, 4096)
    finally:
        os.close(fd)
