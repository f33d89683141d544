"""What some system calls did: memory mapped and given back, the heap grown and shrunk, connections accepted."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osdetectord.collector import Tables
from osdetectord.collectors import layout
from osdetectord.metric import Kind, Metric
from osdetectord.series import rows_of

MAPPED = Metric("memory.mapped_bytes", "bytes", Kind.COUNTER, "addresses mapped by mmap and mremap, in whole pages")
UNMAPPED = Metric("memory.unmapped_bytes", "bytes", Kind.COUNTER, "addresses given back by munmap and mremap")
HEAP_GROWN = Metric("memory.heap_grown_bytes", "bytes", Kind.COUNTER, "growth of the heap by brk")
HEAP_SHRUNK = Metric("memory.heap_shrunk_bytes", "bytes", Kind.COUNTER, "shrinking of the heap by brk")
ACCEPTED = Metric("network.accepted", "connections", Kind.COUNTER, "TCP connections accepted")

METRICS = (MAPPED, UNMAPPED, HEAP_GROWN, HEAP_SHRUNK, ACCEPTED)
"""In the order of the table ``effects``."""


def read(tables: Tables, serials: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Bytes and connections since each process was watched, shape ``(P, 5)``."""
    out = np.zeros((len(serials), len(METRICS)))
    keys, values = tables.read("effects")
    found, at = rows_of(keys, serials)
    for column, name in enumerate(layout.EFFECTS.names or ()):
        out[found, column] = values[name][at]
    return out
