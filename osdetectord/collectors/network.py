"""What each process sends and receives, by protocol, and what becomes of its TCP connections."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osdetectord.collector import AttachKind, Attachment, Hook, Tables
from osdetectord.collectors import layout
from osdetectord.metric import Kind, Metric
from osdetectord.series import rows_of

SOCKETS = {"tcp": "TCP sockets", "udp": "UDP sockets", "unix": "UNIX sockets", "other": "sockets of other protocols"}
"""What is meant; IPv4 and IPv6 together."""

_QUANTITIES = (
    ("rx_bytes", "bytes", "bytes received from {}"),
    ("tx_bytes", "bytes", "bytes sent to {}"),
    ("rx_calls", "calls", "receptions from {} that did not fail"),
    ("tx_calls", "calls", "transmissions to {} that did not fail"),
)

TRAFFIC = tuple(
    Metric(f"network.{protocol}_{name}", unit, Kind.COUNTER, text.format(SOCKETS[protocol]))
    for name, unit, text in _QUANTITIES
    for protocol in layout.PROTOCOLS
)
OPENED = Metric("network.opened", "connections", Kind.COUNTER, "TCP connections opened")
FAILED = Metric(
    "network.failed", "connections", Kind.COUNTER, "TCP connections refused, timed out or given up before they opened"
)
RETRANSMITTED = Metric("network.retransmitted", "segments", Kind.COUNTER, "TCP segments sent again")

_CONNECTIONS = ("opened", "failed", "retransmitted")

_STATES = (
    Attachment("network_state", AttachKind.RAW_TRACEPOINT, "inet_sock_set_state"),
    Attachment("network_retransmit", AttachKind.RAW_TRACEPOINT, "tcp_retransmit_skb"),
)


class NetworkCollector:
    """Bytes and calls where sockets tell them (Linux 6.3), or from what system calls on sockets return.

    Hot path of the first: nothing for a system call that is not about a socket; one array access for a
    stranger's transfer; two or three hash lookups for a watched thread's.
    """

    name = "network"
    source = "network.bpf.c"
    metrics: tuple[Metric, ...] = (*TRAFFIC, OPENED, FAILED, RETRANSMITTED)
    hooks: tuple[Hook, ...] = (
        Hook(
            "raw tracepoints sock_send_length, sock_recv_length, inet_sock_set_state, tcp_retransmit_skb",
            (
                Attachment("network_sent", AttachKind.RAW_TRACEPOINT, "sock_send_length"),
                Attachment("network_received", AttachKind.RAW_TRACEPOINT, "sock_recv_length"),
                *_STATES,
            ),
        ),
        Hook(
            "raw tracepoints sys_exit, inet_sock_set_state, tcp_retransmit_skb",
            (Attachment("network_leave", AttachKind.RAW_TRACEPOINT, "sys_exit"), *_STATES),
        ),
    )

    def read(self, tables: Tables, serials: NDArray[np.uint64]) -> NDArray[np.float64]:
        """Bytes, calls, connections and segments since the process was watched, shape ``(P, 19)``."""
        out = np.zeros((len(serials), len(self.metrics)))
        keys, values = tables.read("traffic")
        found, at = rows_of(keys, serials)
        held = values[at]
        out[found] = np.column_stack(
            [*(held[name] for name, _, _ in _QUANTITIES), *(held[name] for name in _CONNECTIONS)]
        )
        return out
