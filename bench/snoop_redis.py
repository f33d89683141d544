"""What snooping costs a busy redis: throughput without and with it, and what snooping itself takes.

    sudo /usr/bin/python3 bench/snoop_redis.py [--rounds N] [--requests N]

CPU, memory (mappings), network every second; then with the log of system calls too.  Rounds alternate, so that what
else the machine does falls on all alike; the best of each counts.  On a machine that does other things too, the
server's own CPU time for a request says more than its throughput.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

SIGNALS = {"snoop_cpu": "bcc", "snoop_mem": "bcc_kernel", "snoop_network": "bcc", "interval": 1, "csvpath": "csv"}
CASES = {
    "not snooped": None,
    "three signals": {**SIGNALS, "outcomepath": "outcome"},
    "and every system call": {**SIGNALS, "outcomepath": "outcome", "snoop_syscall": "bcc"},
}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def throughput(port: int, requests: int) -> float:
    """Requests per second of SET and GET together."""
    done = subprocess.run(
        ["redis-benchmark", "-p", str(port), "-n", str(requests), "-c", "20", "-t", "set,get", "--csv"],
        capture_output=True, text=True, check=True,
    )  # fmt: skip
    rates = [float(row[1]) for row in csv.reader(done.stdout.splitlines()[1:])]
    return len(rates) / sum(1 / rate for rate in rates)


def snooped(place: Path, config: dict[str, object], pid: int) -> subprocess.Popen[str]:
    place.mkdir(exist_ok=True)
    (place / "config.json").write_text(json.dumps(config))
    process = subprocess.Popen(
        [sys.executable, "-m", "osdctl", "snoop", "--json=short", "-p", str(pid)],
        cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    while not (place / "csv/cpu.csv").exists() or len((place / "csv/cpu.csv").read_text().splitlines()) < 2:
        time.sleep(0.1)
    return process


def used(pid: int) -> tuple[float, float]:
    """CPU seconds and MiB of a process."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
    ticks, page = os.sysconf("SC_CLK_TCK"), os.sysconf("SC_PAGESIZE")
    return (int(fields[11]) + int(fields[12])) / ticks, pages * page / (1 << 20)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=200_000)
    options = parser.parse_args()
    port = free_port()
    best = dict.fromkeys(CASES, 0.0)
    request_us = dict.fromkeys(CASES, float("inf"))

    def measured(case: str) -> None:
        before = used(server.pid)[0]
        best[case] = max(best[case], throughput(port, options.requests))
        spent = (used(server.pid)[0] - before) / (2 * options.requests) * 1e6
        request_us[case] = min(request_us[case], spent)

    cost: dict[str, tuple[float, float]] = {}
    lost: dict[str, dict[str, int]] = {}
    with tempfile.TemporaryDirectory() as name:
        server = subprocess.Popen(
            ["redis-server", "--port", str(port), "--save", "", "--dir", name], stdout=subprocess.DEVNULL
        )
        try:
            time.sleep(1)
            throughput(port, options.requests // 10)
            for turn in range(options.rounds):
                for case, config in CASES.items():
                    if config is None:
                        measured(case)
                        continue
                    process = snooped(Path(name) / f"{case}-{turn}".replace(" ", "-"), config, server.pid)
                    before, begun = used(process.pid)[0], time.monotonic()
                    measured(case)
                    after, memory = used(process.pid)
                    cost[case] = (100 * (after - before) / (time.monotonic() - begun), memory)
                    process.send_signal(signal.SIGINT)
                    lost[case] = json.loads(process.communicate()[1].splitlines()[-1])["lost"]
        finally:
            server.terminate()
            server.wait()
    print(f"{'':24}{'requests/s':>12}{'loss':>8}{'us/request':>12}{'more':>8}{'CPU':>8}{'memory':>10}  lost")
    for case, rate in best.items():
        percent, memory = cost.get(case, (0.0, 0.0))
        loss = 100 * (1 - rate / best["not snooped"])
        more = 100 * (request_us[case] / request_us["not snooped"] - 1)
        print(
            f"{case:24}{rate:12.0f}{loss:7.1f}%{request_us[case]:12.2f}{more:7.1f}%{percent:7.1f}%{memory:6.0f} MiB"
            f"  {lost.get(case) or ''}"
        )
    return 0


if __name__ == "__main__":
    sys.exit(main())
