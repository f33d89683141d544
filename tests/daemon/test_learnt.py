"""Faults of programs that one daemon has learnt: a loop, the drill's, a slow function and a leak in it.

What is normal takes a while to learn: all are learnt at the same time, and go wrong one after another.
"""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_bus import wait_until

from tests.daemon.whole_daemon import Daemon, Work, running

HERE = Path(__file__).parent
LEARNT_S = 45
"""When the parts of a process are learnt too."""


class Slowed:
    """The program of slowed.c, which is slow, or leaks, on request."""

    def __init__(self, directory: Path) -> None:
        path = directory / "slowed"
        subprocess.run(["gcc", "-O2", "-fno-omit-frame-pointer", "-o", path, HERE / "slowed.c", "-pthread"], check=True)
        self.slow, self.leak = directory / "slow", directory / "leak"
        self.process = subprocess.Popen([path, self.slow, self.leak], stdout=subprocess.PIPE)
        self.pid = self.process.pid
        assert self.process.stdout is not None
        assert self.process.stdout.readline() == b"ready\n"

    def end(self) -> None:
        self.process.kill()
        self.process.communicate()


class Learning:
    """A daemon and who is learnt by it."""

    def __init__(self, directory: Path, daemon: Daemon) -> None:
        self.daemon = daemon
        self.work, self.slowed = Work(directory / "spin"), Slowed(directory)
        (self.worker,) = daemon.ask("watch", self.work.pid)
        (self.target,) = daemon.ask("watch", self.slowed.pid)
        for function in (":serve", ":other"):
            daemon.ask("probe", "add", function, "--pid", self.slowed.pid)
        (self.held,) = daemon.ask("allocations", "add", self.target["id"], "--yes")
        self.began_s = time.monotonic()
        drill = [sys.executable, "-m", "osdctl", "--json=short", "drill", "descriptors", "--limit", "2min"]
        self.drill = subprocess.Popen(
            drill, env=daemon.environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )

    def end(self) -> None:
        self.drill.terminate()
        self.drill.communicate()
        for one in (self.work, self.slowed):
            one.end()


# whichever test comes first waits for all to be learnt
pytestmark = pytest.mark.timeout(400)


@pytest.fixture(scope="module")
def learning(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Learning]:
    directory = tmp_path_factory.mktemp("learning")
    with running(directory, interval_s=0.5) as daemon:
        learning = Learning(directory, daemon)
        yield learning
        learning.end()


@pytest.fixture
def daemon(learning: Learning) -> Iterator[Daemon]:
    yield learning.daemon
    assert "Traceback" not in learning.daemon.said()


def state(daemon: Daemon, target: dict[str, object]) -> object:
    (shown,) = daemon.ask("show", target["id"])
    return shown["state"]


def test_a_process_that_begins_to_spin_is_an_anomaly_until_it_stops(daemon: Daemon, learning: Learning) -> None:
    work, target = learning.work, learning.worker
    wait_until(lambda: state(daemon, target) == "normal", 90)
    time.sleep(5)
    work.spin.touch()
    told = daemon.waits_to_say(rf'\{{"MESSAGE": "python3\[{work.pid}\]: .*\}}', 30)
    record = json.loads(told[0])
    assert record["OBJECT_PID"] == work.pid
    assert record["PRIORITY"] == 4
    assert record["MESSAGE_ID"] == "0ad3a6ef2c7b4a0f9f6b5cf7c1d1b9a1"
    assert "cpu." in record["OSDETECTOR_METRICS"] or "syscalls." in record["OSDETECTOR_METRICS"]
    (anomaly,) = daemon.ask("anomalies", "--open", "--target", f"pid:{work.pid}")
    assert anomaly["pid"] == work.pid
    assert anomaly["message"] == record["MESSAGE"]
    assert state(daemon, target) == "anomalous"
    told_of_it(daemon, target["id"], anomaly["id"])
    work.spin.unlink()
    daemon.waits_to_say(rf"python3\[{work.pid}\]: normal again after", 60)


def told_of_it(daemon: Daemon, target: object, number: object) -> None:
    """Check that an anomaly of a loop is explained by what changed, and drawn with what was expected."""
    (explained,) = daemon.ask("explain", number)
    calls = explained["evidence"]["syscalls"]
    assert calls["during_s"] > 0
    assert calls["before_s"] > 0
    getppid = next(call for call in calls["calls"] if call["name"] == "getppid")
    assert getppid["before_count"] / calls["before_s"] > getppid["count"] / calls["during_s"]
    (thread,) = explained["evidence"]["threads"]
    assert thread["tid"] == explained["pid"]
    assert "watched" in [one["kind"] for one in explained["evidence"]["happenings"]]
    # what is expected is kept each ten seconds
    wait_until(lambda: daemon.ask("plot", target, "cpu.on_cpu")[0]["expected"]["high"], 30)
    (curve,) = daemon.ask("plot", target, "cpu.on_cpu")
    assert max(curve["max"]) > max(curve["expected"]["high"]) > 0
    assert len(curve["values"]) == len(curve["times_us"]) > 60


def test_the_drill_brings_a_fault_about_and_is_told_it(daemon: Daemon, learning: Learning) -> None:
    said, wrong = learning.drill.communicate(timeout=380)
    assert learning.drill.returncode == 0, said + wrong
    told = json.loads(said)
    assert told["told"]
    assert told["fault"] == "descriptors"
    assert told["seconds"] <= 120
    assert daemon.ask("anomalies", "-n", "1")[0]["id"] >= told["anomaly"]["id"]
    wait_until(lambda: set(daemon.targets()) == {f"pid:{one.pid}" for one in (learning.work, learning.slowed)}, 10)


def blamed(daemon: Daemon, metric: str, least: float) -> list[dict[str, object]]:
    """Anomalies in which a metric is to blame, and was at least so high."""
    return [
        one
        for one in daemon.ask("anomalies")
        if any(blame["metric"] == metric and blame["observed"] >= least for blame in one["metrics"])
    ]


def test_a_function_that_grows_slow_and_a_leak_are_found_and_named(daemon: Daemon, learning: Learning) -> None:
    slowed, target = learning.slowed, learning.target
    names = {f"function.{part}[{f}]" for part in ("calls", "p50", "p99") for f in (":serve", ":other")}
    names |= {"allocations.bytes", "allocations.blocks"}
    wait_until(lambda: names <= set(daemon.ask("show", target["id"])[0]["latest"]), 30)
    time.sleep(max(0.0, learning.began_s + LEARNT_S - time.monotonic()))
    assert blamed(daemon, "function.p99[:serve]", 0.4) == []

    slowed.slow.touch()
    wait_until(lambda: blamed(daemon, "function.p99[:serve]", 0.4), 90)
    found = blamed(daemon, "function.p99[:serve]", 0.4)[0]
    blames = {blame["metric"]: blame for blame in found["metrics"]}
    assert all(name.endswith("[:serve]") for name in blames)
    assert blames["function.p99[:serve]"]["high"] < 0.4
    assert found["pid"] == slowed.pid
    assert "[:serve]" in found["message"]
    (explained,) = daemon.ask("explain", found["id"])
    past = explained["evidence"]["metrics"]["function.p99[:serve]"]
    assert sum(value is not None for value in past["values"]) > 20
    (curve,) = daemon.ask("plot", target["id"], "function.p99[:serve]")
    assert max(curve["values"]) > 0.4 > min(curve["values"])
    # as many calls as before
    calls = daemon.ask("show", target["id"])[0]["latest"]["function.calls[:serve]"]
    assert 20 < calls < 150
    slowed.slow.unlink()

    slowed.leak.touch()
    wait_until(lambda: blamed(daemon, "allocations.bytes", 65521), 90)
    most = daemon.ask("allocations", "top", learning.held["id"])[0]
    assert most["frames"][0].startswith("keep+")
    assert most["bytes"] == most["blocks"] * 65521
