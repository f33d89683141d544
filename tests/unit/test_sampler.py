"""A tick has samples of all that it can, whoever of them fails."""

import subprocess
import time

import numpy as np
import pytest
from structlog.testing import capture_logs

from osdetectord import proc
from osdetectord.polling import Polling
from osdetectord.sampler import NOT_CONFIGURED, Sampler


@pytest.fixture
def pids():
    running = [subprocess.Popen(["sleep", "60"]) for _ in range(2)]
    yield [one.pid for one in running]
    for one in running:
        one.kill()
        one.wait()


@pytest.fixture
def sampler():
    one = Sampler(Polling("not asked"), 10)
    yield one
    one.close()


def resident(sampler):
    """Tick, and return the resident memory of each process."""
    frame = sampler.tick(time.monotonic_ns()).frame
    column = [metric.name for metric in frame.metrics].index("memory.rss")
    return dict(zip(frame.series.tolist(), frame.values[:, column].tolist(), strict=True))


def test_a_process_that_cannot_be_read_costs_no_other_its_sample_and_is_said_once(sampler, pids, monkeypatch):
    bad, good = (sampler.add(pid).series for pid in pids)
    read = proc.Files.read

    def broken(files):
        if files is first:
            raise OSError(24, "Too many open files")
        return read(files)

    resident(sampler)
    first = sampler._by_series[bad].files
    with capture_logs() as logs:
        with monkeypatch.context() as patched:
            patched.setattr(proc.Files, "read", broken)
            for _ in range(3):
                found = resident(sampler)
                assert np.isnan(found[bad]) and found[good] > 0
        assert resident(sampler)[bad] > 0
    assert [(entry["log_level"], f"process {pids[0]} " in str(entry)) for entry in logs] == [
        ("error", True),
        ("info", True),
    ]


def test_a_process_whose_children_cannot_be_read_costs_no_other_its_sample(sampler, pids, monkeypatch):
    bad, good = (sampler.add(pid).series for pid in pids)
    children = proc.children

    def broken(pid):
        if pid == pids[0]:
            raise OSError(24, "Too many open files")
        return children(pid)

    monkeypatch.setattr(proc, "children", broken)
    with capture_logs() as logs:
        found = [resident(sampler) for _ in range(2)]
    assert all(each[bad] > 0 and each[good] > 0 for each in found)
    assert [entry["log_level"] for entry in logs] == ["error"]


def test_who_was_found_by_a_tick_that_failed_is_told_by_the_next_one(sampler, monkeypatch):
    with subprocess.Popen(["sh", "-c", "sleep 60 & echo; wait"], stdout=subprocess.PIPE) as parent:
        try:
            sampler.add(parent.pid)
            parent.stdout.readline()
            with monkeypatch.context() as patched:
                patched.setattr(sampler._rates, "sample", lambda *_: 1 / 0)
                with pytest.raises(ZeroDivisionError):
                    sampler.tick(time.monotonic_ns())
            started = sampler.tick(time.monotonic_ns()).started
            assert [one.info.parent_pid for one in started] == [parent.pid]
        finally:
            for pid in [*proc.children(parent.pid), parent.pid]:
                subprocess.run(["kill", str(pid)], check=False)


def test_who_ended_in_a_tick_that_failed_is_told_by_the_next_one(sampler, monkeypatch):
    with subprocess.Popen(["sleep", "60"]) as process:
        series = sampler.add(process.pid).series
        resident(sampler)
        process.kill()
    with monkeypatch.context() as patched:
        patched.setattr(sampler._rates, "sample", lambda *_: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            sampler.tick(time.monotonic_ns())
    tick = sampler.tick(time.monotonic_ns())
    assert ([one.series for one in tick.exited], tick.started) == ([series], ())


def test_a_collector_that_nobody_asked_for_has_no_hook_and_is_off():
    sampler = Sampler(Polling("not asked"), 10, collectors=["cpu"])
    (hook,) = (view for view in sampler.hooks if view.collector == "packets")
    assert (hook.hook, hook.rank, hook.why) == ("", 0, NOT_CONFIGURED)
