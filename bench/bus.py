"""The bus service: round trips per second, latency and, in a flood, how late the event loop is.

``/usr/bin/python3 bench/bus.py [--seconds S]`` starts a private message bus with the shipped policy, serves a fake
daemon (10 targets, 100 anomalies) on it and prints a table.  The callers are dbus-next clients in one process, which
decode each answer: they bound the rate long before the service does, so its own CPU time per call is printed too.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests" / "bus")]

from dbus_next import Message, MessageType, Variant  # noqa: E402
from dbus_next.aio import MessageBus  # noqa: E402
from private_bus import AS_NOBODY, ENVIRONMENT, HERE, PrivateBus  # noqa: E402

FLOODERS = 4
OURS = {"destination": "org.osdetector1", "path": "/org/osdetector1"}
CALLS: dict[str, dict[str, Any]] = {
    "Peer.Ping": {"interface": "org.freedesktop.DBus.Peer", "member": "Ping"},
    "Target GetAll": {
        "path": "/org/osdetector1/target/1",
        "interface": "org.freedesktop.DBus.Properties",
        "member": "GetAll",
        "signature": "s",
        "body": ["org.osdetector1.Target"],
    },
    "ListAnomalies, 100 rows": {
        "interface": "org.osdetector1.Manager",
        "member": "ListAnomalies",
        "signature": "a{sv}",
        "body": [{"limit": Variant("u", 100)}],
    },
    "GetManagedObjects, 110": {"interface": "org.freedesktop.DBus.ObjectManager", "member": "GetManagedObjects"},
}


async def measure(address: str, words: dict[str, Any], callers: int, seconds: float) -> list[float]:
    """Return the latency of each call, in seconds, of so many callers at once."""
    latencies: list[float] = []

    async def one() -> None:
        client = await MessageBus(bus_address=address).connect()
        end = time.monotonic() + seconds
        while (before := time.monotonic()) < end:
            answer = await client.call(Message(**{**OURS, **words}))
            assert answer.message_type is MessageType.METHOD_RETURN, answer.body
            latencies.append(time.monotonic() - before)
        client.disconnect()

    # dbus-next's own client reports an answer that it could not send any more after it disconnected
    asyncio.get_running_loop().set_exception_handler(lambda _loop, _context: None)
    await asyncio.gather(*(one() for _ in range(callers)))
    return latencies


def serve(bus: PrivateBus) -> subprocess.Popen[str]:
    process = subprocess.Popen(
        [sys.executable, str(HERE / "serve_alone.py"), bus.address], stdout=subprocess.PIPE, text=True, env=ENVIRONMENT
    )
    assert process.stdout
    process.stdout.readline()
    return process


def calls(seconds: float) -> None:
    print(f"{'call':26} {'callers':>7} {'calls/s':>8} {'p50 ms':>8} {'p99 ms':>8} {'service CPU us/call':>20}")
    with PrivateBus() as bus:
        server = serve(bus)
        for name, words in CALLS.items():
            for callers in (1, 32):
                before = cpu_s(server.pid)
                latencies = asyncio.run(measure(bus.address, words, callers, seconds))
                cpu = (cpu_s(server.pid) - before) / len(latencies)
                cuts = statistics.quantiles(latencies, n=100)
                print(
                    f"{name:26} {callers:7} {len(latencies) / seconds:8.0f} {cuts[49] * 1e3:8.2f} "
                    f"{cuts[98] * 1e3:8.2f} {cpu * 1e6:20.0f}"
                )
        server.terminate()
        server.communicate()


def flood(mode: str, seconds: float) -> None:
    with PrivateBus() as bus:
        server = serve(bus)
        command = [*AS_NOBODY, sys.executable, str(HERE / "flooder.py"), str(bus.socket), str(seconds), mode]
        flooders = [
            subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=ENVIRONMENT) for _ in range(FLOODERS)
        ]
        latencies = asyncio.run(measure(bus.address, CALLS["ListAnomalies, 100 rows"], 32, seconds))
        sent = sum(int(flooder.communicate()[0]) for flooder in flooders)
        server.terminate()
        records = [json.loads(line) for line in server.communicate()[0].splitlines()]
    pings = [record["ping_s"] for record in records]
    print(
        f"{mode:8} {sent / seconds:8.0f} {len(latencies) / seconds:8.0f} {max(latencies) * 1e3:8.0f} "
        f"{max(record['lag_s'] for record in records) * 1e3:8.1f} "
        f"{'lost' if None in pings else f'{max(pings) * 1e3:.0f}':>8} {max(record['rss_kb'] for record in records):8}"
    )


def cpu_s(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / 100


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=5, help="time of each measurement")
    seconds = parser.parse_args().seconds
    calls(seconds)
    print(f"\n{FLOODERS} unprivileged flooders of Peer.Ping, and 32 callers of 100 rows at once:")
    print(f"{'flood':8} {'sent/s':>8} {'calls/s':>8} {'worst ms':>8} {'lag ms':>8} {'ping ms':>8} {'RSS kB':>8}")
    for mode in ("silent", "reply"):
        flood(mode, seconds)


if __name__ == "__main__":
    main()
