"""Layouts of the kernel's tables and the constants that the ``.bpf.c`` sources and Python share."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

WAIT_BUCKETS = 24
"""Run-queue waits are counted by power of two microseconds, up to more than 8 s."""

SUSPECT_SLOTS = 32768

FOLLOW, EXITED, REMOVED, BORN = 1, 2, 4, 8
"""Bits of ``process.flags``."""

LOST = ("threads", "processes", "syscalls", "events", "logged", "traffic", "effects", "requests")
"""Causes, in the order of the table ``lost``."""

NUMBERS = (
    *("brk", "mmap", "mremap", "munmap", "accept", "accept4", "splice", "sendfile"),
    *("read", "readv", "preadv2", "recvfrom", "recvmsg", "recvmmsg"),
    *("write", "writev", "pwritev2", "sendto", "sendmsg", "sendmmsg"),
)
"""System calls that the sources know by number, ``NR_name`` there."""

SERIAL = np.dtype("<u8")

THREAD = np.dtype(
    [
        ("serial", "<u8"),
        ("task", "<u8"),
        ("entered_ns", "<u8"),
        ("on_ns", "<u8"),
        ("queued_ns", "<u8"),
        ("cpu_ns", "<u8"),
        ("argument", "<u8"),
        ("first", "<u8"),
        ("nr", "<u4"),
        ("logged", "<u4"),
        ("named", "<u4"),
        ("unused", "<u4"),
    ]
)

ENDED = ("min_flt", "maj_flt", "utime_ns", "stime_ns", "rchar", "wchar", "read_bytes", "write_bytes")
"""What the kernel keeps of the threads that ended."""

PROCESS = np.dtype(
    [
        ("start_ns", "<u8"),
        ("parent", "<u8"),
        ("stamps_ns", "<u8"),
        ("exited_ns", "<u8"),
        *((name, "<u8") for name in ENDED),
        ("threads", "<u4"),
        ("execs", "<u4"),
        ("flags", "<u4"),
        ("exit_code", "<u4"),
        ("pid", "<u4"),
        ("parent_pid", "<u4"),
        ("tgid", "<u4"),
        ("uid", "<u4"),
        ("comm", "S16"),
    ]
)

TOTALS = np.dtype([("on_ns", "<u8"), ("queued_ns", "<u8"), ("voluntary", "<u8"), ("involuntary", "<u8")])

WAITS = np.dtype([("bucket", "<u8", WAIT_BUCKETS)])

SETTINGS = np.dtype(
    [
        ("ns", "<u8"),
        *((name, "<u4") for name in ("level", "strangers", "cpu_served", "packets", "log", "registers")),
    ]
)

ANSWER = np.dtype(
    [("serial", "<u8"), ("start_ns", "<u8"), ("tid", "<u4"), ("tgid", "<u4"), ("pid", "<u4"), ("flags", "<u4")]
)

EVENT = np.dtype([("start_ns", "<u8"), ("pid", "<u4"), ("unused", "<u4")])

CALL = np.dtype([("serial", "<u8"), ("nr", "<u4"), ("unused", "<u4")])

CALLS = np.dtype([("count", "<u8"), ("errors", "<u8"), ("total_ns", "<u8"), ("longest_ns", "<u8")])

FAILURE = np.dtype([("serial", "<u8"), ("nr", "<u4"), ("error", "<u4")])

FAILED = np.dtype([("count", "<u8")])

EFFECTS = np.dtype([(name, "<u8") for name in ("mapped", "unmapped", "heap_grown", "heap_shrunk", "accepted")])

PROTOCOLS = ("tcp", "udp", "unix", "other")

TRAFFIC = np.dtype(
    [
        *((name, "<u8", len(PROTOCOLS)) for name in ("rx_bytes", "tx_bytes", "rx_calls", "tx_calls")),
        *((name, "<u8") for name in ("opened", "failed", "retransmitted")),
    ]
)

PACKETS = np.dtype([("rx", "<u8"), ("tx", "<u8")])

DIRECTIONS = ("read", "write")

BLOCK = np.dtype(
    [
        *((name, "<u8", len(DIRECTIONS)) for name in ("requests", "bytes", "time_ns")),
        ("others", "<u8"),
        ("bucket", "<u8", (len(DIRECTIONS), WAIT_BUCKETS)),
    ]
)

REQUEST = np.dtype([("serial", "<u8"), ("start_ns", "<u8"), ("bytes", "<u4"), ("op", "<u4")])


@dataclass(frozen=True, slots=True)
class Table:
    """Layout of one table of the kernel part."""

    key: np.dtype[np.generic]
    value: np.dtype[np.generic]
    per_cpu: bool = False


U32 = np.dtype("<u4")

TABLES = {
    "threads": Table(U32, THREAD),
    "processes": Table(SERIAL, PROCESS),
    "totals": Table(SERIAL, TOTALS, per_cpu=True),
    "waits": Table(SERIAL, WAITS),
    "suspects": Table(U32, U32),
    "settings": Table(U32, SETTINGS),
    "answers": Table(U32, ANSWER),
    "lost": Table(U32, np.dtype("<u8"), per_cpu=True),
    "syscalls": Table(CALL, CALLS, per_cpu=True),
    "failures": Table(FAILURE, FAILED, per_cpu=True),
    "effects": Table(SERIAL, EFFECTS, per_cpu=True),
    "traffic": Table(SERIAL, TRAFFIC, per_cpu=True),
    "packets": Table(SERIAL, PACKETS, per_cpu=True),
    "block": Table(SERIAL, BLOCK),
    "requests": Table(np.dtype("<u8"), REQUEST),
}

BY_SERIAL = ("processes", "totals", "waits", "effects", "traffic", "packets", "block")
"""Tables with at most one entry for each process."""

BY_CALL = ("syscalls", "failures")
"""Tables with entries for each system call of a process."""

MAX_REQUESTS = 16384
"""Requests to block devices that are under way at once, of watched processes."""

MAX_SOCKETS = 32768
"""TCP sockets of which it is known for whom they work."""

RING = "events"
