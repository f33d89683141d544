"""What redis loses while it is watched: redis-benchmark with and without the daemon watching, by turns.

/usr/bin/python3 bench/redis_loss.py [--rounds 7]
"""

from __future__ import annotations

import argparse
import csv
import socket
import statistics
import subprocess
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from embedded import daemon

CASES = {"one at a time": ["-P", "1", "-n", "60000"], "pipelined by 16": ["-P", "16", "-n", "600000"]}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def requests_per_s(port: int, words: list[str]) -> float:
    """Return the throughput of GET, as redis-benchmark measures it."""
    command = ["redis-benchmark", "-p", str(port), "-t", "get", "-c", "20", "--csv", *words]
    done = subprocess.run(command, stdout=subprocess.PIPE, text=True, check=True)
    rows = list(csv.reader(done.stdout.splitlines()))
    return float(rows[-1][1])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=7)
    rounds = parser.parse_args().rounds
    port = free_port()
    redis = subprocess.Popen(
        ["redis-server", "--port", str(port), "--save", "", "--appendonly", "no"], stdout=subprocess.DEVNULL
    )
    try:
        time.sleep(1)
        with daemon() as running:
            print(f"{'load':16s} {'alone':>12s} {'watched':>12s} {'loss, median of pairs':>22s}")
            for name, words in CASES.items():
                alone, watched = [], []
                requests_per_s(port, words)
                for _ in range(rounds):
                    alone.append(requests_per_s(port, words))
                    running.osdctl("watch", redis.pid)
                    watched.append(requests_per_s(port, words))
                    running.osdctl("unwatch", f"pid:{redis.pid}")
                loss = statistics.median(100 * (1 - b / a) for a, b in zip(alone, watched, strict=True))
                rates = f"{statistics.median(alone):8.0f} r/s {statistics.median(watched):8.0f} r/s"
                print(f"{name:16s} {rates} {loss:20.1f} %", flush=True)
    finally:
        redis.terminate()
        redis.wait()


if __name__ == "__main__":
    main()
