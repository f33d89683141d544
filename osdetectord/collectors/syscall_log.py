"""The log of single system calls: what ``syscall_log.bpf.c`` tells, and the two rows that each call becomes.

The kernel part tells of a call when it leaves, and of a thread's name when it is new.  A call that has not left is
found where it is under way each time that the log is read, so that its entry is never later than that.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

RINGS = ("syscall_log", "thread_names")

PROGRAMS = {"syscall_log_rename": "task_rename"}
"""Programs that the log needs besides those of system calls, and the raw tracepoint of each."""

UNCOUNTED = {"syscall_log_leave": "sys_exit", "syscall_log_enter": "sys_enter"}
"""The same for system calls, where no collector counts them; in the order in which they are attached."""

CHUNK_RECORDS = 64
"""Records that come at once."""

SMALLEST_PAGES = 1
"""Size of the ring where nobody wants the log."""

PAGES = 8192
"""Size of the ring for a reader that may sleep for three seconds at 250 000 calls a second; a power of two."""

PAGES_OF_A_NAME_PAGE = 32
"""How much larger the ring of calls is than that of names."""

RECORD = np.dtype(
    [
        ("entered_ns", "<u8"),
        ("left_ns", "<u8"),
        ("first", "<u8"),
        ("result", "<i8"),
        ("tid", "<u4"),
        ("number", "<i4"),
    ]
)
"""A system call; ``tid`` is the kernel's own, as in the table of threads."""

NEVER_LEAVES = 1
"""Result of a call that has not left and will not."""

CHUNK = np.dtype([("busy", "<u4"), ("count", "<u4"), ("rows", "<u8"), ("records", RECORD, CHUNK_RECORDS)])

NAME = np.dtype(
    [
        ("time_ns", "<u8"),
        ("tid", "<u4"),
        ("pid", "<u4"),
        ("own_tid", "<u4"),
        ("unused", "<u4"),
        ("comm", "S16"),
    ]
)
"""Who a thread is from then on; ``pid`` and ``own_tid`` are of the daemon's namespace."""

ROW = np.dtype(
    [
        ("time_ns", "<u8"),
        ("value", "<u8"),
        ("pid", "<u4"),
        ("tid", "<u4"),
        ("number", "<i4"),
        ("leave", "<u4"),
        ("comm", "S16"),
    ]
)
"""``value`` is the first argument of a call that enters and the result of one that leaves."""

MOST_TIDS = 1 << 22  # PID_MAX_LIMIT of include/linux/threads.h

MARGIN_NS = 1_000_000
"""A program that has read the clock has written down what it read after so long, if no hypervisor held it up."""

_HEADER = struct.Struct("<qqIII")


@dataclass(frozen=True, slots=True)
class Logged:
    """What the log told at one reading.

    Parameters
    ----------
    taken_ns
        When the reading began: each call that entered before either is among the records or was told before.
    wall_ns
        What makes a time of the wall clock of a time.
    names
        Records of :data:`NAME`.
    under_way
        Records of :data:`RECORD` of calls that had not left, found by looking.
    chunks
        Records of :data:`CHUNK`.
    """

    taken_ns: int
    wall_ns: int
    names: NDArray[Any]
    under_way: NDArray[Any]
    chunks: NDArray[Any]

    def packed(self) -> list[bytes]:
        """Return what :meth:`unpacked` takes, in pieces."""
        arrays = (self.names, self.under_way, self.chunks)
        header = _HEADER.pack(self.taken_ns, self.wall_ns, *(len(array) for array in arrays))
        return [header, *(array.tobytes() for array in arrays)]

    @classmethod
    def unpacked(cls, data: bytes) -> Logged:
        """Return what was packed."""
        taken_ns, wall_ns, *lengths = _HEADER.unpack_from(data)
        at, arrays = _HEADER.size, []
        for layout, length in zip((NAME, RECORD, CHUNK), lengths, strict=True):
            arrays.append(np.frombuffer(data, layout, length, at))
            at += length * layout.itemsize
        return cls(taken_ns, wall_ns, *arrays)

    @property
    def rows(self) -> int:
        """How many rows its chunks become at most."""
        return int(self.chunks["rows"].sum())

    def records(self) -> NDArray[Any]:
        """Return all calls, those that are under way last."""
        filled = np.arange(CHUNK_RECORDS) < self.chunks["count"][:, None]
        return np.concatenate((self.chunks["records"][filled], self.under_way))


class Rows:
    """Makes rows of what the log told, in the order of their time.

    What happened less than :data:`MARGIN_NS` before a reading, or during it, waits for the next one, as what came
    before it may still come.
    """

    def __init__(self) -> None:
        self._names = np.zeros(1, NAME)  # by tid; without a time where not known
        self._told: dict[int, int] = {}
        self._last_told_ns = 0
        self._held = np.zeros(0, ROW)
        self.nameless = 0
        """Rows that there was nobody's name for, and that are not given."""

    def of(self, logged: Logged) -> NDArray[Any]:
        """Return the rows of a reading, records of :data:`ROW`; readings come in their order."""
        records = logged.records()
        entering = np.flatnonzero(self._entries(records))
        leaving = np.flatnonzero(records["left_ns"])
        at = np.concatenate((entering, leaving))
        tids = records["tid"][at]
        rows = np.zeros(len(at), ROW)
        rows["leave"][len(entering) :] = 1
        rows["time_ns"] = np.concatenate((records["entered_ns"][entering], records["left_ns"][leaving]))
        rows["value"] = np.concatenate((records["first"][entering], records["result"][leaving].view(np.uint64)))
        rows["number"] = records["number"][at]
        rows = np.concatenate((self._held, self._named(rows, tids, logged.names)))
        rows = rows.take(np.argsort(rows["time_ns"], kind="stable"))
        ready = int(np.searchsorted(rows["time_ns"], logged.taken_ns - MARGIN_NS))
        self._held = rows[ready:].copy()
        return rows[:ready]

    def rest(self) -> NDArray[Any]:
        """Return the rows that wait: there is no further reading."""
        rest, self._held = self._held, np.zeros(0, ROW)
        return rest

    def _entries(self, records: NDArray[Any]) -> NDArray[np.bool_]:
        """Whose entry is a row: calls are told while they are under way, and once more when they leave."""
        entered, left = records["entered_ns"], records["left_ns"]
        wanted: NDArray[np.bool_] = entered != 0
        for index in np.flatnonzero(wanted & (left != 0) & (entered <= self._last_told_ns)).tolist():
            tid = int(records["tid"][index])
            if self._told.get(tid) == entered[index]:
                del self._told[tid]
                wanted[index] = False
        unfinished = np.flatnonzero(left == 0).tolist()
        # found under way, some have left before the ring was read
        both = np.flatnonzero((left != 0) & np.isin(entered, entered[unfinished]))
        finished = set(zip(records["tid"][both].tolist(), entered[both].tolist(), strict=True))
        for index in unfinished:
            tid, entered_ns = int(records["tid"][index]), int(entered[index])
            wanted[index] = (tid, entered_ns) not in finished and self._told.get(tid) != entered_ns
            if wanted[index]:
                self._told[tid] = entered_ns
                self._last_told_ns = max(self._last_told_ns, entered_ns)
        for index in unfinished:
            if records["result"][index] == NEVER_LEAVES:
                self._told.pop(int(records["tid"][index]), None)
        return wanted

    def _named(self, rows: NDArray[Any], tids: NDArray[Any], names: NDArray[Any]) -> NDArray[Any]:
        """Fill in whose the rows are; returns those whose thread is known."""
        later = []
        for name in names[np.argsort(names["time_ns"], kind="stable")]:
            tid = int(name["tid"])
            self._make_room(tid)
            if self._names["time_ns"][tid]:
                later.append(name)
            else:
                self._names[tid] = name
        self._make_room(int(tids.max(initial=0)))
        known = self._names.take(tids)
        rows["pid"], rows["tid"], rows["comm"] = known["pid"], known["own_tid"], known["comm"]
        for name in later:
            self._names[name["tid"]] = name
            renamed = (tids == name["tid"]) & (rows["time_ns"] >= name["time_ns"])
            rows["pid"][renamed], rows["tid"][renamed], rows["comm"][renamed] = (
                *(name["pid"], name["own_tid"]),
                name["comm"],
            )
        missing = known["time_ns"] == 0
        if missing.any():
            self.nameless += int(missing.sum())
            rows = rows[~missing]
        return rows

    def _make_room(self, tid: int) -> None:
        size = len(self._names)
        if tid < size:
            return
        while size <= min(tid, MOST_TIDS):
            size *= 2
        # only what is used is touched, and takes memory
        names, used = np.zeros(size, NAME), np.flatnonzero(self._names["time_ns"])
        names[used] = self._names[used]
        self._names = names
