"""Probed functions and allocations of a watched process are judged: what goes wrong in one is found and named."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from private_bus import PrivateBus, wait_until

from tests.bpf.whole_daemon import Daemon

HERE = Path(__file__).parent
LEARNT_S = 45


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


@pytest.fixture
def slowed(tmp_path: Path) -> Iterator[Slowed]:
    one = Slowed(tmp_path)
    yield one
    one.process.kill()
    one.process.communicate()


@pytest.fixture
def daemon(tmp_path: Path) -> Iterator[Daemon]:
    with PrivateBus() as bus:
        daemon = Daemon(tmp_path, bus)
        (daemon.config / "detectors.yml").write_text("warmup_s: 30\n")
        (daemon.config / "osdetectord.yml").write_text("interval_s: 0.5\n")
        daemon.start()
        yield daemon
        daemon.stop()
        assert "Traceback" not in daemon.said()


def blamed(daemon: Daemon, metric: str, least: float) -> list[dict[str, object]]:
    """Anomalies in which a metric is to blame, and was at least so high."""
    return [
        one
        for one in daemon.ask("anomalies")
        if any(blame["metric"] == metric and blame["observed"] >= least for blame in one["metrics"])
    ]


def test_a_function_that_grows_slow_and_a_leak_are_found_and_named(daemon: Daemon, slowed: Slowed) -> None:
    (target,) = daemon.ask("watch", slowed.pid)
    for function in (":serve", ":other"):
        daemon.ask("probe", "add", function, "--pid", slowed.pid)
    (held,) = daemon.ask("allocations", "add", target["id"], "--yes")
    names = {f"function.{part}[{f}]" for part in ("calls", "p50", "p99") for f in (":serve", ":other")}
    names |= {"allocations.bytes", "allocations.blocks"}
    wait_until(lambda: names <= set(daemon.ask("show", target["id"])[0]["latest"]), 30)
    time.sleep(LEARNT_S)
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
    most = daemon.ask("allocations", "top", held["id"])[0]
    assert most["frames"][0].startswith("keep+")
    assert most["bytes"] == most["blocks"] * 65521
