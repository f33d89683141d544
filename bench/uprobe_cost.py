"""What a probed call costs more, by what is recorded of it; and how fast symbols are found.

    sudo /usr/bin/python3 bench/uprobe_cost.py [--rounds N] [--calls N]
    /usr/bin/python3 bench/uprobe_cost.py elf [FILE...]

The first calls a function in a loop in a process of its own.  Each round runs every variant once; numbers are the
minimum over the rounds and the median of the differences from the bare loop of the same round.  The second finds
functions by name in large files and compares with pyelftools where that is installed.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from glob import glob
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from osdetectord.bpf.kernel import Kernel, Sizes
from osdetectord.probing.allocations import Allocations
from osdetectord.probing.elf import Elf
from osdetectord.probing.probes import Probes

HERE = Path(__file__).parent
UNBOUNDED = 1 << 40

Attach = Callable[[Probes, Allocations, int], None]


def nothing(probes: Probes, allocations: Allocations, pid: int) -> None:
    return


def entry(probes: Probes, allocations: Allocations, pid: int) -> None:
    probes.add_trace(":FUNCTION", entry="called", pids=[pid], budget=UNBOUNDED)


def entry_text(probes: Probes, allocations: Allocations, pid: int) -> None:
    probes.add_trace(":FUNCTION", entry="'%s' % (arg2)", pids=[pid], budget=UNBOUNDED)


def returned(probes: Probes, allocations: Allocations, pid: int) -> None:
    probes.add_trace("FUNCTION(n: long) -> long", pids=[pid], budget=UNBOUNDED)


def probe(probes: Probes, allocations: Allocations, pid: int) -> None:
    probes.add_probe(":FUNCTION", pids=[pid], budget=UNBOUNDED)


def watched(probes: Probes, allocations: Allocations, pid: int) -> None:
    allocations.add(pid, budget=UNBOUNDED)


CALLED: dict[str, Attach] = {
    "nothing": nothing,
    "trace: line at entry": entry,
    "trace: string at entry": entry_text,
    "trace: line at return": returned,
    "probe: record and totals": probe,
}
ALLOCATED: dict[str, Attach] = {"nothing": nothing, "allocations": watched}


class _Named:
    """Probes with the loop's function in the place of FUNCTION."""

    def __init__(self, probes: Probes, function: str) -> None:
        self._probes, self._function = probes, function

    def add_trace(self, text: str, **options: object) -> int:
        return self._probes.add_trace(text.replace("FUNCTION", self._function), **options)  # type: ignore[arg-type]

    def add_probe(self, text: str, **options: object) -> int:
        return self._probes.add_probe(text.replace("FUNCTION", self._function), **options)  # type: ignore[arg-type]


def measure(kernel: Kernel, loop: subprocess.Popen[str], function: str, attach: Attach) -> float:
    """Nanoseconds of one call."""
    assert loop.stdin is not None
    assert loop.stdout is not None
    probes, allocations = Probes(kernel, time.monotonic_ns()), Allocations(kernel)
    try:
        attach(_Named(probes, function), allocations, loop.pid)  # type: ignore[arg-type]
        loop.stdin.write("\n")
        loop.stdin.flush()
        return float(loop.stdout.readline())
    finally:
        probes.close()
        probes.tick(time.monotonic_ns())
        allocations.close()


def cost(rounds: int, calls: int) -> None:
    """Print a table for each kind of first instruction, and for the allocator."""
    kernel = Kernel(Sizes.of(64))
    with tempfile.TemporaryDirectory() as directory:
        binary = Path(directory) / "uprobed"
        subprocess.run(["gcc", "-O2", "-o", binary, HERE / "uprobed.c"], check=True)
        print(f"attached by {kernel.uprobes.way}; {calls} calls, {rounds} rounds; ns per call\n")
        for function, about, variants in (
            ("cheap", "first instruction emulated (push)", CALLED),
            ("dear", "first instruction stepped over (lea)", CALLED),
            ("pair", "malloc and free", ALLOCATED),
        ):
            loop = subprocess.Popen(
                [binary, function, str(calls)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
            )
            assert loop.stdout is not None
            loop.stdout.readline()
            found: dict[str, list[float]] = {name: [] for name in variants}
            for _ in range(rounds):
                for name, attach in variants.items():
                    found[name].append(measure(kernel, loop, function, attach))
            print(f"{about:<40}{'min':>9}{'+ median':>10}")
            for name, values in found.items():
                more = statistics.median(value - bare for value, bare in zip(values, found["nothing"], strict=True))
                print(f"  {name:<38}{min(values):9.1f}{more:10.1f}")
            loop.kill()
            loop.communicate()
    kernel.close()


def symbols(files: list[str]) -> None:
    """Print how long it takes to find the last function of each file by its name."""
    try:
        from elftools.elf.elffile import ELFFile
    except ImportError:
        ELFFile = None
        print("pyelftools is not installed: nothing to compare with")
    print(f"{'file':<52}{'functions':>10}{'ours ms':>10}{'pyelftools ms':>15}")
    for path in files:
        fd = os.open(path, os.O_RDONLY)
        elf = Elf(fd, path)
        table = max(elf._tables, key=lambda table: len(table.symbols))
        start = int(table.symbols["name"][-1])
        name = table.names[start : table.names.find(b"\0", start)].decode()
        begun = time.perf_counter()
        address = Elf(fd, path).find(name).address
        ours = time.perf_counter() - begun
        theirs = float("nan")
        if ELFFile is not None:
            begun = time.perf_counter()
            with open(path, "rb") as file:
                held = ELFFile(file)
                section = held.get_section_by_name(".symtab") or held.get_section_by_name(".dynsym")
                assert address in {symbol["st_value"] for symbol in section.iter_symbols() if symbol.name == name}
            theirs = time.perf_counter() - begun
        os.close(fd)
        print(f"{path:<52}{len(table.symbols):>10}{ours * 1e3:>10.1f}{theirs * 1e3:>15.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("what", nargs="?", choices=["cost", "elf"], default="cost")
    parser.add_argument("files", nargs="*")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--calls", type=int, default=20000)
    options = parser.parse_args()
    if options.what == "elf":
        found = [*glob("/usr/lib/*/libc.so.6"), "/usr/bin/python3", *glob("/usr/lib/*/libLLVM-14.so*")[:1]]
        symbols(options.files or found)
    else:
        cost(options.rounds, options.calls)


if __name__ == "__main__":
    main()
