"""A demonstration: two real redis-servers under a steady load go wrong, and osdetectord tells.

Ends with status 0 only if both faults were told.  The daemon is already running; ``osdctl`` finds it.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

WORK = Path(__file__).with_name("redis_work.py")
UNDER_SYSTEMD = Path("/run/systemd/system").is_dir()
LEARN_S = 100.0
TELL_S = 30.0


@dataclass(frozen=True, slots=True)
class Server:
    """A redis-server under load, and what it is called as a target."""

    pid: int
    port: int

    @property
    def target(self) -> str:
        """Its specification."""
        return f"pid:{self.pid}"


def osdctl(*words: str) -> str:
    """Run osdctl; a failure ends the demonstration with its own words."""
    command = ["/usr/bin/osdctl"] if UNDER_SYSTEMD else [sys.executable, "-m", "osdctl"]
    done = subprocess.run([*command, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"demonstration: osdctl {words[0]} ended with status {done.returncode}")
    return done.stdout


def ask(*words: str) -> Any:
    """Return what osdctl says, as JSON."""
    return json.loads(osdctl("--json=pretty", *words))


def say(text: str) -> None:
    """Tell what happens, with the seconds since the start."""
    print(f"\n[{time.monotonic() - START:5.1f} s] {text}", flush=True)


@contextmanager
def process(*command: object, quiet: bool = False) -> Iterator[subprocess.Popen[bytes]]:
    """Run a program until the end of the block."""
    out = subprocess.DEVNULL if quiet else None
    child = subprocess.Popen([str(word) for word in command], stdout=out, stderr=out)
    try:
        yield child
    finally:
        child.send_signal(signal.SIGTERM)
        child.wait()


def free_port() -> int:
    """Return a TCP port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def wait_for_server(port: int) -> None:
    """Return when somebody listens there."""
    for _ in range(100):
        with socket.socket() as probe:
            if probe.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.1)
    raise SystemExit("demonstration: redis-server does not listen")


def learn(target: str) -> None:
    """Return when what is normal has been learnt."""
    end = time.monotonic() + LEARN_S
    while time.monotonic() < end:
        shown = ask("show", target)
        if shown["state"] not in ("learning", "waiting"):
            if sys.stdout.isatty():
                print("\r" + " " * 40 + "\r", end="")
            return
        if sys.stdout.isatty():
            print(f"\r          learnt {shown['progress']:4.0%}", end="", flush=True)
        time.sleep(1)
    raise SystemExit(f"demonstration: still learning after {LEARN_S:g} s")


def told(target: str, since_us: int, groups: tuple[str, ...]) -> dict[str, Any] | None:
    """Return the anomaly opened since then that blames a metric of these groups, once it is told."""
    end = time.monotonic() + TELL_S
    while time.monotonic() < end:
        for anomaly in ask("anomalies", "--target", target):
            blamed = [blame["metric"] for blame in anomaly["metrics"]]
            if anomaly["opened_us"] >= since_us and any(metric.startswith(groups) for metric in blamed):
                return dict(anomaly)
        time.sleep(0.3)
    return None


def provoke(what: str, server: Server, groups: tuple[str, ...], *options: object) -> bool:
    """Let one fault happen; return whether it was told."""
    began_s, began_us = time.monotonic(), time.time_ns() // 1000
    with process(sys.executable, WORK, "--port", server.port, *options, what, quiet=True):
        anomaly = told(server.target, began_us - 2_000_000, groups)
    if anomaly is None:
        say(f"NOT TOLD within {TELL_S:g} s")
        return False
    say(f"told after {time.monotonic() - began_s:.1f} s, as anomaly {anomaly['id']}")
    return True


@contextmanager
def loaded_server(directory: str) -> Iterator[Server]:
    """Run a redis-server of its own under a steady load."""
    program = shutil.which("redis-server")
    if program is None:
        raise SystemExit("demonstration: no redis-server: ./run installs it")
    port = free_port()
    options = ("--port", port, "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--logfile", f"{port}.log")
    with process(program, *options) as redis:
        wait_for_server(port)
        with process(sys.executable, WORK, "--port", port, "load", quiet=True):
            yield Server(redis.pid, port)


def demonstrate(directory: str) -> bool:
    """Do it; return whether both faults were told."""
    with loaded_server(directory) as first, loaded_server(directory) as second:
        pids = f"{first.pid} {second.pid}"
        say(f"two redis-servers answer 400 requests a second each: osdctl watch {pids}")
        osdctl("--quiet", "watch", "--runtime", first.target, second.target)
        if UNDER_SYSTEMD:
            match = [f"OSDETECTOR_TARGET={server.target}" for server in (first, second)]
            follower = ["/usr/bin/journalctl", "--follow", "--lines=0", "--output=cat", *match]
        else:
            follower = [sys.executable, "-m", "osdctl", "log", "--follow"]
        with process(*follower):
            say("learning what is normal for each of them")
            learn(first.target)
            learn(second.target)
            say(f"a leak in {first.pid}: clients ask for large values and never read the replies")
            leak = provoke("leak", first, ("memory.",), "--seconds", 30)
            say(f"a runaway in {second.pid}: one client's script keeps it busy, everybody else waits")
            runaway = provoke("runaway", second, ("cpu.", "syscalls."), "--seconds", 12)
            say("osdctl anomalies")
            print(osdctl("anomalies", "--since", f"-{time.monotonic() - START:.0f}s"), end="", flush=True)
        osdctl("--quiet", "unwatch", first.target, second.target)
    return leak and runaway


def main() -> int:
    """Run the demonstration; returns 0 if every fault was told."""
    if os.geteuid() != 0:
        raise SystemExit("demonstration: must be root")
    with tempfile.TemporaryDirectory(prefix="osdetectord-demo-") as directory:
        try:
            done = demonstrate(directory)
        except KeyboardInterrupt:
            return 130
    say("both faults were told" if done else "a fault was NOT told")
    return 0 if done else 1


START = time.monotonic()

if __name__ == "__main__":
    sys.exit(main())
