"""A daemon that watches a crowd which forks a thousand times a second: does it keep up, and what does it take?

    sudo /usr/bin/python3 bench/endurance.py [--processes 1000] [--threads 20] [--rate 1000] [--seconds 60]

Each thread of the crowd sleeps; a child ends at once.  An answer is that of ``osdctl list``, its own start included.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))
sys.path.insert(0, str(Path(__file__).parents[1]))

from embedded import Embedded, cpu_s, daemon, rss_mib

from tests.bpf.crowd import Crowd, room_for_threads

SETTLE_S = 10.0


@dataclass(frozen=True)
class Phase:
    """What was seen of the daemon while something went on."""

    name: str
    seconds: float
    events: int
    cpu: float
    ticks_ms: list[float]
    longest_answer_s: float
    lost: dict[str, int]
    rss_mib: float

    def line(self) -> str:
        ticks = sorted(self.ticks_ms) or [0.0]
        lost = ", ".join(f"{count} {name}" for name, count in self.lost.items()) or "nothing"
        return (
            f"{self.name:8}{self.seconds:8.1f}{self.events:9d}{self.cpu:9.1f}"
            f"{ticks[len(ticks) // 2]:10.0f}{ticks[-1]:9.0f}"
            f"{self.longest_answer_s:10.2f}{self.rss_mib:9.1f}  {lost}"
        )


HEAD = (
    f"{'':8}{'':8}{'':9}{'CPU, % of':>9}{'median':>10}{'longest':>9}{'longest':>10}{'':9}\n"
    f"{'phase':8}{'s':>8}{'forks':>9}{'a core':>9}{'tick ms':>10}{'tick ms':>9}{'answer s':>10}{'RSS MiB':>9}  lost"
)


def phase(running: Embedded, name: str, order: str, crowd: Crowd, seconds: float) -> Phase:
    """Let the crowd do something for a while, and look at the daemon."""
    pid = running.process.pid
    lost = running.status()["lost"]
    cpu, began_s = cpu_s(pid), time.monotonic()
    if order:
        crowd.tell(order)
    ticks, longest_s = [], 0.0
    while time.monotonic() - began_s < seconds:
        asked_s = time.monotonic()
        running.osdctl("list")
        longest_s = max(longest_s, time.monotonic() - asked_s)
        ticks.append(1e3 * running.status()["cost"]["tick_s"])
        time.sleep(0.5)
    events = crowd.answer() if order else 0
    lasted_s = time.monotonic() - began_s
    used = 100 * (cpu_s(pid) - cpu) / lasted_s
    more = {cause: count - lost[cause] for cause, count in running.status()["lost"].items() if count > lost[cause]}
    return Phase(name, lasted_s, events, used, ticks, longest_s, more, rss_mib(pid))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--processes", type=int, default=1000)
    parser.add_argument("--threads", type=int, default=20)
    parser.add_argument("--rate", type=int, default=1000)
    parser.add_argument("--seconds", type=float, default=60)
    args = parser.parse_args()
    small = {name: room for name, room in room_for_threads().items() if room < args.processes * args.threads}
    if small:
        raise SystemExit(f"no room for {args.processes * args.threads} threads: {small}")
    with tempfile.TemporaryDirectory(prefix="osdetectord-bench-") as directory, daemon() as running:
        crowd = Crowd(Crowd.build(Path(directory)), args.processes, args.threads)
        try:
            before_mib, began_s = rss_mib(running.process.pid), time.monotonic()
            running.osdctl("watch", crowd.pid)
            print(f"watching {args.processes} processes, {crowd.threads} threads: {time.monotonic() - began_s:.2f} s")
            time.sleep(SETTLE_S)
            print(HEAD)
            print(phase(running, "idle", "", crowd, min(args.seconds, 20)).line(), flush=True)
            order = f"fork {args.rate} {1000 * args.seconds:.0f}"
            print(phase(running, "forks", order, crowd, args.seconds).line(), flush=True)
            print(phase(running, "after", "", crowd, min(args.seconds, 20)).line(), flush=True)
            began_s = time.monotonic()
            running.osdctl("unwatch", f"pid:{crowd.pid}")
            print(f"unwatching: {time.monotonic() - began_s:.2f} s", end="")
            time.sleep(SETTLE_S)
            print(f"; memory before and after: {before_mib:.1f} and {rss_mib(running.process.pid):.1f} MiB")
        finally:
            crowd.end()


if __name__ == "__main__":
    main()
