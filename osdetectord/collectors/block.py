"""Requests to block devices of each process: how many, how large, and how long they took."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from osdetectord.collector import AttachKind, Attachment, Hook, Tables
from osdetectord.collectors.histogram import Histogram
from osdetectord.metric import Kind, Metric
from osdetectord.series import rows_of

READ_REQUESTS = Metric("block.read_requests", "requests", Kind.COUNTER, "reads that block devices answered")
WRITE_REQUESTS = Metric("block.write_requests", "requests", Kind.COUNTER, "writes that block devices answered")
READ_BYTES = Metric("block.read_bytes", "bytes", Kind.COUNTER, "bytes of the reads")
WRITE_BYTES = Metric("block.write_bytes", "bytes", Kind.COUNTER, "bytes of the writes")
READ_TIME = Metric("block.read_time", "s", Kind.COUNTER, "time from request to answer, summed over the reads")
WRITE_TIME = Metric("block.write_time", "s", Kind.COUNTER, "time from request to answer, summed over the writes")
OTHER_REQUESTS = Metric(
    "block.other_requests", "requests", Kind.COUNTER, "flushes, discards and other requests that move no data"
)

_PAIRS = (("requests", 1.0), ("bytes", 1.0), ("time_ns", 1e-9))


@dataclass(frozen=True, slots=True)
class Latency:
    """How long a process's requests took."""

    reads: Histogram
    writes: Histogram

    @classmethod
    def of(cls, value: Any) -> Latency:
        """From a record of the table ``block``; None for a process without requests."""
        if value is None:
            return cls(Histogram(()), Histogram(()))
        return cls(*(Histogram(tuple(int(count) for count in counts)) for counts in value["bucket"]))


class BlockCollector:
    """Requests by the thread that made them, until the device answers.

    Hot path: one hash lookup at each of the three steps of a stranger's request; two lookups, an insertion and a
    deletion more for a watched thread's.
    """

    name = "block"
    source = "block.bpf.c"
    metrics: tuple[Metric, ...] = (
        *(READ_REQUESTS, WRITE_REQUESTS, READ_BYTES, WRITE_BYTES, READ_TIME, WRITE_TIME),
        OTHER_REQUESTS,
    )
    hooks: tuple[Hook, ...] = (
        Hook(
            "raw tracepoints block_io_start, block_rq_issue, block_rq_merge, block_rq_complete",
            (
                # ends first: what starts from now on also ends
                Attachment("block_complete", AttachKind.RAW_TRACEPOINT, "block_rq_complete"),
                Attachment("block_merge", AttachKind.RAW_TRACEPOINT, "block_rq_merge"),
                Attachment("block_issue", AttachKind.RAW_TRACEPOINT, "block_rq_issue"),
                Attachment("block_start", AttachKind.RAW_TRACEPOINT, "block_io_start"),
            ),
        ),
        Hook(
            "raw tracepoints block_rq_insert, block_rq_issue, block_rq_merge, block_rq_complete",
            (
                Attachment("block_complete", AttachKind.RAW_TRACEPOINT, "block_rq_complete"),
                Attachment("block_merge", AttachKind.RAW_TRACEPOINT, "block_rq_merge"),
                Attachment("block_first", AttachKind.RAW_TRACEPOINT, "block_rq_issue"),
                Attachment("block_first", AttachKind.RAW_TRACEPOINT, "block_rq_insert"),
            ),
        ),
    )

    def read(self, tables: Tables, serials: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Requests, bytes and seconds since the process was watched, shape ``(P, 7)``."""
        out = np.zeros((len(serials), len(self.metrics)))
        keys, values = tables.read("block")
        found, at = rows_of(keys, serials)
        held = values[at]
        out[found] = np.column_stack([*(held[name] * unit for name, unit in _PAIRS), held["others"]])
        return out
