"""What a send and its recv cost more with the hooks of sockets, beside the other default programs.

    sudo /usr/bin/python3 bench/network_cost.py [--rounds N] [--pairs N] [--sockets UNIX,TCP,UDP]

One byte is sent and received in a loop pinned to one CPU.  Each round runs every variant once, one after the other:
with nothing attached, with all default programs but those of the network, and with these in either way.  Numbers are
the minimum over the rounds, and the median of the differences within each round to the same without the network.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from osdetectord.collectors.network import NetworkCollector
from osdetectord.collectors.registry import ALWAYS
from osdetectord.sampler import Sampler

WAYS = {
    "without network": (),
    "sockets tell": NetworkCollector.hooks[:1],
    "system calls tell": NetworkCollector.hooks[1:],
}


class Loop:
    """The measured program, waiting to start."""

    def __init__(self, binary: Path, sockets: str, pairs: int, cpu: int) -> None:
        self.process = subprocess.Popen(
            [binary, sockets, str(pairs), str(cpu)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self) -> float:
        """Nanoseconds per pair."""
        out, _ = self.process.communicate("\n")
        return float(out)


def measure(loop: Loop, sockets: str, pairs: int, way: str, watched: bool) -> float:
    """Run with default programs attached; checks that every byte was counted."""
    NetworkCollector.hooks = WAYS[way]
    sampler = Sampler.open(max_processes=64, collectors=ALWAYS)
    try:
        series = sampler.add(loop.process.pid if watched else os.getpid())
        took = loop.run()
        if watched and NetworkCollector.hooks:
            (ended,) = (e for e in sampler.tick(time.monotonic_ns()).exited if e.series == series.series)
            counted = ended.totals[f"network.{sockets.lower()}_tx_bytes"]
            if counted != pairs:
                raise SystemExit(f"{way}: {counted:.0f} of {pairs} bytes were counted")
        return took
    finally:
        sampler.close()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--pairs", type=int, default=300_000)
    parser.add_argument("--sockets", default="UNIX,TCP,UDP")
    options = parser.parse_args()
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {cpu} or {cpu})
    with tempfile.TemporaryDirectory() as directory:
        binary = Path(directory) / "sendrecv"
        subprocess.run(["gcc", "-O2", "-o", binary, Path(__file__).with_name("sendrecv.c")], check=True)
        for sockets in options.sockets.split(","):
            variants = [("nothing attached", False), *((way, watched) for watched in (False, True) for way in WAYS)]
            results: dict[tuple[str, bool], list[float]] = {variant: [] for variant in variants}
            for _ in range(options.rounds):
                for way, watched in variants:
                    loop = Loop(binary, sockets, options.pairs, cpu)
                    attached = way in WAYS
                    took = measure(loop, sockets, options.pairs, way, watched) if attached else loop.run()
                    results[way, watched].append(took)
            print(f"{sockets}, ns per send and recv, {options.rounds} rounds of {options.pairs} pairs on CPU {cpu}")
            print(f"{'':30}{'min':>10}{'+min':>10}{'+median':>10}")
            for (way, watched), values in results.items():
                base = results["without network", watched] if way in WAYS else values
                paired = statistics.median(v - b for v, b in zip(values, base, strict=True))
                who = f"{way}, {'watched' if watched else 'stranger'}" if way in WAYS else way
                print(f"{who:30}{min(values):10.1f}{min(values) - min(base):10.1f}{paired:10.1f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
