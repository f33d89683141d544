"""Targets take in and let go of processes as the kernel and the user say."""

import asyncio
import os
import pwd
from pathlib import Path

import numpy as np
import pytest
from structlog.testing import capture_logs

from osdetectord.errors import (
    InvalidArgument,
    NoSuchProcess,
    NoSuchTarget,
    NoSuchUnit,
    NoSuchUser,
    TooManyTargets,
    Unsupported,
)
from osdetectord.matching import Matcher
from osdetectord.process import Process, ProcessInfo
from osdetectord.sampler import Exited, ProcessSeries
from osdetectord.verdict import Verdict
from osdetectord.watching import Watching

METRICS = ("cpu.on_cpu", "memory.rss")


def series(number, pid, parent=None, root=None, comm="sh", start=7):
    info = ProcessInfo(Process(pid, start), 1, comm, f"/bin/{comm}", 0)
    return ProcessSeries(number, info, parent, root or number)


class Kernel:
    """Watches any pid below 1000; the series is the pid times ten."""

    def __init__(self):
        self.removed, self.start = [], 7

    def add(self, pid, follow_children=True):
        if pid >= 1000:
            raise NoSuchProcess(f"no process {pid}")
        return series(pid * 10, pid, start=self.start)

    def remove_all(self, numbers):
        self.removed += numbers


class Unit:
    control_group = "/system.slice/redis.service"


class Manager:
    async def unit_processes(self, unit):
        if unit != "redis.service":
            raise NoSuchUnit(f"no unit {unit}")
        return Unit()


@pytest.fixture
def proc(tmp_path):
    def process(pid, comm="sh", group="/"):
        here = tmp_path / str(pid)
        here.mkdir()
        (here / "comm").write_text(comm + "\n")
        (here / "stat").write_text(f"{pid} ({comm}) S 1 1 1 0 -1 4194304 0 0")
        (here / "cgroup").write_text(f"0::{group}\n")
        (here / "cmdline").write_bytes(comm.encode() + b"\0--port\0" + b"6379\0")

    process.path = tmp_path
    process(1, "init", "/init.scope")
    return process


@pytest.fixture
def kernel():
    return Kernel()


@pytest.fixture
def watching(proc, kernel):
    return Watching(kernel, Matcher(proc.path), Manager(), METRICS, 3)


def watch(watching, spec, persistent=True, children=True):
    return asyncio.run(watching.watch(spec, persistent, children))


def ended(number, pid):
    return Exited(number, Process(pid, 7), "sh", 0, 9, False, {})


def test_a_pid_is_watched_once_however_often_it_is_asked_for(watching):
    first, new = watch(watching, "42")
    again, new_again = watch(watching, "pid:42")
    assert (new, new_again, again) == (True, False, first)
    assert watching.state(first) == "learning" and watching.view(first).processes[0].pid == 42


def test_what_is_not_there_is_refused_and_leaves_nothing(watching):
    for spec, error in (
        ("4711", NoSuchProcess),
        ("unit:none", NoSuchUnit),
        ("user:nosuch", NoSuchUser),
        ("x", InvalidArgument),
    ):
        with pytest.raises(error):
            watch(watching, spec)
    assert watching.targets == {} and watching.members == {}


def test_no_more_targets_than_allowed(watching):
    for pid in (1, 2, 3):
        watch(watching, str(pid))
    with pytest.raises(TooManyTargets, match="max_targets is 3"):
        watch(watching, "4")


def test_a_command_is_watched_before_it_runs_and_after_it_runs_anew(watching, proc):
    target, _ = watch(watching, "comm:redis-server")
    assert watching.state(target) == "waiting"
    proc(50, "redis-server")
    assert watching.appeared([50, 51]) == [target]
    assert watching.state(target) == "learning"
    assert watching.exited(ended(500, 50)) == [(target, True)]
    assert watching.state(target) == "waiting" and not watching.is_over(target)


def test_a_process_that_no_event_told_of_is_found_by_looking(watching, proc):
    target, _ = watch(watching, "unit:redis")
    proc(60, "redis-server", "/system.slice/redis.service")
    assert watching.rescan() == [target] and watching.rescan() == []
    assert target.members == {600}


def test_children_belong_to_targets_that_follow_them(watching):
    follows, _ = watch(watching, "42")
    alone, _ = watch(watching, "43", children=False)
    assert watching.started(series(421, 421, parent=420, root=420)) == [follows]
    assert watching.started(series(431, 431, parent=430, root=430)) == []
    assert follows.members == {420, 421} and alone.members == {430}


def test_a_pid_is_over_when_it_and_its_children_have_ended(watching):
    target, _ = watch(watching, "42")
    watching.started(series(421, 421, parent=420, root=420))
    assert watching.exited(ended(420, 42)) == [(target, True)]
    assert not watching.is_over(target)
    assert watching.exited(ended(421, 421)) == [(target, False)]
    assert watching.is_over(target) and watching.state(target) == "gone"


def test_a_process_of_two_targets_is_let_go_with_the_last_one(watching, kernel, proc):
    proc(42, "redis-server")
    by_pid, _ = watch(watching, "42")
    by_comm, _ = watch(watching, "comm:redis-server")
    assert watching.remove(by_pid.number) == [] and kernel.removed == []
    assert watching.remove(by_comm.number) == [420] and kernel.removed == [420]
    with pytest.raises(NoSuchTarget, match="no target 1"):
        watching.get(by_pid.number)


def test_the_detectors_word_changes_a_targets_state(watching):
    target, _ = watch(watching, "42")

    def say(progress, alarm):
        one = lambda value: np.array([value])  # noqa: E731
        band = np.zeros((1, 2))
        return watching.heard(
            Verdict(np.array([420], np.uint64), one(2.5), one(0.01), one(progress), one(alarm), band, band, ())
        )

    assert say(0.5, False) == set()
    assert say(1.0, False) == {target.number} and watching.state(target) == "normal"
    assert say(1.0, True) == {target.number} and watching.state(target) == "anomalous"
    assert watching.view(target).score == 2.5


def test_the_newest_sample_is_summed_over_processes_and_missing_where_all_miss(watching):
    target, _ = watch(watching, "42")
    watching.started(series(421, 421, parent=420, root=420))
    watching.members[420].row = np.array([0.5, np.nan])
    watching.members[421].row = np.array([0.25, np.nan])
    assert watching.view(target).latest == {"cpu.on_cpu": 0.75}


def test_what_is_learnt_belongs_to_the_program_and_not_to_the_pid(watching, proc):
    proc(50, "redis-server", "/system.slice/redis.service")
    proc(51, "redis-server", "/system.slice/redis.service")
    watch(watching, "50")
    watch(watching, "51")
    programs = {member.program for member in watching.members.values()}
    assert programs == {"redis.service /bin/sh redis-server --port 0"}


def test_watches_come_back_after_a_restart_but_not_for_another_process(watching, proc, kernel):
    watch(watching, "42")
    watch(watching, "comm:redis-server")
    watch(watching, "43", persistent=False)
    saved = watching.saved()
    assert [one["spec"] for one in saved] == ["pid:42", "comm:redis-server"]

    again = Watching(kernel, Matcher(proc.path), Manager(), METRICS, 3)
    for one in saved:
        asyncio.run(again.restore(one))
    assert [(t.number, str(t.spec)) for t in again] == [(1, "pid:42"), (2, "comm:redis-server")]
    assert watch(again, "44")[0].number == 3

    kernel.start = 8
    reused = Watching(kernel, Matcher(proc.path), Manager(), METRICS, 3)
    with pytest.raises(NoSuchProcess, match="another one has its number"):
        asyncio.run(reused.restore(saved[0]))
    booted = {**saved[0], "boot": "another"}
    with pytest.raises(NoSuchProcess, match="booted anew"):
        asyncio.run(reused.restore(booted))
    assert reused.targets == {} and reused.members == {}


def test_a_unit_comes_back_though_the_service_manager_cannot_be_asked_yet(watching, proc, kernel):
    class Absent(Manager):
        async def unit_processes(self, unit):
            raise Unsupported("no systemd on this bus")

    watch(watching, "unit:redis")
    units = Absent()
    again = Watching(kernel, Matcher(proc.path), units, METRICS, 3)
    target = asyncio.run(again.restore(watching.saved()[0]))
    proc(42, group="/system.slice/redis.service")
    assert (again.state(target), again.rescan()) == ("waiting", [])
    asyncio.run(again.refresh_units())

    units.unit_processes = Manager().unit_processes
    asyncio.run(again.refresh_units())
    assert again.rescan() == [target] and target.members == {420}


def test_a_user_who_is_gone_has_no_processes_and_disturbs_nobody(watching, proc, monkeypatch):
    name = pwd.getpwuid(os.getuid()).pw_name
    watch(watching, f"user:{name}")
    other, _ = watch(watching, "comm:redis-server")

    def nobody(name):
        raise KeyError(name)

    monkeypatch.setattr(pwd, "getpwnam", nobody)
    proc(43, "redis-server")
    assert watching.appeared([43]) == [other]


def test_a_target_whose_processes_cannot_be_told_disturbs_nobody_and_is_said_once(watching, proc, monkeypatch):
    bad, _ = watch(watching, "exe:/bin/sh")
    other, _ = watch(watching, "comm:redis-server")
    for pid in (43, 44, 45):
        proc(pid, "redis-server")

    def broken(path):
        raise ValueError(path)

    with capture_logs() as logs:
        with monkeypatch.context() as patched:
            patched.setattr(os, "readlink", broken)
            assert watching.appeared([43]) == watching.appeared([44]) == [other]
            assert watching.appeared([]) == []
        assert watching.appeared([45]) == [other]
    assert [(entry["log_level"], str(bad.spec) in str(entry)) for entry in logs] == [("error", True), ("info", True)]


def test_a_process_that_cannot_be_taken_in_keeps_no_other_out_and_is_said_once(watching, kernel, proc, monkeypatch):
    target, _ = watch(watching, "comm:redis-server")
    proc(43, "redis-server")
    proc(44, "redis-server")
    add = kernel.add

    def broken(pid, follow_children=True):
        if pid == 43:
            raise OSError(24, "Too many open files")
        return add(pid, follow_children)

    with capture_logs() as logs:
        with monkeypatch.context() as patched:
            patched.setattr(kernel, "add", broken)
            assert watching.appeared([43, 44]) == [target] and target.members == {440}
            assert watching.appeared([43, 44]) == []
        assert watching.appeared([43]) == [target] and target.members == {430, 440}
    assert [(entry["log_level"], "process 43" in str(entry)) for entry in logs] == [("error", True), ("info", True)]


def test_the_boot_is_the_machines(watching):
    watch(watching, "42")
    assert watching.saved()[0]["boot"] == Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    assert os.getpid() not in list(Matcher().pids())


def test_the_expected_range_is_summed_and_a_process_that_is_still_learning_counts_with_what_it_does(watching):
    target, _ = watch(watching, "42")
    watching.started(series(421, 421, parent=420, root=420))
    root, child = watching.members[420], watching.members[421]
    root.row, child.row = np.array([0.5, 7.0]), np.array([0.25, 3.0])
    assert watching.expected(target) is None
    root.low, root.high = np.array([-1.0, np.nan]), np.array([1.0, np.nan])
    low, high = watching.expected(target)
    assert (low[0], high[0]) == (0.25, 1.25) and np.isnan(low[1]) == np.isnan(high[1])
    child.low, child.high = np.array([0.125, 1.0]), np.array([0.5, 5.0])
    low, high = watching.expected(target)
    assert (low[0], high[0]) == (0.125, 1.5)
