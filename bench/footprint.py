"""What the daemon and its detector use: start, memory, CPU by number of watched processes, and a Watch call.

    /usr/bin/python3 bench/footprint.py [--seconds 30] [--processes 1 10 100 1000]

Each watched process works a little: it wakes ten times a second and makes twenty system calls.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import signal
import statistics
import sys
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from embedded import Embedded, cpu_s, daemon, rss_mib

from osdctl.bus import connect


def workers(count: int) -> int:
    """Start a parent with so many children that work a little; returns the parent's pid."""
    parent = os.fork()
    if parent:
        return parent
    try:
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        for number in range(count - 1):
            if os.fork() == 0:
                time.sleep(number % 100 / 1000)
                break
        while True:
            for _ in range(20):
                os.getppid()
            time.sleep(0.1)
    finally:
        os._exit(0)


def stop(parent: int) -> None:
    """End a parent and its children."""
    os.kill(parent, signal.SIGSTOP)
    for task in Path(f"/proc/{parent}/task/{parent}/children").read_text().split():
        os.kill(int(task), signal.SIGKILL)
    os.kill(parent, signal.SIGKILL)
    os.waitpid(parent, 0)


async def watch_calls(address: str, pids: list[int]) -> list[float]:
    """Return the milliseconds that each Watch call took over one connection."""
    bus = await connect({**os.environ, "DBUS_SYSTEM_BUS_ADDRESS": address})
    took = []
    for pid in pids:
        began_s = time.perf_counter()
        await bus.call("/org/osdetector1", "org.osdetector1.Manager", "Watch", "sa{sv}", [str(pid), {}])
        took.append(1e3 * (time.perf_counter() - began_s))
    bus.close()
    return took


def cost(running: Embedded, processes: int, seconds: float) -> tuple[float, float]:
    """Return per cent of a core of daemon and detector while they watch so many processes."""
    parent = workers(processes)
    time.sleep(1)
    try:
        running.osdctl("watch", parent)
        time.sleep(8)
        pids = (running.process.pid, running.worker_pid())
        before = [cpu_s(pid) for pid in pids]
        began_s = time.monotonic()
        time.sleep(seconds)
        lasted_s = time.monotonic() - began_s
        used = [100 * (cpu_s(pid) - old) / lasted_s for pid, old in zip(pids, before, strict=True)]
        running.osdctl("unwatch", f"pid:{parent}")
        return used[0], used[1]
    finally:
        stop(parent)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--processes", type=int, nargs="+", default=[1, 10, 100, 1000])
    args = parser.parse_args()
    with daemon() as running:
        print(f"start to READY   {running.ready_s:6.2f} s")
        singles = [workers(1) for _ in range(20)]
        took = asyncio.run(watch_calls(running.address, singles))
        print(f"a Watch call     {statistics.median(took):6.2f} ms median, {max(took):.2f} ms longest of {len(took)}")
        for pid in singles:
            stop(pid)
        print("\nwatched   daemon CPU   detector CPU   per process   daemon RSS   detector RSS")
        for processes in args.processes:
            ours, detector = cost(running, processes, args.seconds)
            print(
                f"{processes:7d}   {ours:8.2f} %   {detector:10.2f} %   {ours / processes:9.3f} %"
                f"   {rss_mib(running.process.pid):6.1f} MiB   {rss_mib(running.worker_pid()):8.1f} MiB",
                flush=True,
            )


if __name__ == "__main__":
    main()
