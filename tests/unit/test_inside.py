"""What is looked at inside a target is the sum over its processes, and nothing of those that have ended."""

from __future__ import annotations

import asyncio
import math
import os
import threading
import time

import pytest

from osdetectord import tasks
from osdetectord.collectors.block import Latency
from osdetectord.collectors.histogram import Histogram
from osdetectord.collectors.syscalls import SyscallTotal
from osdetectord.errors import InvalidArgument, NoSuchTarget
from osdetectord.inside import Inside


class Counts:
    """Two processes, 10 and 20; 30 has ended."""

    WAITS = {10: (1, 0, 7, 0), 20: (0, 0, 11, 0)}  # noqa: RUF012

    def waits(self, series):
        if series not in self.WAITS:
            raise NoSuchTarget(f"no series {series}")
        return self.WAITS[series]

    def block_latency(self, series):
        return Latency(Histogram(self.waits(series)), Histogram(()))

    def syscalls_of(self, series):
        assert list(series) == [10, 20, 30]
        return (SyscallTotal(3, "close", 997, 499, 7_000_000_000, 2_500_000, ((9, 499),)),)


@pytest.fixture
def inside():
    return Inside(Counts(), lambda number: {10: os.getpid(), 20: os.getpid(), 30: 2**22 - 1})


def test_waits_are_summed_bucket_by_bucket(inside):
    (wait,) = asyncio.run(inside.latency(1, "cpu")).values()

    assert wait.counts == (1, 0, 18, 0)
    assert wait.longest_s == pytest.approx(8 * 1.024e-6)
    assert 4 * 1.024e-6 < wait.p50_s < wait.p99_s <= wait.longest_s


def test_what_never_happened_has_no_quantiles(inside):
    found = asyncio.run(inside.latency(1, "block"))

    assert found["read"].counts == (1, 0, 18, 0)
    assert found["write"].counts == ()
    assert all(map(math.isnan, (found["write"].p50_s, found["write"].p99_s, found["write"].longest_s)))


def test_the_longest_of_the_last_bucket_is_not_known():
    counts = Counts()
    counts.WAITS = {10: (0, 0, 0, 1)}
    (wait,) = asyncio.run(Inside(counts, lambda number: {10: 1}).latency(1, "cpu")).values()

    assert wait.longest_s == math.inf


def test_another_kind_is_refused(inside):
    with pytest.raises(InvalidArgument, match="no latency 'tea', expected cpu or block"):
        asyncio.run(inside.latency(1, "tea"))


def test_system_calls_are_told_in_seconds(inside):
    (close,) = asyncio.run(inside.syscalls(1))

    assert (close.name, close.calls, close.errors, close.failures) == ("close", 997, 499, {"EBADF": 499})
    assert (close.total_s, close.longest_s) == pytest.approx((7.0, 0.0025))


def test_the_busiest_thread_comes_first():
    stop = threading.Event()

    def burn():
        while not stop.is_set():
            sum(range(1000))

    burner = threading.Thread(target=burn)
    burner.start()
    try:
        inside = Inside(Counts(), lambda number: {10: os.getpid()})
        (busiest,) = asyncio.run(inside.threads(1, 0.5, 1))
        everybody = asyncio.run(inside.threads(1, 0.05, 1000))
    finally:
        stop.set()
        burner.join()

    assert (busiest.pid, busiest.tid) == (os.getpid(), burner.native_id)
    assert 0 < busiest.cpu <= 1 and busiest.cpu_s > 0
    assert {os.getpid(), burner.native_id} <= {thread.tid for thread in everybody}


def test_a_thread_is_what_proc_says():
    time.sleep(0.01)
    task = tasks.task_of(os.getpid(), threading.get_native_id())

    assert task is not None
    assert task.state == "R" and task.voluntary > 0
    assert tasks.task_of(os.getpid(), 2**22 - 1) is None
