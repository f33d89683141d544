"""What one system call costs more while the default programs are attached, beside other tracers.

    sudo /usr/bin/python3 bench/syscall_cost.py [--rounds N] [--calls N]

getppid, the cheapest system call, in a loop pinned to one CPU.  Each round runs every variant once, one after
the other; numbers are the minimum over the rounds and the median of the differences within each round.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from osdetectord.sampler import Sampler

STRACE_PART = 100  # strace is so slow that it gets fewer calls

COUNT = "tracepoint:raw_syscalls:sys_enter /pid == {pid}/ {{ @[args->id] = count(); }}"
LATENCY = (
    "tracepoint:raw_syscalls:sys_enter /pid == {pid}/ {{ @at[tid] = nsecs; @nr[tid] = args->id; }} "
    "tracepoint:raw_syscalls:sys_exit /@at[tid]/ {{ @n[@nr[tid]] = count(); @ns[@nr[tid]] = sum(nsecs - @at[tid]); "
    "delete(@at[tid]); }}"
)


# bpftrace finds its events there; in a mount namespace of its own nothing is left behind
TRACEFS = 'mountpoint -q /sys/kernel/tracing || mount -t tracefs tracefs /sys/kernel/tracing; exec "$@"'


class Loop:
    """The measured program, waiting to start."""

    def __init__(self, binary: Path, calls: int, cpu: int) -> None:
        self._calls = calls
        self.process = subprocess.Popen(
            [binary, str(calls), str(cpu)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )

    def run(self) -> float:
        """Nanoseconds per call."""
        out, _ = self.process.communicate("\n")
        return float(out)


def baseline(loop: Loop) -> float:
    return loop.run()


def unwatched(loop: Loop) -> float:
    sampler = Sampler.open()
    try:
        # somebody is watched, but not the loop, which is a child of this process
        sampler.add(os.getpid(), follow_children=False)
        return loop.run()
    finally:
        sampler.close()


def watched(loop: Loop) -> float:
    sampler = Sampler.open()
    try:
        series = sampler.add(loop.process.pid)
        took = loop.run()
        counted = next(e for e in sampler.tick(time.monotonic_ns()).exited if e.series == series.series)
        if counted.totals["syscalls.process_calls"] < loop._calls:
            raise SystemExit(f"only {counted.totals['syscalls.process_calls']:.0f} calls were counted")
        return took
    finally:
        sampler.close()


def bpftrace(program: str) -> Callable[[Loop], float]:
    def measure(loop: Loop) -> float:
        tracer = subprocess.Popen(
            ["unshare", "--mount", "sh", "-c", TRACEFS, "sh", "bpftrace", "-e", program.format(pid=loop.process.pid)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        assert tracer.stdout is not None
        tracer.stdout.readline()  # "Attaching ... probes"
        time.sleep(1.0)
        took = loop.run()
        tracer.send_signal(2)
        out, errors = tracer.communicate()
        counted = [int(number) for number in re.findall(r"@n?\[110\]: (\d+)", out)]
        if not counted or counted[0] < loop._calls:
            raise SystemExit(f"bpftrace counted {counted}: {errors}")
        return took

    return measure


def strace(loop: Loop) -> float:
    tracer = subprocess.Popen(
        ["strace", "-c", "-f", "-p", str(loop.process.pid)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert tracer.stderr is not None
    tracer.stderr.readline()  # "strace: Process N attached"
    took = loop.run()
    tracer.communicate()
    return took


def build(directory: Path) -> Path:
    """Compile the loop."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    if compiler is None:
        raise SystemExit("this needs a C compiler: apt-get install gcc")
    binary = directory / "getppid"
    subprocess.run([compiler, "-O2", "-o", binary, Path(__file__).with_name("getppid.c")], check=True)
    return binary


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--calls", type=int, default=1_000_000)
    parser.add_argument("--only", default="", help="comma-separated beginnings of variants")
    options = parser.parse_args()
    variants: dict[str, Callable[[Loop], float]] = {
        "baseline": baseline,
        "unwatched": unwatched,
        "watched": watched,
    }
    if shutil.which("bpftrace"):
        variants["bpftrace count"] = bpftrace(COUNT)
        variants["bpftrace count+time"] = bpftrace(LATENCY)
    if shutil.which("strace"):
        variants["strace -c -f"] = strace
    if options.only:
        variants = {n: v for n, v in variants.items() if n.startswith(("baseline", *options.only.split(",")))}
    cpu = max(os.sched_getaffinity(0))
    os.sched_setaffinity(0, os.sched_getaffinity(0) - {cpu} or {cpu})
    results: dict[str, list[float]] = {name: [] for name in variants}
    with tempfile.TemporaryDirectory() as directory:
        binary = build(Path(directory))
        for _ in range(options.rounds):
            for name, measure in variants.items():
                calls = options.calls // (STRACE_PART if name.startswith("strace") else 1)
                results[name].append(measure(Loop(binary, calls, cpu)))
    base = results["baseline"]
    print(f"getppid, ns per call, {options.rounds} rounds of {options.calls} calls on CPU {cpu}")
    print(f"{'':22}{'min':>10}{'+min':>10}{'+median':>10}{'ratio':>8}")
    for name, values in results.items():
        paired = [value - other for value, other in zip(values, base, strict=True)]
        ratio = statistics.median(value / other for value, other in zip(values, base, strict=True))
        added = min(values) - min(base)
        print(f"{name:22}{min(values):10.1f}{added:10.1f}{statistics.median(paired):10.1f}{ratio:8.2f}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
