"""Play demonstrations before a running daemon, which ``osdctl`` finds: ``./run``, ``./run demo NAME...``.

Ends with status 0 only if every fault was told, with the right metric first, and was over when it was over.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from contextlib import ExitStack
from pathlib import Path

from .play import Player, Told
from .registry import SCENARIOS
from .scenario import Scenario, Server, process

UNDER_SYSTEMD = Path("/run/systemd/system").is_dir()
OSDCTL = ["/usr/bin/osdctl"] if UNDER_SYSTEMD else [sys.executable, "-m", "osdctl"]
START = time.monotonic()


def osdctl(*words: str) -> str:
    """Run osdctl; a failure ends the demonstration with its own words."""
    done = subprocess.run([*OSDCTL, *words], stdout=subprocess.PIPE, text=True, check=False)
    if done.returncode:
        raise SystemExit(f"demonstration: osdctl {words[0]} ended with status {done.returncode}")
    return done.stdout


def say(text: str) -> None:
    """Tell what happens, with the seconds since the start."""
    print(f"\n[{time.monotonic() - START:5.1f} s] {text}", flush=True)


def wrong(scenario: Scenario, told: Told | None) -> str:
    """Return what is wrong with what was told of a fault, or nothing."""
    if told is None:
        return "was not told"
    if not scenario.explained_by(told.metrics):
        return f"was blamed on {', '.join(told.metrics)}, expected {' or '.join(scenario.blamed)}"
    return "" if told.closed else "is still told though it is over"


def follower(server: Server) -> list[str]:
    """Return the command that prints what is told of a server from now on."""
    if UNDER_SYSTEMD:
        return ["/usr/bin/journalctl", "--follow", "--lines=0", "--output=cat", f"OSDETECTOR_TARGET={server.target}"]
    return [*OSDCTL, "log", "--follow", "--since", "now", "--target", server.target]


def demonstrate(scenarios: list[Scenario], directory: Path) -> bool:
    """Play them one after another; return whether all is as it should be."""
    player = Player(osdctl, say)
    with player.watched(scenarios, directory) as servers:
        with ExitStack() as stack:
            for server in servers.values():
                stack.enter_context(process(*follower(server), quiet=False))
            told = {scenario.name: player.play(scenario, servers[scenario.name]) for scenario in scenarios}
            say("all faults are over: waiting for the end of the anomalies")
            ends = {name: one and player.wait_for_end(servers[name], one) for name, one in told.items()}
        say("osdctl anomalies")
        print(osdctl("anomalies", "--since", f"-{time.monotonic() - START:.0f}s"), end="", flush=True)
    faults = {scenario.name: wrong(scenario, ends[scenario.name]) for scenario in scenarios}
    for name, what in faults.items():
        say(f"{name}: {what or 'told, explained and closed'}")
    return not any(faults.values())


def main() -> int:
    """Play what the command line names."""
    parser = argparse.ArgumentParser(prog="run demo", description="real servers go wrong, and osdetectord tells")
    parser.add_argument("name", nargs="*", metavar="NAME", help=f"one of {', '.join(SCENARIOS)}; all by default")
    parser.add_argument("--check", action="store_true", help=argparse.SUPPRESS)
    args = parser.parse_args()
    names = args.name or list(SCENARIOS)
    for name in names:
        if name not in SCENARIOS:
            print(f"run: no demonstration {name}: there are {', '.join(SCENARIOS)}", file=sys.stderr)
            return 2
    if args.check:
        return 0
    if os.geteuid() != 0:
        raise SystemExit("demonstration: must be root")
    # what was started, mounted and limited is undone however it ends
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    with tempfile.TemporaryDirectory(prefix="osdetectord-demo-") as directory:
        try:
            done = demonstrate([SCENARIOS[name] for name in dict.fromkeys(names)], Path(directory))
        except KeyboardInterrupt:
            return 130
    return 0 if done else 1


if __name__ == "__main__":
    sys.exit(main())
