"""What the table of requests to block devices means, and what counts by power of two tell of quantiles."""

import math

import numpy as np
import pytest

from osdetectord.collectors import layout
from osdetectord.collectors.block import BlockCollector, Latency
from osdetectord.collectors.histogram import UNIT_S, Histogram


class Arrays:
    """Tables of a test."""

    now_ns = 0

    def __init__(self, **tables):
        self._tables = tables

    def read(self, name):
        return self._tables[name]

    def batches(self, name):
        yield self.read(name)


def record():
    value = np.zeros(1, dtype=layout.BLOCK)
    value["requests"], value["bytes"], value["time_ns"] = [2, 3], [4096, 8192], [5_000_000_000, 7_000_000_000]
    value["others"] = 11
    value["bucket"][0, 0, 4], value["bucket"][0, 1, 5] = 2, 3
    return value


def test_reads_writes_and_others_are_kept_apart_and_time_is_in_seconds():
    collector = BlockCollector()
    tables = Arrays(block=(np.array([8], dtype=np.uint64), record()))
    none, some = collector.read(tables, np.array([7, 8], dtype=np.uint64))

    assert not none.any()
    assert dict(zip((metric.name for metric in collector.metrics), some, strict=True)) == {
        "block.read_requests": 2,
        "block.write_requests": 3,
        "block.read_bytes": 4096,
        "block.write_bytes": 8192,
        "block.read_time": 5,
        "block.write_time": 7,
        "block.other_requests": 11,
    }


def test_latency_is_that_of_reads_and_that_of_writes():
    latency = Latency.of(record()[0])

    assert (latency.reads.total, latency.writes.total) == (2, 3)
    assert 2**4 * UNIT_S <= latency.reads.quantile(0.5) <= 2**5 * UNIT_S
    assert 2**5 * UNIT_S <= latency.writes.quantile(0.5) <= 2**6 * UNIT_S


def test_a_process_without_requests_has_no_quantile():
    latency = Latency.of(None)

    assert (latency.reads.total, latency.writes.total) == (0, 0)
    assert math.isnan(latency.reads.quantile(0.5))


@pytest.mark.parametrize(
    ("q", "units"),
    [(0.0, 0.0), (0.25, 1.0), (0.5, 2.0), (0.75, 8.0 + 8.0 / 2), (1.0, 16.0)],
)
def test_a_quantile_lies_within_its_power_of_two(q, units):
    # half below 2 units, half in [8, 16)
    assert Histogram((10, 0, 0, 10)).quantile(q) == pytest.approx(units * UNIT_S)


def test_quantiles_of_real_durations_are_off_by_less_than_a_factor_of_two():
    durations = np.exp(np.random.default_rng(7).normal(7.0, 1.5, 10_007))
    powers = np.clip(np.floor(np.log2(np.maximum(durations, 1))), 0, layout.WAIT_BUCKETS - 1).astype(int)
    histogram = Histogram(tuple(np.bincount(powers, minlength=layout.WAIT_BUCKETS).tolist()))

    for q in (0.1, 0.5, 0.9, 0.99):
        assert 0.5 < histogram.quantile(q) / (float(np.quantile(durations, q)) * UNIT_S) < 2
