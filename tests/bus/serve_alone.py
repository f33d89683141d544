"""The server over a fake daemon in a process of its own, which tells how late its loop was: ``serve_alone.py ADDRESS``.

Every line on standard output is a JSON object with ``lag_s``, the worst delay of a timer since the line before,
``ping_s``, the time of the server's question to itself (null if it failed), and ``rss_kb``.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from pathlib import Path

from fake_core import FakeCore, a_target, an_anomaly

from osdetectord.bus.connection import BusGone
from osdetectord.bus.server import BusServer

EVERY_S = 0.02
PING_S = 20  # in a flood on a busy machine our question waits in the bus behind what the bus has taken already
TARGETS = 10
ANOMALIES = 100


async def main(address: str) -> None:
    core = FakeCore()
    core.target_views = {number: a_target(number) for number in range(1, TARGETS + 1)}
    core.anomaly_views = {number: an_anomaly(number) for number in range(1, ANOMALIES + 1)}
    server = BusServer(core, address)
    await server.start()
    worst = 0.0

    async def watch_the_loop() -> None:
        nonlocal worst
        while True:
            before = time.monotonic()
            await asyncio.sleep(EVERY_S)
            worst = max(worst, time.monotonic() - before - EVERY_S)

    watcher = asyncio.create_task(watch_the_loop())
    while server.connected:
        before = time.monotonic()
        ping_s: float | None = None
        try:
            await server.ping(PING_S)
            ping_s = time.monotonic() - before
        except BusGone:
            pass
        rss_kb = int(Path("/proc/self/statm").read_text().split()[1]) * 4
        print(json.dumps({"lag_s": worst, "ping_s": ping_s, "rss_kb": rss_kb, **server.lost}), flush=True)
        worst = 0.0
        await asyncio.sleep(0.25)
    watcher.cancel()


asyncio.run(main(sys.argv[1]))
