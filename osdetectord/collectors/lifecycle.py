"""Which processes and threads there are: followed from fork, exec and exit in the kernel."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osdetectord.collector import AttachKind, Attachment, Hook, Tables
from osdetectord.metric import Metric


class LifecycleCollector:
    """Follows births, executions and deaths; has no metric of its own.

    Everything it knows of a process stands in the table ``processes`` until it is read after the
    process's end, so that nothing depends on a message that may get lost.
    """

    name = "lifecycle"
    source = "lifecycle.bpf.c"
    metrics: tuple[Metric, ...] = ()
    hooks: tuple[Hook, ...] = (
        Hook(
            "raw tracepoints sched_process_fork, sched_process_exec, sched_process_exit",
            (
                # exit first: whoever gets in from now on is also let out
                Attachment("lifecycle_exit", AttachKind.RAW_TRACEPOINT, "sched_process_exit"),
                Attachment("lifecycle_exec", AttachKind.RAW_TRACEPOINT, "sched_process_exec"),
                Attachment("lifecycle_fork", AttachKind.RAW_TRACEPOINT, "sched_process_fork"),
            ),
        ),
        Hook("/proc (polled)", ()),
    )

    def read(self, tables: Tables, serials: NDArray[np.uint64]) -> NDArray[np.float64]:
        return np.zeros((len(serials), 0))
