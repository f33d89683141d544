"""The log of single system calls, against what is known to have been called."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from osdetectord.collectors.syscall_log import CHUNK, CHUNK_RECORDS, Rows
from osdetectord.collectors.syscall_names import name_of, number_of
from osdetectord.sampler import Sampler
from tests.bpf.conftest import tick, until
from tests.bpf.obedient import Workload

CALLS = 997
FAILURES = 499
BEYOND = 20_011
"""More system calls than the ring of the test has room for."""
ROOMY_PAGES = 8192
MANY = 1_400_003
"""System calls that go round the ring of ROOMY_PAGES nearly twice."""
PR_SET_NAME = 15
PAGES = 128
SIZE = CHUNK.itemsize + 8
"""Bytes of a chunk of records with its header."""


class Log:
    """A sampler whose log is on, and what makes rows of it."""

    def __init__(self, pages: int, **options: object) -> None:
        self.sampler = Sampler.open(max_processes=64, log_pages=pages, **options)
        self.sampler.log_syscalls(True)
        self.rows = Rows()

    def read(self) -> np.ndarray:
        """All rows since the last time."""
        return np.concatenate((self.rows.of(self.sampler.logged_syscalls()), self.rows.rest()))

    def lost(self) -> int:
        return self.sampler.lost()["logged"]

    def empty(self) -> None:
        self.sampler.remove_all(tick(self.sampler).frame.series.tolist())
        self.read()


@pytest.fixture(scope="module")
def both() -> Iterator[Log]:
    """Calls are counted, and logged by the programs that count them."""
    log = Log(PAGES)
    yield log
    log.sampler.close()


@pytest.fixture(scope="module")
def alone() -> Iterator[Log]:
    """Nobody counts calls, and nobody tells when a thread leaves its processor."""
    log = Log(PAGES, collectors=("lifecycle",))
    yield log
    log.sampler.close()


@pytest.fixture(params=["both", "alone"])
def log(request: pytest.FixtureRequest) -> Iterator[Log]:
    log = request.getfixturevalue(request.param)
    log.read()
    yield log
    assert log.rows.nameless == 0
    log.empty()


def named(records: np.ndarray, name: str) -> np.ndarray:
    wanted = [number for number in np.unique(records["number"]).tolist() if name_of(number) == name]
    return records[np.isin(records["number"], wanted)]


def test_logs_each_entry_and_each_end_of_a_call_in_its_order(log: Log, workload: Workload):
    log.sampler.add(workload.pid)
    workload.do(f"count {CALLS}")

    yields = named(log.read(), "sched_yield")

    assert np.array_equal(yields["leave"], np.tile([0, 1], CALLS))
    assert (np.diff(yields["time_ns"].astype(np.int64)) > 0).all()


def test_says_first_argument_and_result(log: Log, workload: Workload):
    log.sampler.add(workload.pid)
    workload.do(f"fail {FAILURES}")

    closes = named(log.read(), "close")

    entries, ends = closes[closes["leave"] == 0], closes[closes["leave"] == 1]
    assert (len(entries), len(ends)) == (FAILURES, FAILURES)
    # close(-1): an int in the register's lower half
    assert (entries["value"].astype(np.uint32) == 0xFFFFFFFF).all()
    assert (ends["value"].astype(np.int64) == -9).all()


def test_says_who_called(log: Log, workload: Workload):
    log.sampler.add(workload.pid)
    name = Path(f"/proc/{workload.pid}/comm").read_text().strip()
    workload.do(f"thread 3 {CALLS}")

    yields = named(log.read(), "sched_yield")

    assert set(yields["pid"].tolist()) == {workload.pid}
    assert len(set(yields["tid"].tolist()) - {workload.pid}) == 3
    assert set(yields["comm"].tolist()) == {name.encode()}


def test_logs_children_and_no_strangers(log: Log, workload: Workload):
    watched = log.sampler.add(workload.pid)
    other = Workload()
    other.do(f"count {CALLS}")
    workload.do("fork 5 3")
    other.end()

    records = log.read()
    ticks = until(log.sampler, lambda ticks: len([e for t in ticks for e in t.exited]) == 5)

    children = {about.info.process.pid for t in ticks for about in t.started}
    assert set(records["pid"].tolist()) == {workload.pid, *children}
    yields = named(records, "sched_yield")
    pids, counts = np.unique(yields["pid"], return_counts=True)
    assert dict(zip(pids.tolist(), counts.tolist(), strict=True)) == dict.fromkeys(children, 2 * 101)
    assert watched.info.process.pid not in children


def test_counts_what_a_full_ring_loses(log: Log, workload: Workload):
    log.sampler.add(workload.pid)
    before = log.lost()
    log.read()
    workload.do(f"count {BEYOND}")
    kept = log.read()
    lost = log.lost() - before
    total = len(kept) + lost

    # the ring is full to its last chunk, and what else the program did are some reads and writes
    assert len(kept) >= 2 * CHUNK_RECORDS * (PAGES * os.sysconf("SC_PAGESIZE") // SIZE - 1)
    assert 2 * BEYOND <= total < 2 * BEYOND + 20


def test_goes_on_after_a_loss(log: Log, workload: Workload):
    log.sampler.add(workload.pid)
    workload.do(f"count {BEYOND}")
    log.read()
    workload.do(f"count {CALLS}")

    assert len(named(log.read(), "sched_yield")) == 2 * CALLS


def test_is_silent_while_it_is_off(log: Log, workload: Workload):
    log.sampler.add(workload.pid)
    log.sampler.log_syscalls(False)
    log.read()
    workload.do(f"count {CALLS}")
    off = len(log.read())
    log.sampler.log_syscalls(True)
    workload.do(f"count {CALLS}")

    assert off == 0
    assert len(named(log.read(), "sched_yield")) == 2 * CALLS


def test_loses_nothing_while_it_is_read_all_the_time(workload: Workload):
    """Kernel and reader use the ring's positions at once: one half written looks like a full ring."""
    log = Log(ROOMY_PAGES)
    log.sampler.add(workload.pid)
    got, count = [], 0
    workload.tell(f"count {MANY}")
    while count < 2 * MANY and log.lost() == 0:
        got.append(log.read())
        count += len(got[-1])
    workload.answer()
    got.append(log.read())
    lost = log.lost()
    log.sampler.close()

    yields = named(np.concatenate(got), "sched_yield")
    assert lost == 0
    assert np.array_equal(yields["leave"], np.tile([0, 1], MANY))


def test_a_call_that_has_not_left_has_its_entry_once(log: Log, workload: Workload):
    """The workload waits for its next order in a read of its standard input."""
    log.sampler.add(workload.pid)
    workload.do(f"count {CALLS}")
    time.sleep(0.05)

    before, again = log.read(), log.read()
    workload.do(f"count {CALLS}")
    after = log.read()

    assert (before["number"][-1], before["leave"][-1], before["value"][-1]) == (number_of("read"), 0, 0)
    assert len(again) == 0
    assert (after["number"][0], after["leave"][0]) == (number_of("read"), 1)
    assert after["time_ns"][0] > before["time_ns"][-1]
    assert np.array_equal(named(after, "sched_yield")["leave"], np.tile([0, 1], CALLS))


def test_calls_of_many_threads_under_way_have_their_entries(log: Log, workload: Workload):
    log.sampler.add(workload.pid)
    workload.do("hold 7")
    time.sleep(0.05)

    waiting = log.read()
    workload.do(f"release {CALLS}")
    released = log.read()

    last = {int(row["tid"]): row for row in waiting}
    held = [row for tid, row in last.items() if tid != workload.pid]
    assert [(name_of(int(row["number"])), row["leave"]) for row in held] == [("futex", 0)] * 7
    first = {int(row["tid"]): row for row in reversed(released)}
    for row in held:
        assert (first[row["tid"]]["number"], first[row["tid"]]["leave"]) == (row["number"], 1)


def test_the_call_that_ends_a_process_has_only_its_entry(log: Log, workload: Workload):
    log.sampler.add(workload.pid)
    workload.do(f"count {CALLS}")
    workload.tell("exit 5")
    workload.process.wait()

    last = log.read()[-1]

    assert (name_of(int(last["number"])), last["leave"], last["value"]) == ("exit_group", 0, 5)


def test_an_execution_leaves_under_its_new_name(log: Log, workload: Workload):
    log.sampler.add(workload.pid)
    workload.do("exec renamed")

    rows = log.read()

    enter, leave = named(rows, "execve")
    assert (enter["leave"], enter["comm"]) == (0, b"python3")
    assert (leave["leave"], leave["comm"], leave["value"]) == (1, b"exe", 0)
    # what the workload then calls itself, in its last moment under the old name
    (renaming,) = (row for row in named(rows, "prctl") if row["leave"] == 0 and row["value"] == PR_SET_NAME)
    assert renaming["comm"] == b"exe"
    after = rows[rows["time_ns"] > renaming["time_ns"]]
    assert set(after["comm"].tolist()) == {b"renamed"}


def test_an_execution_by_another_thread_leaves_under_the_main_ones_id(log: Log, workload: Workload):
    log.sampler.add(workload.pid)
    workload.do("texec renamed")

    enter, leave = named(log.read(), "execve")

    assert (enter["leave"], leave["leave"]) == (0, 1)
    assert enter["tid"] != workload.pid
    assert leave["tid"] == enter["pid"] == leave["pid"] == workload.pid


def test_rows_of_all_threads_are_in_the_order_of_time(log: Log, workload: Workload):
    log.sampler.add(workload.pid)
    workload.tell(f"thread 3 {CALLS}")
    got = []
    for _ in range(5):
        got.append(log.rows.of(log.sampler.logged_syscalls()))
        time.sleep(0.02)
    workload.answer()
    got.append(log.read())

    rows = np.concatenate(got)
    assert len(named(rows, "sched_yield")) == 2 * 3 * CALLS
    assert (np.diff(rows["time_ns"].astype(np.int64)) >= 0).all()


def test_calls_are_counted_as_ever_while_they_are_logged(both: Log, workload: Workload):
    watched = both.sampler.add(workload.pid)
    workload.do(f"count {CALLS}")
    workload.do(f"fail {FAILURES}")
    workload.do(f"ask {FAILURES}")

    counted = {total.name: total for total in both.sampler.syscalls(watched.series)}
    logged = both.read()
    both.empty()

    assert counted["sched_yield"].count == CALLS
    assert (counted["close"].count, counted["close"].errors) == (FAILURES, FAILURES)
    # numbers that no kernel has are counted together, but logged as they are
    asked = [number for number in np.unique(logged["number"]).tolist() if number >= 1000]
    assert asked == list(range(1000, 1000 + FAILURES))
