"""The log of single system calls at a given rate: what is lost, and what it costs.

    sudo /usr/bin/python3 bench/syscall_log.py [--rate N] [--seconds S]

A program calls getppid at half the rate, as each call is two rows.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from osdetectord.collectors.syscall_log import PAGES  # noqa: E402
from osdetectord.sampler import Sampler  # noqa: E402
from osdetectord.snoop.syscalls import SyscallLog  # noqa: E402
from osdetectord.snoop.table import CsvFile  # noqa: E402

PAUSE_S = 0.02


@dataclass(frozen=True)
class Result:
    """One line of the table."""

    made: int
    got: int
    lost: int
    seconds: float
    call_ns: float
    reader_ns: float


def run(sampler: Sampler, program: Path, rate: float, seconds: float, file: CsvFile | None) -> Result:
    """Let the program make its calls while the log is read, or written to a file."""
    process = subprocess.Popen(
        [program, str(rate / 2), str(seconds)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    watched = sampler.add(process.pid, follow_children=False)
    sampler.logged_syscalls()
    lost, begun, cpu_s = sampler.lost()["logged"], time.perf_counter(), cpu_time_s()
    if file is not None:
        log = SyscallLog(sampler, file, False, print)
        said = process.communicate("\n")[0]
        log.stop()
        got = file.rows
    else:
        sampler.log_syscalls(True)
        assert process.stdin is not None and process.stdout is not None
        process.stdin.write("\n")
        process.stdin.flush()
        got = 0
        while process.poll() is None:
            time.sleep(PAUSE_S)
            got += sampler.logged_syscalls().rows
        got += sampler.logged_syscalls().rows
        sampler.log_syscalls(False)
        said = process.stdout.read()
    made, call_ns = said.split()
    took, cpu_s = time.perf_counter() - begun, cpu_time_s() - cpu_s - int(made) * float(call_ns) * 1e-9
    lost = sampler.lost()["logged"] - lost
    sampler.tick(time.monotonic_ns())
    if watched.series in sampler.tick(time.monotonic_ns()).frame.series:
        sampler.remove(watched.series)
    return Result(2 * int(made), got, lost, took, float(call_ns), cpu_s / max(got, 1) * 1e9)


def cpu_time_s() -> float:
    """CPU time of this process, and of its children that have ended."""
    return sum(os.times()[:4])


def bare(program: Path, seconds: float) -> float:
    """Nanoseconds of a call that nobody looks at."""
    said = subprocess.run([program, "0", str(seconds)], input="\n", capture_output=True, text=True, check=True).stdout
    return float(said.split()[1])


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=float, default=500_000, help="rows per second")
    parser.add_argument("--seconds", type=float, default=5.0)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        directory = Path(name)
        program = directory / "paced"
        subprocess.run(["gcc", "-O2", "-o", program, ROOT / "bench/paced.c"], check=True)
        base_ns = bare(program, 1.0)
        sampler = Sampler.open(max_processes=64, log_pages=PAGES)
        file = CsvFile(directory / "syscall.csv", ("TIME", "PID", "COMM", "ACTION", "SYSCALL_ID", "PARM1"), print)
        results = {
            "ring, read by numpy": run(sampler, program, options.rate, options.seconds, None),
            "into a CSV file": run(sampler, program, options.rate, options.seconds, file),
            "ring, as fast as it can": run(sampler, program, 0, min(options.seconds, 2.0), None),
        }
        file.end()
        sampler.close()
    print(f"{'':26}{'rows':>10}{'a second':>10}{'lost':>10}{'ns of reader':>14}{'ns of call':>12}")
    for what, one in results.items():
        print(
            f"{what:26}{one.made:10}{one.made / one.seconds:10.0f}{one.lost:10}{one.reader_ns:14.0f}{one.call_ns:12.0f}"
        )
    print(f"a call that nobody looks at takes {base_ns:.0f} ns")
    kept = results["ring, read by numpy"]
    missed = kept.lost or results["into a CSV file"].lost or kept.got < kept.made
    print(f"wanted: none lost at {options.rate:.0f} rows a second: {'missed' if missed else 'kept'}")
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
