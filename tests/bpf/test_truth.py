"""What the kernel part counts, against what is known to have happened."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from osdetectord.errors import InvalidArgument, NoSuchProcess, NoSuchTarget, Unsupported
from osdetectord.sampler import Exited, Sampler
from tests.bpf.conftest import count_of, emptied, leftovers, tick, until
from tests.bpf.obedient import Workload

# primes, so that no page, batch or number of CPUs makes them up by chance
CALLS = 997
FAILURES = 499


def exits(ticks) -> dict[int, Exited]:
    return {exited.series: exited for one in ticks for exited in one.exited}


def column(sampler: Sampler, name: str) -> int:
    return [metric.name for metric in sampler.metrics].index(name)


def test_counts_every_call_of_a_watched_process(sampler, workload):
    watched = sampler.add(workload.pid)
    workload.do(f"count {CALLS}")

    assert count_of(sampler, watched, "sched_yield") == CALLS


def test_counts_every_error_and_only_errors(sampler, workload):
    watched = sampler.add(workload.pid)
    workload.do(f"fail {FAILURES}")

    (close,) = (total for total in sampler.syscalls(watched.series) if total.name == "close")
    assert (close.count, close.errors, close.failures) == (FAILURES, FAILURES, ((errno.EBADF, FAILURES),))
    assert 0 < close.longest_ns <= close.total_ns


def test_a_call_that_waits_is_counted_with_its_whole_time(sampler, workload):
    watched = sampler.add(workload.pid)
    workload.do(f"nap {FAILURES}")

    (sleep,) = (total for total in sampler.syscalls(watched.series) if total.name == "clock_nanosleep")
    assert sleep.count == FAILURES
    assert sleep.total_ns >= FAILURES * 500_000
    assert sleep.longest_ns >= 500_000


def test_a_call_that_has_not_returned_counts_up_to_now(sampler, workload):
    watched = sampler.add(workload.pid)
    workload.do("hold 3")
    at = column(sampler, "syscalls.futex_time")

    def rate(seen):
        return seen.frame.values[list(seen.frame.series).index(watched.series), at]

    # three threads wait for a lock, each a second a second
    ticks = until(sampler, lambda ticks: len(ticks) > 20 and rate(ticks[-1]) == pytest.approx(3, abs=0.01))
    assert all(rate(seen) >= 0 for seen in ticks[1:])


def test_numbers_that_no_kernel_has_are_counted_together(sampler, workload):
    watched = sampler.add(workload.pid)
    workload.do(f"ask {CALLS}")

    (unknown,) = (total for total in sampler.syscalls(watched.series) if total.number >= 511)
    assert (unknown.name, unknown.count, unknown.errors) == ("unknown", CALLS, CALLS)


def test_a_rate_is_what_happened_between_two_ticks(sampler, workload):
    watched = sampler.add(workload.pid)
    first = tick(sampler).frame
    workload.do(f"count {CALLS}")
    second = tick(sampler).frame

    at = column(sampler, "syscalls.sleep_calls")
    assert np.isnan(first.values[list(first.series).index(watched.series), at])
    row = second.values[list(second.series).index(watched.series)]
    assert row[at] * second.interval_s == pytest.approx(CALLS)


def test_strangers_are_not_counted(sampler, workload):
    stranger = Workload()
    sampler.add(workload.pid)
    stranger.do(f"count {CALLS}")
    stranger.end()
    ticks = [tick(sampler)]

    assert [len(one.frame.series) for one in ticks] == [1]
    _, calls = sampler._kernel.maps["syscalls"].read()
    assert calls["count"].sum() < CALLS


def test_switches_are_those_that_the_kernel_counts(sampler, workload):
    def switches() -> tuple[int, int]:
        lines = Path(f"/proc/{workload.pid}/status").read_text().splitlines()
        return tuple(int(line.split()[1]) for line in lines if "ctxt_switches" in line)

    watched = sampler.add(workload.pid, follow_children=False)
    before = switches()
    workload.do("nap 211")
    workload.do("burn 50")
    time.sleep(0.05)
    voluntary, involuntary = (after - earlier for after, earlier in zip(switches(), before, strict=True))
    totals = readings(sampler, watched.series)

    # the one that was under way while it was added may be in one of the two only
    assert abs(totals["cpu.voluntary_switches"] - voluntary) <= 1
    assert abs(totals["cpu.involuntary_switches"] - involuntary) <= 1
    # a nap may be over before its thread has left the CPU
    assert voluntary >= 101


def readings(sampler: Sampler, series: int) -> dict[str, float]:
    """Totals since the process is watched."""
    tick(sampler)
    entry = sampler._by_series[series]
    return dict(zip((metric.name for metric in sampler.metrics), entry.last, strict=True))


def test_time_on_cpu_is_that_of_the_threads_own_clock_and_the_schedulers(sampler, workload):
    def schedstat() -> float:
        return int(Path(f"/proc/{workload.pid}/schedstat").read_text().split()[0]) * 1e-9

    watched = sampler.add(workload.pid)
    before, own = schedstat(), float(workload.do("burn 0"))
    own = float(workload.do("burn 300")) - own
    time.sleep(0.05)
    scheduler = schedstat() - before
    on_cpu = readings(sampler, watched.series)["cpu.on_cpu"]

    assert own >= 0.3
    assert on_cpu == pytest.approx(scheduler, rel=0.03, abs=0.004)
    assert on_cpu >= own * 0.97


def test_a_thread_that_never_leaves_its_cpu_is_charged_while_it_runs(sampler, workload):
    watched = sampler.add(workload.pid)
    workload.tell("burn 1500")
    time.sleep(0.2)
    totals = []
    for _ in range(6):
        totals.append(readings(sampler, watched.series)["cpu.on_cpu"])
        time.sleep(0.05)
    workload.answer()

    assert all(later > earlier for earlier, later in pairwise(totals))


def test_on_cpu_and_off_cpu_are_all_of_the_time(sampler, workload):
    workload.do("hold 2")
    watched = sampler.add(workload.pid)
    tick(sampler)
    workload.do("burn 100")
    frame = tick(sampler).frame
    row = frame.values[list(frame.series).index(watched.series)]

    on, off = row[column(sampler, "cpu.on_cpu")], row[column(sampler, "cpu.off_cpu")]
    assert on + off == pytest.approx(3.0, rel=0.02)


def test_a_call_that_waits_since_before_it_was_watched_counts_from_then_on(sampler):
    program = """if 1:
        import os, threading
        silent, _ = os.pipe()
        for _ in range(2):
            threading.Thread(target=os.read, args=(silent, 1)).start()
        print("read", flush=True)
        os.read(silent, 1)
    """

    def states() -> list[str]:
        stats = Path(f"/proc/{process.pid}/task").glob("*/stat")
        return [stat.read_text().rpartition(")")[2].split()[0] for stat in stats]

    with subprocess.Popen([sys.executable, "-c", program], stdout=subprocess.PIPE) as process:
        process.stdout.readline()
        while states() != ["S"] * 3:
            time.sleep(0.01)
        since = time.monotonic()
        watched = sampler.add(process.pid)
        time.sleep(0.5)
        waited = readings(sampler, watched.series)["syscalls.read_time"]
        passed = time.monotonic() - since
        process.kill()

    assert 3 * 0.5 <= waited <= 3 * passed


def test_waits_for_a_cpu_are_counted_one_by_one_and_summed(sampler):
    cpu = str(max(os.sched_getaffinity(0)))
    first, second = Workload("taskset", "-c", cpu), Workload("taskset", "-c", cpu)
    watched = sampler.add(first.pid)
    second.tell("burn 300")
    first.do("burn 200")
    second.answer()
    waited = readings(sampler, watched.series)["cpu.run_queue"]
    expected = int(Path(f"/proc/{first.pid}/schedstat").read_text().split()[1]) * 1e-9
    histogram = sampler.waits(watched.series)
    first.end()
    second.end()

    assert waited > 0.05
    assert waited <= expected + 0.004
    assert sum(count * 2.0**power for power, count in enumerate(histogram)) * 1.024e-6 <= waited * 1.1
    assert sum(count * 2.0 ** (power + 1) for power, count in enumerate(histogram)) * 1.024e-6 >= waited * 0.9


def test_threads_born_later_and_threads_already_there_are_counted(sampler, workload):
    workload.do("hold 5")
    watched = sampler.add(workload.pid)
    workload.do("release 101")
    workload.do("thread 7 211")

    assert count_of(sampler, watched, "sched_yield") == 5 * 101 + 7 * 211


def test_children_are_followed_and_fully_accounted_however_short_they_live(sampler, workload):
    watched = sampler.add(workload.pid)
    workload.do("fork 37 3")
    ticks = until(sampler, lambda ticks: len(exits(ticks)) >= 37)
    ended = exits(ticks).values()
    started = [process for one in ticks for process in one.started]

    assert len(started) == len(ended) == 37
    assert {process.root_series for process in started} == {watched.series}
    assert {process.parent_series for process in started} == {watched.series}
    assert {process.info.parent_pid for process in started} == {workload.pid}
    assert {exited.code for exited in ended} == {3}
    assert {exited.totals["syscalls.sleep_calls"] for exited in ended} == {101.0}
    assert all(exited.totals["cpu.on_cpu"] > 0 for exited in ended)
    assert all(exited.totals["memory.minor_faults"] > 0 for exited in ended)
    assert count_of(sampler, watched, "sched_yield") == 0


def test_children_are_not_followed_when_that_is_asked(sampler, workload):
    sampler.add(workload.pid, follow_children=False)
    workload.do("fork 3 0")

    assert tick(sampler).started == ()


def test_children_are_followed_as_soon_as_anybody_asks_for_it(sampler, workload):
    watched = sampler.add(workload.pid, follow_children=False)
    workload.do("spawn")
    assert tick(sampler).started == ()
    assert sampler.add(workload.pid, follow_children=True) == watched
    workload.do("fork 3 0")
    ticks = until(sampler, lambda ticks: len(exits(ticks)) >= 3)

    started = [process for one in ticks for process in one.started]
    assert len(started) == 1 + 3
    assert {process.parent_series for process in started} == {watched.series}


def test_a_grandchild_whose_parent_is_gone_belongs_to_the_root(sampler, workload):
    watched = sampler.add(workload.pid)
    pid = int(workload.do("double 307"))
    ticks = until(sampler, lambda ticks: any(e.process.pid != pid for e in exits(ticks).values()))
    (grandchild,) = (p for one in ticks for p in one.started if p.info.process.pid == pid)
    os.kill(pid, signal.SIGTERM)
    ended = exits(until(sampler, lambda ticks: grandchild.series in exits(ticks)))[grandchild.series]

    assert grandchild.root_series == watched.series
    assert (ended.code, ended.signal, ended.totals["syscalls.sleep_calls"]) == (0, signal.SIGTERM, 307.0)


@pytest.mark.parametrize("order", ["exec", "texec"])
def test_a_process_stays_itself_when_it_executes_another_program(sampler, workload, order):
    watched = sampler.add(workload.pid)
    workload.do("count 11")
    workload.tell(f"{order} another")
    workload.answer()
    execed = tick(sampler).execed
    workload.do(f"count {CALLS}")

    assert [(process.series, process.info.process) for process in execed] == [(watched.series, watched.info.process)]
    assert count_of(sampler, watched, "sched_yield") == CALLS + 11
    assert count_of(sampler, watched, "execve") == 1
    workload.do("exit 7")
    assert exits(until(sampler, lambda ticks: exits(ticks)))[watched.series].code == 7


@pytest.mark.parametrize("code", [0, 1, 255])
def test_exit_status_is_what_the_parent_is_told(sampler, workload, code):
    watched = sampler.add(workload.pid)
    workload.do("hold 3")
    workload.do(f"exit {code}")
    ended = exits(until(sampler, lambda ticks: exits(ticks)))[watched.series]

    assert (ended.code, ended.signal) == (code, 0)
    assert workload.process.wait() == code


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM, signal.SIGSEGV])
def test_the_signal_that_ended_a_process_is_told(sampler, workload, number):
    watched = sampler.add(workload.pid)
    os.kill(workload.pid, number)
    ended = exits(until(sampler, lambda ticks: exits(ticks)))[watched.series]

    assert (ended.code, ended.signal) == (0, number)
    assert ended.comm == watched.info.comm


def test_everybody_who_lives_is_found_while_a_tree_grows(sampler):
    grower = """
import os, sys, time, threading
def grow(depth):
    for _ in range(3):
        if os.fork() == 0:
            if depth: grow(depth - 1)
            time.sleep(60)
            os._exit(0)
        time.sleep(0.002)
threading.Thread(target=grow, args=(3,)).start()
print(flush=True)
time.sleep(60)
"""
    root = subprocess.Popen(["/usr/bin/python3", "-S", "-c", grower], stdout=subprocess.PIPE, start_new_session=True)
    try:
        root.stdout.readline()
        time.sleep(0.01)
        watched = sampler.add(root.pid)
        group: set[int] = set()
        end = time.monotonic() + 60
        while len(group) < 1 + 3 + 9 + 27 + 81 and time.monotonic() < end:
            time.sleep(0.1)
            group = {int(p) for p in subprocess.run(["pgrep", "-g", str(root.pid)], capture_output=True).stdout.split()}
        ticks = until(sampler, lambda ticks: sum(len(one.started) for one in ticks) >= len(group) - 1)
        started = [p for one in ticks for p in one.started]

        assert len(group) == 1 + 3 + 9 + 27 + 81
        assert {p.info.process.pid for p in started} | {root.pid} == group
        assert {p.root_series for p in started} == {watched.series}
    finally:
        os.killpg(root.pid, signal.SIGKILL)
        root.communicate()
    until(sampler, lambda ticks: len(ticks[-1].frame.series) == 0)


def test_nothing_is_left_after_two_thousand_forks(sampler, workload):
    watched = sampler.add(workload.pid)
    before = sampler.lost()
    seen = 0
    for _ in range(8):
        workload.do("fork 250 0")
        seen += len(tick(sampler).exited)
    workload.do("exit 0")
    seen += len(exits(until(sampler, lambda ticks: watched.series in exits(ticks))))

    assert seen == 2001
    assert sampler.lost() == before
    assert leftovers(sampler) == {}


def test_a_watched_process_keeps_its_series(sampler, workload):
    assert sampler.add(workload.pid) is sampler.add(workload.pid)


def test_a_followed_child_keeps_its_series_when_it_is_added(sampler, workload):
    watched = sampler.add(workload.pid)
    pid = int(workload.do("double 1"))
    added = sampler.add(pid)

    assert added.root_series == watched.series
    assert sampler.add(pid) is added
    os.kill(pid, signal.SIGKILL)
    until(sampler, lambda ticks: added.series in exits(ticks))


def test_nothing_comes_of_a_process_that_was_removed(sampler, workload):
    watched = sampler.add(workload.pid)
    workload.do("count 10")
    tick(sampler)
    sampler.remove(watched.series)
    workload.do("count 10")
    workload.do("fork 1 0")
    seen = tick(sampler)

    assert (len(seen.frame.series), seen.started, seen.exited) == (0, (), ())
    with pytest.raises(NoSuchTarget, match=f"no series {watched.series}"):
        sampler.remove(watched.series)
    again = sampler.add(workload.pid)
    workload.do("count 10")
    assert again.series != watched.series
    assert count_of(sampler, again, "sched_yield") == 10


def test_processes_that_end_while_they_are_removed_leave_nothing(sampler):
    busy = "import os, threading; [threading.Thread(target=lambda: [os.getppid() for _ in iter(int, 1)]).start()"
    for delay in range(40):
        process = subprocess.Popen(["/usr/bin/python3", "-S", "-c", f"{busy} for _ in range(3)]"])
        watched = sampler.add(process.pid)
        until(sampler, lambda ticks, watched=watched: sampler.syscalls(watched.series))
        process.kill()
        time.sleep(delay * 5e-5)
        with suppress(NoSuchTarget):
            sampler.remove(watched.series)
        process.wait()

    assert emptied(sampler) == {}


def test_a_process_that_is_not_there_is_refused(sampler, workload):
    with pytest.raises(NoSuchProcess, match="no process 4194304"):
        sampler.add(4194304)
    workload.do("exit 0")
    os.waitid(os.P_PID, workload.pid, os.WEXITED | os.WNOWAIT)
    with pytest.raises(NoSuchProcess, match=f"process {workload.pid} .* has ended"):
        sampler.add(workload.pid)


@pytest.mark.parametrize("pid", [0, -1])
def test_what_is_no_pid_is_refused(sampler, pid):
    with pytest.raises(InvalidArgument, match=f"{pid} is not a process id"):
        sampler.add(pid)


def test_a_thread_of_the_kernel_is_refused(sampler):
    with pytest.raises(Unsupported, match=r"process 2 \(kthreadd\) is a thread of the kernel"):
        sampler.add(2)


def test_a_thread_is_refused_with_the_name_of_its_process(sampler, workload):
    workload.do("hold 1")
    tid = next(int(name) for name in os.listdir(f"/proc/{workload.pid}/task") if int(name) != workload.pid)

    with pytest.raises(InvalidArgument, match=f"{tid} is a thread of process {workload.pid}"):
        sampler.add(tid)


def test_a_process_whose_main_thread_has_ended_can_be_watched(sampler):
    script = """
import ctypes, threading, time, os
def work():
    time.sleep(0.3)
    for _ in range(997): os.sched_yield()
    time.sleep(60)
threading.Thread(target=work).start()
print(flush=True)
ctypes.CDLL(None).syscall(60, 0)
"""
    process = subprocess.Popen(["/usr/bin/python3", "-S", "-c", script], stdout=subprocess.PIPE)
    process.stdout.readline()
    time.sleep(0.1)
    watched = sampler.add(process.pid)
    time.sleep(0.5)
    counted = count_of(sampler, watched, "sched_yield")
    process.kill()
    process.communicate()

    assert counted == CALLS
    until(sampler, lambda ticks: watched.series in exits(ticks))


def test_a_process_may_die_at_any_moment_of_the_call(sampler):
    for delay in range(60):
        process = subprocess.Popen(["/bin/sh", "-c", ":"])
        time.sleep(delay * 5e-5)
        with suppress(NoSuchProcess):
            sampler.add(process.pid)
        tick(sampler)
        process.wait()
    until(sampler, lambda ticks: len(ticks[-1].frame.series) == 0 and not sampler._entries)

    assert leftovers(sampler) == {}


def test_executions_of_strangers_are_told_when_asked(sampler):
    def run() -> int:
        process = subprocess.Popen(["/bin/true"])
        process.wait()
        return process.pid

    tick(sampler)
    quiet = run()
    assert quiet not in tick(sampler).strangers
    sampler.report_strangers(True)
    told = run()
    seen = tick(sampler).strangers
    sampler.report_strangers(False)

    assert told in seen
    assert quiet not in seen


def test_levels_are_those_of_proc(sampler, workload):
    workload.do("hold 4")
    watched = sampler.add(workload.pid)
    frame = tick(sampler).frame
    row = frame.values[list(frame.series).index(watched.series)]
    value = dict(zip((metric.name for metric in sampler.metrics), row, strict=True))
    resident, shared = map(int, Path(f"/proc/{workload.pid}/statm").read_text().split()[1:3])

    assert value["process.threads"] == 5
    assert value["process.fds"] == len(os.listdir(f"/proc/{workload.pid}/fd"))
    assert value["memory.rss"] == pytest.approx(resident * 4096, rel=0.05)
    assert value["memory.anon"] == pytest.approx((resident - shared) * 4096, rel=0.05)
