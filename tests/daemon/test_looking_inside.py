"""The whole daemon looks inside a target whose work is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.bpf.obedient import Workload

CALLS, FAILURES = 997, 499


@pytest.fixture
def workload() -> Iterator[Workload]:
    work = Workload()
    yield work
    work.end()


def test_calls_errors_waits_and_threads_are_those_that_there_were(daemon, workload):
    workload.do("hold 2")
    other = Workload()
    try:
        (watched,) = daemon.ask("watch", "--no-children", workload.pid)
        workload.do(f"count {CALLS}")
        other.do(f"count {CALLS}")
        workload.do(f"fail {FAILURES}")
        workload.do("nap 211")
        calls = {row["name"]: row for row in daemon.ask("syscalls", watched["id"])}
        (waits,) = daemon.ask("latency", watched["id"])
        (block,) = daemon.ask("latency", watched["id"], "block")
        (target,) = daemon.ask("show", watched["id"], "--threads")
        shown = daemon.osdctl("latency", watched["id"]).stdout
    finally:
        other.end()

    assert (calls["sched_yield"]["calls"], calls["sched_yield"]["errors"]) == (CALLS, 0)
    assert (calls["close"]["calls"], calls["close"]["failures"]) == (FAILURES, {"EBADF": FAILURES})
    # each nap ends with a wait
    assert waits["wait"]["count"] >= 211
    assert 0 < waits["wait"]["p50_s"] <= waits["wait"]["p99_s"] <= waits["wait"]["longest_s"]
    assert "waits for a CPU" in shown and "#" in shown
    assert set(block) == {"read", "write"}
    threads = Path(f"/proc/{workload.pid}/task")
    assert {row["tid"] for row in target["threads"]} == {int(each.name) for each in threads.iterdir()}
    assert {row["pid"] for row in target["threads"]} == {workload.pid}
