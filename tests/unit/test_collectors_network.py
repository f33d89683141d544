"""What the tables of sockets and of the effects of system calls mean."""

import numpy as np

from osdetectord.collectors import effects, layout
from osdetectord.collectors.network import NetworkCollector


class Arrays:
    """Tables of a test."""

    now_ns = 0

    def __init__(self, **tables):
        self._tables = tables

    def read(self, name):
        return self._tables[name]

    def batches(self, name):
        yield self.read(name)


def row_of(metrics, values):
    return {metric.name: value for metric, value in zip(metrics, values, strict=True) if value}


def traffic(**fields):
    value = np.zeros(1, dtype=layout.TRAFFIC)
    for name, number in fields.items():
        value[name] = number
    return value


def test_protocols_and_directions_are_kept_apart():
    collector = NetworkCollector()
    table = traffic(
        rx_bytes=[2, 3, 5, 7], tx_bytes=[11, 13, 17, 19], rx_calls=[23, 29, 31, 37], tx_calls=[41, 43, 47, 53]
    )
    out = collector.read(Arrays(traffic=(np.array([8], dtype=np.uint64), table)), np.array([7, 8], dtype=np.uint64))

    assert not out[0].any()
    assert row_of(collector.metrics, out[1]) == {
        **{
            "network.tcp_rx_bytes": 2,
            "network.udp_rx_bytes": 3,
            "network.unix_rx_bytes": 5,
            "network.other_rx_bytes": 7,
        },
        **{"network.tcp_tx_bytes": 11, "network.udp_tx_bytes": 13},
        **{"network.unix_tx_bytes": 17, "network.other_tx_bytes": 19},
        **{"network.tcp_rx_calls": 23, "network.udp_rx_calls": 29},
        **{"network.unix_rx_calls": 31, "network.other_rx_calls": 37},
        **{"network.tcp_tx_calls": 41, "network.udp_tx_calls": 43},
        **{"network.unix_tx_calls": 47, "network.other_tx_calls": 53},
    }


def test_connections_and_segments_are_their_own_columns():
    collector = NetworkCollector()
    table = traffic(opened=3, failed=5, retransmitted=7)
    key = np.array([9], dtype=np.uint64)
    (out,) = collector.read(Arrays(traffic=(key, table)), key)

    assert row_of(collector.metrics, out) == {
        "network.opened": 3,
        "network.failed": 5,
        "network.retransmitted": 7,
    }


def test_effects_of_system_calls_are_read_by_name():
    key = np.array([4], dtype=np.uint64)
    table = np.array([(2, 3, 5, 7, 11)], dtype=layout.EFFECTS)
    none, some = effects.read(Arrays(effects=(key, table)), np.array([3, 4], dtype=np.uint64))

    assert not none.any()
    assert row_of(effects.METRICS, some) == {
        "memory.mapped_bytes": 2,
        "memory.unmapped_bytes": 3,
        "memory.heap_grown_bytes": 5,
        "memory.heap_shrunk_bytes": 7,
        "network.accepted": 11,
    }


def test_without_a_process_nothing_is_read():
    collector = NetworkCollector()
    table = (np.zeros(0, dtype=np.uint64), np.zeros(0, dtype=layout.TRAFFIC))

    assert collector.read(Arrays(traffic=table), np.zeros(0, dtype=np.uint64)).shape == (0, len(collector.metrics))
