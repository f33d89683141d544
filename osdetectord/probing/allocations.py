"""What processes hold of the memory that their allocator gave them, and on which stacks they asked for it.

Every call of the allocator pays for at least one breakpoint, so that this is never on by default: the price on
this machine is measured first, on a process of our own.
"""

from __future__ import annotations

import errno
import os
import select
import subprocess
import sys
import threading
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.bpf.uprobe import Uprobes
from osdetectord.collectors import uprobe
from osdetectord.errors import (
    InvalidArgument,
    NoSuchProcess,
    NoSuchSymbol,
    NoSuchTarget,
    OsdetectorError,
    TooManyTargets,
    Unsupported,
)
from osdetectord.probing import mapping
from osdetectord.probing.instruction import LOOK_AHEAD, cheapest
from osdetectord.probing.location import Location
from osdetectord.probing.probes import Detached, HasUprobes
from osdetectord.process import Process, ProcessInfo

DEFAULT_BUDGET = 100_000
"""Calls of the allocator per second, over all its functions, at which a process is let go."""

WINDOW_NS = 1_000_000_000

FUNCTIONS: Mapping[str, tuple[int, bool]] = {
    # freeing first: what is allocated meanwhile and freed is then not taken for outstanding
    "free": (uprobe.ALLOCATE_FREE, False),
    "cfree": (uprobe.ALLOCATE_FREE, False),
    "realloc": (uprobe.ALLOCATE_AGAIN, True),
    "reallocarray": (uprobe.ALLOCATE_AGAIN_PRODUCT, True),
    "malloc": (uprobe.ALLOCATE_SIZE, True),
    "calloc": (uprobe.ALLOCATE_PRODUCT, True),
    "memalign": (uprobe.ALLOCATE_ALIGNED, True),
    "aligned_alloc": (uprobe.ALLOCATE_ALIGNED, True),
    "posix_memalign": (uprobe.ALLOCATE_POSIX, True),
    "valloc": (uprobe.ALLOCATE_SIZE, True),
    "pvalloc": (uprobe.ALLOCATE_SIZE, True),
}
"""Function of an allocator -> how it takes its arguments, and whether it returns memory."""

NEEDED = ("malloc", "free")


@dataclass(frozen=True, slots=True)
class Stack:
    """Who allocated: functions, the innermost first, and what is outstanding of it."""

    frames: tuple[str, ...]
    bytes: int
    count: int


@dataclass(frozen=True, slots=True)
class AllocationView:
    """What a process holds.

    Parameters
    ----------
    pid
        Which process.
    bytes, count
        Allocated since it is watched and not yet freed.
    allocated_bytes, allocations
        All that was allocated since then.
    frees, unknown_frees
        Calls of free, and those of them that freed what had been allocated before.
    state
        ``on``, ``over budget`` or ``ended``.
    """

    pid: int
    bytes: int
    count: int
    allocated_bytes: int
    allocations: int
    frees: int
    unknown_frees: int
    state: str


@dataclass(frozen=True, slots=True)
class Price:
    """What watching costs a process, nanoseconds per call, and what the calls cost without."""

    malloc_ns: float
    free_ns: float
    pair_before_ns: float

    def __str__(self) -> str:
        pair = self.malloc_ns + self.free_ns
        return (
            f"each malloc takes {self.malloc_ns / 1000:.1f} us longer and each free {self.free_ns / 1000:.1f} us: "
            f"a process that calls both 10000 times a second loses {pair * 10_000 / 1e7:.1f} % of a CPU"
        )


@dataclass(slots=True)
class _Owner:
    # in the kernel's tables; another after an execution, while people keep the first
    number: int
    pid: int
    library: str
    budget: int
    links: list[int]
    names: mapping.Names
    state: str = "on"
    window_ns: int = 0
    window_calls: int = 0


@dataclass(slots=True)
class _Functions:
    places: dict[str, mapping.Place] = field(default_factory=dict)

    def close(self) -> None:
        for place in self.places.values():
            place.close()


class Allocations:
    """Outstanding allocations of some processes.  Any thread may call; one at a time is served."""

    def __init__(self, kernel: HasUprobes) -> None:
        self._uprobes: Uprobes = kernel.uprobes
        self._lock = threading.RLock()
        self._owners: dict[int, _Owner] = {}
        self._next = 1
        self._now_ns = 0

    def price(self) -> Price:
        """Measure on a child process what watching costs here; takes about a tenth of a second."""
        self._check()
        with _Calibration() as child:
            malloc_before, free_before = child.measure()
            owner = self.add(child.pid, budget=1 << 40)
            try:
                malloc_after, free_after = child.measure()
            finally:
                self.remove(owner)
        return Price(
            malloc_ns=max(0.0, malloc_after - malloc_before),
            free_ns=max(0.0, free_after - free_before),
            pair_before_ns=malloc_before + free_before,
        )

    def _check(self) -> None:
        if not self._uprobes.way:
            raise Unsupported(f"allocations can't be watched here: {self._uprobes.why}")

    def add(self, pid: int, *, library: str = "libc", budget: int = DEFAULT_BUDGET) -> int:
        """Watch the allocations of a process from now on; returns their number.

        Parameters
        ----------
        pid
            Of the daemon's namespace.
        library
            The binary that holds the allocator, as in :class:`osdetectord.probing.location.Location`: ``libc``,
            ``jemalloc``, ``tcmalloc``, or nothing for a statically linked program.
        budget
            Calls per second at which it is let go.

        Raises
        ------
        OsdetectorError
            If the process or its allocator is not there, or can't be probed.
        """
        self._check()
        if budget < 1:
            raise InvalidArgument(f"budget {budget}, expected at least one call per second")
        with self._lock:
            if len(self._owners) >= uprobe.CAPACITY["allocation_sums"]:
                raise TooManyTargets(f"allocations of {len(self._owners)} processes are watched already")
            if any(owner.pid == pid and owner.state == "on" for owner in self._owners.values()):
                raise InvalidArgument(f"the allocations of process {pid} are watched already")
            functions = _functions(library, pid)
            try:
                owner = self._attach(pid, library, budget, functions)
            finally:
                functions.close()
            self._owners[owner.number] = owner
            return owner.number

    def _attach(self, pid: int, library: str, budget: int, functions: _Functions) -> _Owner:
        number = self._next
        self._next += 1
        owner = _Owner(number, pid, library, budget, [], mapping.Names(pid), window_ns=self._now_ns)
        nothing = np.zeros(1, dtype=uprobe.ALLOCATION_SUM)
        self._uprobes.maps["allocation_sums"].set(number.to_bytes(8, "little"), nothing.tobytes())
        try:
            for name, (kind, returns) in FUNCTIONS.items():
                if name in functions.places:
                    self._link(owner, functions.places[name], number << 8 | kind, returns)
        except OSError as error:
            self._let_go(owner)
            self._forget(owner)
            if error.errno == errno.ESRCH:
                raise NoSuchProcess(f"no process {pid}") from None
            raise Unsupported(f"the allocator of process {pid} can't be probed: {error.strerror}") from None
        return owner

    def _link(self, owner: _Owner, place: mapping.Place, cookie: int, returns: bool) -> None:
        # the return first: without its entry it is passed over
        if returns:
            owner.links += self._uprobes.attach("allocation_return", place.path, place.offset, cookie, owner.pid, True)
        code = os.pread(place.fd, LOOK_AHEAD, place.offset)
        owner.links += self._uprobes.attach(
            "allocation_enter", place.path, place.offset + cheapest(code), cookie, owner.pid, False
        )

    def remove(self, number: int) -> None:
        """Let a process go and forget its allocations; raises NoSuchTarget."""
        with self._lock:
            owner = self._owners.pop(number, None)
            if owner is None:
                raise NoSuchTarget(f"no allocations {number}")
            self._let_go(owner)
            self._forget(owner)

    def close(self) -> None:
        """Let all go."""
        with self._lock:
            for number in list(self._owners):
                self.remove(number)

    def _let_go(self, owner: _Owner) -> None:
        for fd in owner.links:
            os.close(fd)
        owner.links = []

    def _forget(self, owner: _Owner) -> None:
        maps = self._uprobes.maps
        maps["allocation_sums"].delete(np.array([owner.number], dtype=np.uint64))
        stacks = self._of(owner, "allocation_stack_sums")[0]
        maps["allocations"].delete(self._of(owner, "allocations")[0])
        maps["allocation_stack_sums"].delete(stacks)
        others = set(maps["allocation_stack_sums"].read()[0]["stack"].tolist())
        unused = [stack for stack in stacks["stack"].tolist() if stack not in others]
        maps["allocation_stacks"].delete(np.array(unused, dtype=np.uint32))

    def _of(self, owner: _Owner, table: str) -> tuple[NDArray[Any], NDArray[Any]]:
        keys, values = self._uprobes.maps[table].read()
        mine = keys["owner"] == owner.number
        return keys[mine], values[mine]

    def tick(
        self, now_ns: int, execed: Sequence[ProcessInfo] = (), exited: Sequence[Process] = ()
    ) -> tuple[Detached, ...]:
        """Follow executions and ends, and let go who calls its allocator more often than its budget allows."""
        with self._lock:
            self._now_ns = now_ns
            gone = {process.pid for process in exited}
            anew = {info.process.pid for info in execed}
            out = []
            for number, owner in list(self._owners.items()):
                if owner.state != "on":
                    continue
                if owner.pid in gone:
                    self._let_go(owner)
                    owner.state = "ended"
                    continue
                if owner.pid in anew:
                    owner = self._owners[number] = self._again(owner)
                owner.names.refresh()
                out += self._enforce(number, owner, now_ns)
            return tuple(out)

    def _again(self, owner: _Owner) -> _Owner:
        """A process that has executed a program holds nothing any more: it is counted anew."""
        self._let_go(owner)
        self._forget(owner)
        try:
            functions = _functions(owner.library, owner.pid)
        except (OsdetectorError, OSError):
            owner.state = "ended"
            return owner
        try:
            return self._attach(owner.pid, owner.library, owner.budget, functions)
        except (OsdetectorError, OSError):
            owner.state = "ended"
            return owner
        finally:
            functions.close()

    def _enforce(self, number: int, owner: _Owner, now_ns: int) -> list[Detached]:
        if not owner.window_ns:
            owner.window_ns = now_ns
            return []
        view = self._view(owner)
        calls = view.allocations + view.frees
        elapsed = now_ns - owner.window_ns
        count = calls - owner.window_calls
        if elapsed >= WINDOW_NS:
            owner.window_ns, owner.window_calls = now_ns, calls
        if count <= owner.budget * max(elapsed, WINDOW_NS) * 1e-9:
            return []
        self._let_go(owner)
        owner.state = "over budget"
        rate = count / (elapsed * 1e-9) if elapsed > 0 else float(count)
        return [Detached(number, f"the allocator of process {owner.pid}", rate, owner.budget)]

    def view(self, number: int) -> AllocationView:
        """What a process holds; raises NoSuchTarget."""
        with self._lock:
            return self._view(self._owner(number))

    def _owner(self, number: int) -> _Owner:
        owner = self._owners.get(number)
        if owner is None:
            raise NoSuchTarget(f"no allocations {number}")
        return owner

    def _view(self, owner: _Owner) -> AllocationView:
        value = self._uprobes.maps["allocation_sums"].get(owner.number.to_bytes(8, "little"))
        if value is None:
            value = np.zeros(1, dtype=uprobe.ALLOCATION_SUM)[0]
        return AllocationView(
            pid=owner.pid,
            bytes=int(value["bytes"]),
            count=int(value["count"]),
            allocated_bytes=int(value["allocated_bytes"]),
            allocations=int(value["allocations"]),
            frees=int(value["frees"]),
            unknown_frees=int(value["unknown_frees"]),
            state=owner.state,
        )

    def lost(self) -> dict[str, int]:
        """What was lost since the load, by cause."""
        return self._uprobes.lost(uprobe.LOST_OF_ALLOCATIONS)

    def list(self) -> tuple[tuple[int, AllocationView], ...]:
        """All of them, with their numbers."""
        with self._lock:
            return tuple((number, self._view(owner)) for number, owner in self._owners.items())

    def top(self, number: int, count: int = 10) -> tuple[Stack, ...]:
        """Stacks with the most outstanding bytes, most first; raises NoSuchTarget.

        Frames beyond the innermost are found by frame pointers: code that was compiled without them hides its
        callers.
        """
        with self._lock:
            owner = self._owner(number)
            keys, sums = self._of(owner, "allocation_stack_sums")
            order = np.argsort(sums["bytes"])[::-1][:count]
            owner.names.refresh()
            out = []
            for index in order:
                if sums["bytes"][index] <= 0:
                    break
                held = self._uprobes.maps["allocation_stacks"].get(int(keys["stack"][index]).to_bytes(4, "little"))
                addresses = [] if held is None else [int(address) for address in held["address"] if address]
                # all but the innermost are return addresses: the call is just before them
                names = tuple(owner.names.name(address - 1) for address in addresses)
                out.append(Stack(names, int(sums["bytes"][index]), int(sums["count"][index])))
            return tuple(out)


def _functions(library: str, pid: int) -> _Functions:
    found = _Functions()
    try:
        for name in FUNCTIONS:
            try:
                place = mapping.find(Location(library, name), pid)
            except NoSuchSymbol:
                if name in NEEDED:
                    raise
                continue
            # cfree is free under another name, and so on: once is enough
            if any(place.offset == other.offset for other in found.places.values()):
                place.close()
                continue
            found.places[name] = place
    except BaseException:
        found.close()
        raise
    return found


CALIBRATION = """
import ctypes, sys, time
libc = ctypes.CDLL(None)
malloc, free = libc.malloc, libc.free
malloc.restype = ctypes.c_void_p
free.argtypes = (ctypes.c_void_p,)
clock = time.perf_counter_ns
print(flush=True)
for line in sys.stdin:
    taking = giving = 1 << 62
    for _ in range(8):
        begun = clock()
        held = [malloc(64) for _ in range(128)]
        taken = clock()
        for address in held:
            free(address)
        given = clock()
        taking, giving = min(taking, taken - begun), min(giving, given - taken)
    print(taking / 128, giving / 128, flush=True)
"""


ANSWER_S = 10.0
"""Then a child that is stopped, or has no CPU to run on, is given up."""


class _Calibration:
    """A child that calls malloc and free when it is asked to."""

    def __enter__(self) -> _Calibration:
        try:
            # unbuffered: what select sees is all there is
            self._child = subprocess.Popen(
                [sys.executable, "-I", "-S", "-c", CALIBRATION],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                bufsize=0,
            )
        except OSError as error:
            raise Unsupported(f"no process to measure the price on: {error.strerror}") from None
        self.pid = self._child.pid
        try:
            self._answer()
        except BaseException:
            self.__exit__()
            raise
        return self

    def _answer(self) -> bytes:
        assert self._child.stdout is not None
        ready = select.poll()  # select() knows no descriptor beyond 1023
        ready.register(self._child.stdout, select.POLLIN)
        if not ready.poll(ANSWER_S * 1000):
            raise Unsupported(f"the process on which the price is measured says nothing for {ANSWER_S:g} s")
        # one write of the child, of less than PIPE_BUF: the whole line is there
        line = self._child.stdout.readline()
        if not line:
            raise Unsupported("the process on which the price is measured has ended")
        return line

    def measure(self) -> tuple[float, float]:
        """Nanoseconds that one malloc and one free take."""
        assert self._child.stdin is not None
        with suppress(BrokenPipeError):  # it has ended, as the answer will say
            self._child.stdin.write(b"\n")
        taking, giving = self._answer().split()
        return float(taking), float(giving)

    def __exit__(self, *_: object) -> None:
        self._child.kill()
        self._child.communicate()
