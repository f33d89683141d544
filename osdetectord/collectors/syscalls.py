"""System calls of each process: how many, how many failed, and how long they took."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.collector import AttachKind, Attachment, Hook, Tables
from osdetectord.collectors import effects
from osdetectord.collectors.syscall_names import CLASS_NAMES, class_index, name_of, number_of
from osdetectord.metric import Kind, Metric
from osdetectord.series import rows_of

CALLS = Metric("syscalls.calls", "calls", Kind.COUNTER, "system calls that returned")
ERRORS = Metric("syscalls.errors", "calls", Kind.COUNTER, "system calls that returned an error")
CLASS_CALLS = tuple(
    Metric(f"syscalls.{name}_calls", "calls", Kind.COUNTER, f"system calls of class {name} that returned")
    for name in CLASS_NAMES
)
CLASS_TIME = tuple(
    Metric(f"syscalls.{name}_time", "s", Kind.COUNTER, f"time in system calls of class {name}, counted at their return")
    for name in CLASS_NAMES
)


EACH = np.dtype([("series", "<u8"), ("nr", "<u4"), ("count", "<u8"), ("errors", "<u8"), ("total_ns", "<u8")])
"""One system call of one process; ``series`` is first its position among the serials, then the series."""


@dataclass(frozen=True, slots=True)
class SyscallTotal:
    """What one system call did since it is watched, in one process or in several together."""

    number: int
    name: str
    count: int
    errors: int
    total_ns: int
    longest_ns: int
    failures: tuple[tuple[int, int], ...] = ()
    """How many of the errors were which, by number of the error."""


class SyscallCollector:
    """Counts, errors and times of system calls, by process and class; single numbers on demand.

    Hot path: one array access for a stranger; one hash lookup when a watched thread's call enters and two
    when it leaves.  The calls by which the kernel hears of a probed function are nobody's and not counted.
    """

    name = "syscalls"
    source = "syscalls.bpf.c"
    metrics: tuple[Metric, ...] = (CALLS, ERRORS, *CLASS_CALLS, *CLASS_TIME, *effects.METRICS)
    hooks: tuple[Hook, ...] = (
        Hook(
            "raw tracepoints sys_enter, sys_exit",
            (
                Attachment("syscalls_leave", AttachKind.RAW_TRACEPOINT, "sys_exit"),
                Attachment("syscalls_enter", AttachKind.RAW_TRACEPOINT, "sys_enter"),
            ),
        ),
        Hook(
            "tracepoints raw_syscalls:sys_enter, raw_syscalls:sys_exit",
            (
                Attachment("syscalls_leave_classic", AttachKind.TRACEPOINT, "raw_syscalls:sys_exit"),
                Attachment("syscalls_enter_classic", AttachKind.TRACEPOINT, "raw_syscalls:sys_enter"),
            ),
        ),
    )

    def __init__(self) -> None:
        self._class = class_index()
        self._without_return = np.array([number_of("exit"), number_of("exit_group")])

    def read(self, tables: Tables, serials: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Calls, seconds and effects since the process was watched, shape ``(P, 2 + 2 * classes + 5)``."""
        classes = len(CLASS_NAMES)
        count = np.zeros(len(serials) * classes)
        errors = np.zeros(len(serials))
        seconds = np.zeros(len(serials) * classes)
        for keys, values in tables.batches("syscalls"):
            found, at = rows_of(serials, keys["serial"])
            cell = at * classes + self._kind(keys["nr"][found])
            count += np.bincount(cell, values["count"][found], len(count))
            seconds += np.bincount(cell, values["total_ns"][found] * 1e-9, len(count))
            errors += np.bincount(at, values["errors"][found], len(serials))
        # Calls under way count up to now: a thread that waits for a disk waits before it is told that it has waited.
        _, threads = tables.read("threads")
        waiting = (threads["entered_ns"] > 0) & ~np.isin(threads["nr"], self._without_return)
        threads = threads[waiting]
        found, at = rows_of(serials, threads["serial"])
        since = np.maximum(tables.now_ns - threads["entered_ns"][found].astype(np.int64), 0)
        seconds += np.bincount(at * classes + self._kind(threads["nr"][found]), since * 1e-9, len(seconds))
        count = count.reshape(-1, classes)
        of_class = (count, seconds.reshape(-1, classes))
        return np.column_stack((count.sum(axis=1), errors, *of_class, effects.read(tables, serials)))

    def _kind(self, numbers: NDArray[Any]) -> NDArray[np.intp]:
        """Class of each call; unknown numbers (a later kernel's, x32) are of the last one."""
        known = np.minimum(numbers, len(self._class) - 1).astype(np.intp)
        return np.where(numbers < len(self._class), self._class[known], len(CLASS_NAMES) - 1).astype(np.intp)

    def each(self, tables: Tables, serials: NDArray[np.uint64]) -> NDArray[Any]:
        """Every system call of these processes, records of :data:`EACH`; ``serials`` are rising."""
        parts = [np.zeros(0, EACH)]
        for keys, values in tables.batches("syscalls"):
            found, at = rows_of(serials, keys["serial"])
            part = np.zeros(len(found), EACH)
            part["series"], part["nr"] = at, keys["nr"][found]
            for name in ("count", "errors", "total_ns"):
                part[name] = values[name][found]
            parts.append(part)
        return np.concatenate(parts)

    def totals(self, tables: Tables, serials: Collection[int]) -> tuple[SyscallTotal, ...]:
        """Every system call that these processes made, summed over them, most time first."""
        wanted = np.array(list(serials), dtype=np.uint64)
        # the errors first: there are never more of them than the calls that are read later had
        errors: dict[int, Counter[int]] = defaultdict(Counter)
        for keys, values in tables.batches("failures"):
            found = np.flatnonzero(np.isin(keys["serial"], wanted))
            for (_, number, error), (count,) in zip(keys[found].tolist(), values[found].tolist(), strict=True):
                errors[number][error] += count
        sums: dict[int, tuple[int, int, int, int]] = {}
        for keys, values in tables.batches("syscalls"):
            found = np.flatnonzero(np.isin(keys["serial"], wanted))
            for number, row in zip(keys["nr"][found].tolist(), values[found].tolist(), strict=True):
                old = sums.get(number, (0, 0, 0, 0))
                sums[number] = (old[0] + row[0], old[1] + row[1], old[2] + row[2], max(old[3], row[3]))
        out = [
            SyscallTotal(number, name_of(number), *row, failures=tuple(errors[number].most_common()))
            for number, row in sums.items()
        ]
        return tuple(sorted(out, key=lambda total: (-total.total_ns, total.number)))
