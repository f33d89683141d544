"""Evidence tells what changed with an anomaly: calls in it against calls before it, threads, and what happened."""

import asyncio
import os
import threading
import time
from dataclasses import replace

import numpy as np
import pytest

from osdetectord import proc, wall
from osdetectord.collectors.syscall_names import number_of
from osdetectord.collectors.syscalls import EACH
from osdetectord.core import AnomalyView, BlameView, ProbeView
from osdetectord.evidence import ROWS, Evidence
from osdetectord.happenings import Happenings
from osdetectord.metric import Kind, Metric
from osdetectord.sample import Frame

METRICS = (Metric("cpu.on_cpu", "s", Kind.COUNTER), Metric("memory.rss", "bytes", Kind.GAUGE))
SERIES = 30
S = 1_000_000


class Kernel:
    """Counts of one process's system calls, which a test sets."""

    metrics = METRICS

    def __init__(self):
        self.now = {}
        self.gone = False
        self.reads = 0

    def syscall_totals(self):
        self.reads += 1
        now = {} if self.gone else self.now
        rows = [(SERIES, number_of(name), *values) for name, values in now.items()]
        return np.array([*rows, (SERIES + 1, number_of("read"), 10**6, 0, 0)], EACH)


def a_probe(number, scope, calls):
    return ProbeView(number, f"libc:f{number}", scope, "on", 0, 1, True, (), calls, 0.0, 2e-6, 0.0, 0.0, 0)


def an_anomaly(onset_us, pid=1):
    blame = BlameView("cpu.on_cpu", "s/s", 1.0, 2.0, 0.0, 1.0, onset_us)
    return AnomalyView(
        4, 7, "pid:1", pid, "sh", "open", "anomaly", onset_us + S, 0, 3.0, 0.01, ("level",), (blame,), ""
    )


@pytest.fixture
def all_of_it():
    kernel, probes, happenings = Kernel(), [], Happenings()
    return kernel, probes, happenings, Evidence(kernel, lambda: probes, happenings)


def looked(evidence, old):
    """The evidence after a look at the kernel."""
    asyncio.run(evidence.look([4]))
    return evidence.refreshed(4, old)


def call(found, name):
    return next(row for row in found["calls"] if row["name"] == name)


def test_system_calls_are_told_in_the_episode_and_before_it(all_of_it):
    kernel, _, _, evidence = all_of_it
    now = wall.now_us()
    kernel.now = {"write": (100, 1, 1000)}
    evidence.note(now - 60 * S, kernel.syscall_totals())
    kernel.now = {"write": (197, 2, 3000)}
    evidence.note(now - 12 * S, kernel.syscall_totals())
    kernel.now = {"write": (1000, 2, 5000), "fsync": (3, 0, 9_000_000)}
    evidence.note(now - 2 * S, kernel.syscall_totals())
    found = looked(evidence, evidence.begin(an_anomaly(now - 10 * S), SERIES, None))["syscalls"]
    assert (found["before_s"], found["during_s"]) == (48.0, pytest.approx(12.0, abs=5))
    assert call(found, "write") == {
        "name": "write", "count": 803, "errors": 0, "total_ns": 2000,
        "before_count": 97, "before_errors": 1, "before_total_ns": 2000,
    }  # fmt: skip
    assert (call(found, "fsync")["count"], call(found, "fsync")["before_count"]) == (3, 0)


def test_without_an_earlier_look_there_is_nothing_to_compare_with(all_of_it):
    kernel, _, _, evidence = all_of_it
    kernel.now = {"write": (100, 0, 1000)}
    first = evidence.begin(an_anomaly(wall.now_us()), SERIES, None)
    assert first["syscalls"] == {} and looked(evidence, first)["syscalls"]["before_s"] == 0.0


def test_what_is_known_grows_while_it_is_open_and_stays_when_the_process_is_gone(all_of_it, monkeypatch):
    kernel, _, _, evidence = all_of_it
    now = wall.now_us()
    kernel.now = {"write": (100, 0, 0)}
    evidence.note(now - 5 * S, kernel.syscall_totals())
    first = evidence.begin(an_anomaly(now), SERIES, None)
    assert call(first["syscalls"], "write")["count"] == 0
    kernel.now = {"write": (1109, 0, 0)}
    monkeypatch.setattr(wall, "now_us", lambda: now + 3 * S)
    assert call(looked(evidence, first)["syscalls"], "write")["count"] == 1009
    kernel.gone = True
    monkeypatch.setattr(wall, "now_us", lambda: now + 9 * S)
    found = looked(evidence, first)["syscalls"]
    assert call(found, "write")["count"] == 1009 and found["during_s"] == 8.0
    evidence.end(4)
    assert evidence.refreshed(4, first) == first


def test_functions_are_those_that_are_probed_for_this_process(all_of_it):
    kernel, probes, _, evidence = all_of_it
    probes[:] = [a_probe(1, "pid:1", 100), a_probe(2, "pid:2", 100), a_probe(3, "target:7", 100), a_probe(5, "all", 1)]
    now = wall.now_us()
    evidence.note(now - 5 * S, kernel.syscall_totals())
    probes[0] = replace(probes[0], calls=1097)
    found = evidence.begin(an_anomaly(now), SERIES, None)["functions"]["calls"]
    assert [row["name"] for row in found] == ["libc:f1", "libc:f3", "libc:f5"]
    assert (found[0]["count"], found[0]["total_ns"]) == (997, 1_994_000)


def test_the_busiest_thread_is_told_by_its_name(all_of_it):
    _, _, _, evidence = all_of_it
    stop = threading.Event()

    def spin():
        with open(f"/proc/self/task/{threading.get_native_id()}/comm", "w") as file:
            file.write("spinner")
        while not stop.is_set():
            pass

    first = looked(evidence, evidence.begin(an_anomaly(wall.now_us(), os.getpid()), SERIES, None))
    assert first["threads"] == []
    thread = threading.Thread(target=spin)
    thread.start()
    try:
        deadline = time.monotonic() + 60
        while proc.thread_times(os.getpid(), 512).get(thread.native_id, 0) < 5e8 and time.monotonic() < deadline:
            time.sleep(0.1)
        busiest = looked(evidence, first)["threads"][0]
    finally:
        stop.set()
        thread.join()
    assert (busiest["tid"], busiest["name"]) == (thread.native_id, "spinner") and busiest["cpu"] > 0


def test_samples_from_before_the_alarm_come_with_what_was_expected(all_of_it):
    _, _, _, evidence = all_of_it
    for at in range(ROWS + 7):
        values = np.array([[at, np.nan], [-1.0, -1.0]])
        evidence.take(at, Frame(at, 1.0, np.array([SERIES, 31], np.uint64), METRICS, values))
    expected = (np.array([-1.0, np.nan]), np.array([2.0, np.nan]))
    found = evidence.begin(an_anomaly(wall.now_us()), SERIES, expected)
    cpu = {"unit": "s/s", "values": [float(at) for at in range(7, ROWS + 7)], "expected": [0.0, 2.0]}
    assert found["metrics"]["cpu.on_cpu"] == cpu and found["time_us"] == list(range(7, ROWS + 7))
    assert found["metrics"]["memory.rss"] == {"unit": "bytes", "values": [None] * ROWS, "expected": None}


def test_what_happened_around_it_is_told_and_what_is_alike_counted(all_of_it):
    _, _, happenings, evidence = all_of_it
    now = wall.now_us()
    happenings.note(now - 400 * S, "reloaded", "long ago")
    for at in range(11):
        happenings.note(now - 20 * S + at, "started", "sh", 100 + at, 7)
        happenings.note(now - 20 * S + at, "started", "sh", 500 + at, 8)
    happenings.note(now - 5 * S, "started", "sh", 900, 7)
    found = evidence.begin(an_anomaly(now), SERIES, None)["happenings"]
    assert [(one["what"], one["target"], one["count"], one["pid"]) for one in found] == [
        ("sh", 7, 11, 110), ("sh", 8, 11, 510), ("sh", 7, 1, 900),
    ]  # fmt: skip


def test_the_kernel_is_asked_once_for_all_that_open_and_never_as_they_open(all_of_it):
    kernel, _, _, evidence = all_of_it
    now = wall.now_us()
    kernel.now = {"write": (100, 0, 0)}
    for number in range(4, 15):
        evidence.begin(replace(an_anomaly(now), number=number), SERIES, None)
    assert kernel.reads == 0
    asyncio.run(evidence.look(range(4, 15)))
    asyncio.run(evidence.look(range(4, 15)))
    assert kernel.reads == 1


def test_an_open_anomaly_holds_the_totals_of_its_own_process_only(all_of_it):
    kernel, probes, _, evidence = all_of_it
    probes[:] = [a_probe(1, "pid:1", 100), a_probe(2, "pid:2", 100)]
    now = wall.now_us()
    kernel.now = {"write": (100, 0, 0), "read": (97, 0, 0)}
    for at in (9, 7):
        evidence.note(now - at * S, kernel.syscall_totals())
    evidence.begin(an_anomaly(now), SERIES, None)
    for held in (evidence._open[4].base, evidence._open[4].before):
        assert held.syscalls["series"].tolist() == [SERIES] * 2 and held.syscalls.base is None
        assert list(held.probes) == [1]
