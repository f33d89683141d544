"""The whole daemon looks inside a target whose work is known."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from private_bus import PrivateBus

from tests.bpf.obedient import Workload
from tests.bpf.whole_daemon import Daemon

CALLS, FAILURES = 997, 499


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with PrivateBus() as bus:
        daemon = Daemon(tmp_path, bus)
        daemon.start()
        yield daemon
        daemon.stop()


def test_calls_errors_waits_and_threads_are_those_that_there_were(daemon, workload):
    workload.do("hold 2")
    other = Workload()
    try:
        daemon.ask("watch", "--no-children", workload.pid)
        workload.do(f"count {CALLS}")
        other.do(f"count {CALLS}")
        workload.do(f"fail {FAILURES}")
        workload.do("nap 211")
        calls = {row["name"]: row for row in daemon.ask("syscalls", "1")}
        (waits,) = daemon.ask("latency", "1")
        (block,) = daemon.ask("latency", "1", "block")
        (target,) = daemon.ask("show", "1", "--threads")
        shown = daemon.osdctl("latency", "1").stdout
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
