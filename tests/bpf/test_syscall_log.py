"""The log of single system calls, against what is known to have been called."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from osdetectord.collectors.syscall_names import name_of
from osdetectord.sampler import Sampler
from tests.bpf.conftest import tick, until
from tests.bpf.obedient import Workload

CALLS = 997
FAILURES = 499
BEYOND = 20_011
"""More system calls than the ring of the test has room for."""
ROOMY_PAGES = 8192
MANY = 700_001
"""System calls that go round the ring of ROOMY_PAGES twice."""
PAGES = 128
SIZE = 56
"""Bytes of a record with its header."""


@pytest.fixture(scope="module")
def logging() -> Iterator[Sampler]:
    sampler = Sampler.open(max_processes=64, log_pages=PAGES)
    sampler.log_syscalls(True)
    yield sampler
    sampler.close()


@pytest.fixture
def log(logging: Sampler) -> Iterator[Sampler]:
    logging.logged_syscalls()
    yield logging
    for series in tick(logging).frame.series:
        logging.remove(int(series))
    logging.logged_syscalls()


def named(records: np.ndarray, name: str) -> np.ndarray:
    wanted = [number for number in np.unique(records["number"]).tolist() if name_of(number) == name]
    return records[np.isin(records["number"], wanted)]


def test_logs_each_entry_and_each_end_of_a_call_in_its_order(log: Sampler, workload: Workload):
    log.add(workload.pid)
    workload.do(f"count {CALLS}")

    yields = named(log.logged_syscalls(), "sched_yield")

    assert np.array_equal(yields["leave"], np.tile([0, 1], CALLS))
    assert (np.diff(yields["time_ns"].astype(np.int64)) > 0).all()


def test_says_first_argument_and_result(log: Sampler, workload: Workload):
    log.add(workload.pid)
    workload.do(f"fail {FAILURES}")

    closes = named(log.logged_syscalls(), "close")

    entries, ends = closes[closes["leave"] == 0], closes[closes["leave"] == 1]
    assert (len(entries), len(ends)) == (FAILURES, FAILURES)
    # close(-1): an int in the register's lower half
    assert (entries["value"].astype(np.uint32) == 0xFFFFFFFF).all()
    assert (ends["value"].astype(np.int64) == -9).all()


def test_says_who_called(log: Sampler, workload: Workload):
    log.add(workload.pid)
    name = Path(f"/proc/{workload.pid}/comm").read_text().strip()
    workload.do(f"thread 3 {CALLS}")

    yields = named(log.logged_syscalls(), "sched_yield")

    assert set(yields["pid"].tolist()) == {workload.pid}
    assert len(set(yields["tid"].tolist()) - {workload.pid}) == 3
    assert set(yields["comm"].tolist()) == {name.encode()}


def test_logs_children_and_no_strangers(log: Sampler, workload: Workload):
    watched = log.add(workload.pid)
    other = Workload()
    other.do(f"count {CALLS}")
    workload.do("fork 5 3")
    other.end()

    records = log.logged_syscalls()
    ticks = until(log, lambda ticks: len([e for t in ticks for e in t.exited]) == 5)

    children = {about.info.process.pid for t in ticks for about in t.started}
    assert set(records["pid"].tolist()) == {workload.pid, *children}
    yields = named(records, "sched_yield")
    pids, counts = np.unique(yields["pid"], return_counts=True)
    assert dict(zip(pids.tolist(), counts.tolist(), strict=True)) == dict.fromkeys(children, 2 * 101)
    assert watched.info.process.pid not in children


def test_counts_what_a_full_ring_loses(log: Sampler, workload: Workload):
    log.add(workload.pid)
    before = log.lost()["logged"]
    log.logged_syscalls()
    workload.do(f"count {BEYOND}")
    kept = log.logged_syscalls()
    lost = log.lost()["logged"] - before
    total = len(kept) + lost

    # the ring is full to its last record, and what else the program did are some reads and writes
    assert len(kept) * SIZE > PAGES * os.sysconf("SC_PAGESIZE") - 2 * SIZE
    assert 2 * BEYOND <= total < 2 * BEYOND + 20


def test_goes_on_after_a_loss(log: Sampler, workload: Workload):
    log.add(workload.pid)
    workload.do(f"count {BEYOND}")
    log.logged_syscalls()
    workload.do(f"count {CALLS}")

    assert len(named(log.logged_syscalls(), "sched_yield")) == 2 * CALLS


def test_is_silent_while_it_is_off(log: Sampler, workload: Workload):
    log.add(workload.pid)
    log.log_syscalls(False)
    log.logged_syscalls()
    workload.do(f"count {CALLS}")
    off = len(log.logged_syscalls())
    log.log_syscalls(True)
    workload.do(f"count {CALLS}")

    assert off == 0
    assert len(named(log.logged_syscalls(), "sched_yield")) == 2 * CALLS


def test_loses_nothing_while_it_is_read_all_the_time(workload: Workload):
    """Kernel and reader use the ring's positions at once: one half written looks like a full ring."""
    sampler = Sampler.open(max_processes=64, log_pages=ROOMY_PAGES)
    sampler.log_syscalls(True)
    sampler.add(workload.pid)
    got, count = [], 0
    workload.tell(f"count {MANY}")
    while count < 2 * MANY and sampler.lost()["logged"] == 0:
        got.append(sampler.logged_syscalls())
        count += len(got[-1])
    workload.answer()
    got.append(sampler.logged_syscalls())
    lost = sampler.lost()["logged"]
    sampler.close()

    yields = named(np.concatenate(got), "sched_yield")
    assert lost == 0
    assert np.array_equal(yields["leave"], np.tile([0, 1], MANY))
