"""A crowd is watched whole: no thread is missed, no child is lost untold, nothing hangs, nothing is left."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
from private_bus import wait_until

from osdetectord.bpf.kernel import Kernel, Sizes
from osdetectord.collectors.syscall_names import number_of
from osdetectord.sampler import Sampler
from tests.bpf.conftest import emptied, leftovers, tick, until
from tests.bpf.crowd import Crowd, room_for_threads
from tests.daemon.whole_daemon import Daemon, running

PROCESSES, THREADS, RATE = 1000, 20, 1000
"""What is promised: 1000 processes, 20 000 threads and 1000 forks a second."""
SECONDS = 10
YIELDS = 11


@pytest.fixture(scope="module")
def program(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Crowd.build(tmp_path_factory.mktemp("crowd"))


@pytest.fixture
def crowd(program: Path) -> Iterator[Crowd]:
    # children that have ended take ids too, until they are waited for
    needed = PROCESSES * THREADS + 1000
    small = {name: room for name, room in room_for_threads().items() if room < needed}
    assert not small, f"{needed} threads are to be watched, but there is less room: {small}"
    crowd = Crowd(program, PROCESSES, THREADS)
    yield crowd
    crowd.end()


class Ticking:
    """Ticks once a second in a thread of its own, as the daemon does."""

    def __init__(self, sampler: Sampler) -> None:
        self._sampler = sampler
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run)
        self.started = self.exited = self.ticks = 0

    def _run(self) -> None:
        while not self._stop.wait(1.0):
            self.once()

    def once(self) -> None:
        seen = tick(self._sampler)
        self.started += len(seen.started)
        self.exited += len(seen.exited)
        self.ticks += 1

    def __enter__(self) -> Ticking:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stop.set()
        self._thread.join()


def test_twenty_thousand_threads_are_counted_and_a_thousand_forks_a_second_leave_nothing(sampler, crowd):
    before = sampler.lost()
    sampler.add(crowd.pid)
    members = tick(sampler).started
    threads, _ = sampler._kernel.maps["threads"].read()
    made = crowd.do(f"yield {YIELDS}")
    keys, calls = sampler._kernel.maps["syscalls"].read()
    counted = calls["count"][keys["nr"] == number_of("sched_yield")].sum()
    with Ticking(sampler) as ticking:
        forked = crowd.do(f"fork {RATE} {1000 * SECONDS}")
    ticking.once()

    assert (len(members), len(threads)) == (PROCESSES, PROCESSES * THREADS + 1)
    assert counted == made == PROCESSES * THREADS * YIELDS
    assert forked > 0
    assert ticking.started == ticking.exited == forked
    assert ticking.ticks >= SECONDS / 3
    assert sampler.lost() == before
    crowd.end()
    ended = 0
    for one in until(sampler, lambda ticks: not sampler._entries, 60):
        ended += len(one.exited)
    assert ended == PROCESSES + 1
    assert leftovers(sampler) == {}


def test_children_for_whom_there_is_no_room_are_lost_one_by_one(program):
    small = replace(Sizes.of(64), processes=32)
    sampler = Sampler(Kernel(small), max_processes=64)
    crowd = Crowd(program, 3, 2)
    try:
        sampler.add(crowd.pid)
        forked = crowd.do("fork 2000 500")
        exited = len(tick(sampler).exited)
        lost = sampler.lost()["processes"]

        assert forked > 32
        assert 0 < exited < 32
        assert exited + lost == forked
        crowd.end()
        assert emptied(sampler) == {}
    finally:
        crowd.end()
        sampler.close()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with running(tmp_path) as daemon:
        yield daemon


def held(daemon: Daemon) -> set[int]:
    """Pids of the processes whose files in /proc the daemon keeps open: those that it watches."""
    pids = set()
    for link in Path(f"/proc/{daemon.process.pid}/fd").iterdir():
        try:
            words = os.readlink(link).split("/")
        except FileNotFoundError:
            continue
        if words[1:2] == ["proc"] and words[2].isdecimal() and words[3:] == ["stat"]:
            pids.add(int(words[2]))
    return pids


def test_the_daemon_answers_and_ticks_while_a_crowd_forks(daemon, crowd):
    daemon.ask("watch", crowd.pid)
    wait_until(lambda: len(held(daemon)) == PROCESSES + 1, 30)
    skipped = daemon.ask("status")[0]["lost"]["collector.ticks"]
    crowd.tell(f"fork {RATE} {1000 * SECONDS}")
    answers, began_s = 0, time.monotonic()
    while time.monotonic() - began_s < SECONDS:
        (target,) = daemon.ask("list")
        assert len(target["processes"]) >= PROCESSES
        answers += 1
    forked = crowd.answer()
    lost = daemon.ask("status")[0]["lost"]

    assert forked > 0
    # an answer takes half a second of a machine that does nothing else
    assert answers >= 3
    assert lost.pop("collector.ticks") - skipped <= SECONDS / 2
    assert {name: count for name, count in lost.items() if count} == {}
    daemon.ask("unwatch", f"pid:{crowd.pid}")
    wait_until(lambda: held(daemon) == set(), 10)
    daemon.ask("watch", crowd.pid)
    crowd.end()
    wait_until(lambda: daemon.ask("list") == [], 30)
    wait_until(lambda: held(daemon) == set(), 10)


def test_who_is_watched_no_more_is_let_go_with_children_born_meanwhile(daemon, program):
    crowd = Crowd(program, 1, 1)
    try:
        for _ in range(3):
            daemon.ask("watch", crowd.pid)
            wait_until(lambda: crowd.pid in held(daemon), 10)
            crowd.tell("leave 200 7")
            daemon.ask("unwatch", f"pid:{crowd.pid}")
            crowd.answer()
            wait_until(lambda: held(daemon) == set(), 10)
    finally:
        crowd.end()
