"""Where a process's time goes: on a CPU or off it, and how long it waits for one."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osdetectord.collector import AttachKind, Attachment, Hook, Tables
from osdetectord.metric import Kind, Metric
from osdetectord.series import rows_of

ON_CPU = Metric("cpu.on_cpu", "s", Kind.COUNTER, "time on a CPU, all threads")
RUN_QUEUE = Metric("cpu.run_queue", "s", Kind.COUNTER, "time runnable but waiting for a CPU, all threads")
OFF_CPU = Metric("cpu.off_cpu", "s", Kind.COUNTER, "time not on a CPU, asleep or waiting for one, all threads")
VOLUNTARY = Metric("cpu.voluntary_switches", "switches", Kind.COUNTER, "context switches to wait for something")
INVOLUNTARY = Metric("cpu.involuntary_switches", "switches", Kind.COUNTER, "context switches by preemption")

NS = 1e-9


class CpuCollector:
    """Time and switches from the scheduler's own events.

    Hot path: on each switch one array access for a stranger on either side, two hash lookups for a
    watched thread.  Time off CPU is what the threads' age leaves over, so that it passes steadily and not at
    once when a sleeper wakes.
    """

    name = "cpu"
    source = "cpu.bpf.c"
    metrics: tuple[Metric, ...] = (ON_CPU, RUN_QUEUE, OFF_CPU, VOLUNTARY, INVOLUNTARY)
    hooks: tuple[Hook, ...] = (
        Hook(
            "raw tracepoints sched_switch, sched_wakeup, sched_wakeup_new",
            (
                Attachment("cpu_switch", AttachKind.RAW_TRACEPOINT, "sched_switch"),
                Attachment("cpu_wakeup", AttachKind.RAW_TRACEPOINT, "sched_wakeup"),
                Attachment("cpu_wakeup", AttachKind.RAW_TRACEPOINT, "sched_wakeup_new"),
            ),
        ),
        Hook("/proc/PID/task/TID/schedstat and status", ()),
        Hook("/proc/PID/stat", ()),
        Hook("psutil", ()),
    )

    def read(self, tables: Tables, serials: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Seconds and switches since the process was watched."""
        out = np.full((len(serials), len(self.metrics)), np.nan)
        keys, totals = tables.read("totals")
        found, at = rows_of(keys, serials)
        held = totals[at]
        out[found, 0] = held["on_ns"] * NS
        out[found, 1] = held["queued_ns"] * NS
        out[found, 3] = held["voluntary"]
        out[found, 4] = held["involuntary"]
        keys, processes = tables.read("processes")
        found, at = rows_of(keys, serials)
        age = processes["threads"][at].astype(np.int64) * tables.now_ns - processes["stamps_ns"][at].astype(np.int64)
        out[found, 2] = age * NS - out[found, 0]
        return out
