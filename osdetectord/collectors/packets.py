"""TCP segments of each process's connections, acknowledgements and repetitions included; only where asked for."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osdetectord.collector import AttachKind, Attachment, Hook, Tables
from osdetectord.metric import Kind, Metric
from osdetectord.series import rows_of

RECEIVED = Metric("packets.tcp_rx", "packets", Kind.COUNTER, "TCP segments received, acknowledgements included")
SENT = Metric("packets.tcp_tx", "packets", Kind.COUNTER, "TCP segments sent, acknowledgements and repetitions included")

_STATES = Attachment("packets_state", AttachKind.RAW_TRACEPOINT, "inet_sock_set_state")


class PacketCollector:
    """The kernel's own counters of each connection, read when a watched process uses it and when it closes.

    Hot path: one array access for a stranger's transfer; for a watched thread's over TCP two hash lookups and four
    reads of the socket.
    """

    name = "packets"
    source = "packets.bpf.c"
    metrics: tuple[Metric, ...] = (RECEIVED, SENT)
    hooks: tuple[Hook, ...] = (
        Hook(
            "raw tracepoints sock_send_length, sock_recv_length, inet_sock_set_state",
            (
                Attachment("packets_moved", AttachKind.RAW_TRACEPOINT, "sock_send_length"),
                Attachment("packets_moved", AttachKind.RAW_TRACEPOINT, "sock_recv_length"),
                _STATES,
            ),
        ),
        Hook(
            "raw tracepoints tcp_rcv_space_adjust, inet_sock_set_state",
            (Attachment("packets_moved", AttachKind.RAW_TRACEPOINT, "tcp_rcv_space_adjust"), _STATES),
        ),
    )

    def read(self, tables: Tables, serials: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Segments since the process was watched, shape ``(P, 2)``."""
        out = np.zeros((len(serials), len(self.metrics)))
        keys, values = tables.read("packets")
        found, at = rows_of(keys, serials)
        held = values[at]
        out[found] = np.column_stack([held["rx"], held["tx"]])
        return out
