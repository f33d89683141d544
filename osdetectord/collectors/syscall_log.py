"""Layout of the records that ``syscall_log.bpf.c`` writes: each system call's entry and its end."""

from __future__ import annotations

import numpy as np

RING = "syscall_log"

PROGRAMS = {"sys_exit": "syscall_log_leave", "sys_enter": "syscall_log_enter"}
"""Raw tracepoint of each program, in the order in which they are attached."""

SMALLEST_PAGES = 1
"""Size of the ring where nobody wants the log."""

PAGES = 16384
"""Size of the ring for a reader that may sleep for two seconds at 500 000 records a second; a power of two."""

RECORD = np.dtype(
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
