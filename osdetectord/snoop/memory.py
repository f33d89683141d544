"""Memory that processes hold: what the kernel mapped for them, or what their allocator gave out."""

from __future__ import annotations

import os
import time
from collections.abc import Callable

from osdetectord import proc
from osdetectord.errors import NoSuchProcess, NoSuchSymbol, NotAuthorized, OsdetectorError
from osdetectord.probing.allocations import Allocations
from osdetectord.snoop.moment import Moment, Row

METRICS: tuple[str, ...] = ("SIZE(B)", "NUM")


class MappedMemory:
    """Bytes and number of the mappings that brk and mmap made and that are still there.

    The kernel keeps both, in ``/proc/PID/statm`` and ``/proc/PID/maps``: so they are exact, also for what was
    mapped before it was watched, and cost nothing while the program runs.
    """

    metrics, judged, named = METRICS, METRICS, False
    decimals = 0

    def rows(self, moment: Moment) -> list[Row]:
        out = []
        for series, info in moment.alive.items():
            held = mapped(info.process.pid)
            if held is not None:
                out.append(Row(series, 0, info.process.pid, info.comm, held))
        return out


def mapped(pid: int) -> tuple[float, float] | None:
    """Bytes of address space and number of mappings of a process, None where it has ended.

    Raises
    ------
    NotAuthorized
        If it is another user's.
    """
    try:
        with open(f"/proc/{pid}/statm", "rb") as file:
            pages = int(file.read().split()[0])
        with open(f"/proc/{pid}/maps", "rb") as file:
            count = file.read().count(b"\n")
    except PermissionError:
        if not os.path.exists(f"/proc/{pid}"):
            return None
        raise NotAuthorized(f"snoop_mem: the memory of process {pid} is another user's, only root may see it") from None
    except (OSError, IndexError, ValueError):
        return None
    # what is dying has no memory any more
    return (float(pages * proc.PAGE), float(count)) if pages else None


class AllocatedMemory:
    """Bytes and number of what a process got from its allocator since it is watched and has not yet given back.

    Parameters
    ----------
    allocations
        The allocator's functions, probed.
    tell
        Takes a line for people where a process can't be watched any longer.
    """

    metrics, judged, named = METRICS, METRICS, False
    decimals = 0

    def __init__(self, allocations: Allocations, tell: Callable[[str], None]) -> None:
        self._allocations, self._tell = allocations, tell
        self._numbers: dict[int, int] = {}

    def watch(self, series: int, pid: int, library: str) -> None:
        """Probe the allocator of a process; raises OsdetectorError."""
        self._numbers[series] = self._allocations.add(pid, library=library)

    def lost(self) -> dict[str, int]:
        """What was lost, by cause."""
        return self._allocations.lost()

    def rows(self, moment: Moment) -> list[Row]:
        tick = moment.tick
        gone = [exited.process for exited in tick.exited]
        execed = [about.info for about in tick.execed]
        for detached in self._allocations.tick(time.monotonic_ns(), execed, gone):
            self._tell(f"snoop_mem: {detached}")
        out = []
        for series, info in moment.alive.items():
            if series not in self._numbers:
                self._begin(series, info.process.pid)
            number = self._numbers.get(series, 0)
            if number:
                held = self._allocations.view(number)
                if held.state == "on":
                    values = (float(max(held.bytes, 0)), float(max(held.count, 0)))
                    out.append(Row(series, 0, info.process.pid, info.comm, values))
        for series in moment.ended:
            number = self._numbers.pop(series, 0)
            if number:
                self._allocations.remove(number)
        return out

    def _begin(self, series: int, pid: int) -> None:
        try:
            self.watch(series, pid, "libc")
        except NoSuchProcess:
            pass
        except OsdetectorError as error:
            # told once for each process; it may be linked statically or use an allocator of its own
            self._numbers[series] = 0
            self._tell(f"snoop_mem: process {pid}: {error}")


def library_of(pid: int, fresh: bool) -> str:
    """The binary that holds, or will hold, the allocator of a process.

    Of one whose program has not run yet nothing is mapped but the program and its interpreter: its C library is
    taken for the one that we use.  A program without an interpreter has its allocator in itself.
    """
    if not fresh:
        return "libc" if any("/libc." in name or "/libc-" in name for name in _mapped_files(pid)) else ""
    if len(_mapped_files(pid)) < 2:
        return ""
    for name in _mapped_files(os.getpid()):
        if name.rpartition("/")[2].startswith(("libc.so", "libc-")):
            return name
    raise NoSuchSymbol("there is no C library in this process to look for in another")


def _mapped_files(pid: int) -> set[str]:
    with open(f"/proc/{pid}/maps", encoding="utf-8", errors="surrogateescape") as file:
        return {f"/{path}" for line in file if (path := line.rstrip("\n").partition("/")[2])}
