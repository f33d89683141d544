"""Kilobytes that processes receive from and send to sockets: payload, counted for who moves it."""

from __future__ import annotations

from collections.abc import Sequence

from osdetectord.collectors.network import TRAFFIC
from osdetectord.metric import Metric
from osdetectord.snoop.moment import Moment, Row

METRICS: tuple[str, ...] = ("RX_KB", "TX_KB")
KB = 1024
RECEIVED: Sequence[Metric] = [m for m in TRAFFIC if m.name.endswith("_rx_bytes") and "unix" not in m.name]
SENT: Sequence[Metric] = [m for m in TRAFFIC if m.name.endswith("_tx_bytes") and "unix" not in m.name]


class Network:
    """Bytes over network sockets; UNIX sockets reach no network."""

    metrics, judged, named = METRICS, METRICS, True
    decimals = 2

    def rows(self, moment: Moment) -> list[Row]:
        return [
            Row(
                series,
                0,
                info.process.pid,
                info.comm,
                (sum(moment.rise(series, m) for m in RECEIVED) / KB, sum(moment.rise(series, m) for m in SENT) / KB),
            )
            for series, info in moment.everybody()
        ]
