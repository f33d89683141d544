"""What it takes to read and to delete ten thousand entries of a kernel table, as a tick does.

    sudo /usr/bin/python3 bench/map_read.py [--entries 10000] [--rounds 21]

The tables are those of the kernel part, filled with keys that nobody has.  A per-CPU table is summed over the CPUs.
"""

from __future__ import annotations

import argparse
import ctypes
import statistics
import struct
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

from osdetectord.bpf import syscall
from osdetectord.bpf.kernel import Kernel, Sizes
from osdetectord.bpf.syscall import Map

UPDATE_BATCH = 26  # include/uapi/linux/bpf.h
TABLES = ("waits", "totals", "syscalls", "threads")


def keys_of(table: Map, count: int) -> NDArray[Any]:
    """So many different keys."""
    keys = np.zeros(count, dtype=table.key)
    column = keys if table.key.names is None else keys["serial"]
    column[:] = np.arange(1, count + 1)
    return keys


def fill(table: Map, keys: NDArray[Any]) -> None:
    """Put a value of zeros at each key."""
    values = np.zeros(table._shape(len(keys)), dtype=table.value)
    layout = struct.pack("<QQQQIIQQ", 0, 0, keys.ctypes.data, values.ctypes.data, len(keys), table.fd, 0, 0)
    syscall.bpf(UPDATE_BATCH, ctypes.create_string_buffer(layout, 56))


def took_ms(work: Callable[[], object]) -> float:
    """Milliseconds that something took."""
    began = time.perf_counter()
    work()
    return 1e3 * (time.perf_counter() - began)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--entries", type=int, default=10_000)
    parser.add_argument("--rounds", type=int, default=21)
    options = parser.parse_args()
    # no programs but those of processes: nothing else writes into the tables
    kernel = Kernel(Sizes.of(options.entries, 2 * options.entries), collectors=("lifecycle",))
    try:
        print(f"{options.entries} entries, milliseconds, {options.rounds} rounds")
        print(f"{'table':12}{'bytes':>7}{'per CPU':>9}{'read':>8}{'(best)':>8}{'delete':>8}")
        for name in TABLES:
            table = kernel.maps[name]
            keys, reads, deletes = keys_of(table, options.entries), [], []
            for _ in range(options.rounds):
                fill(table, keys)
                reads.append(took_ms(table.read))
                found = len(table.read()[0])
                if found != options.entries:
                    raise SystemExit(f"{name} has {found} entries, not {options.entries}")
                deletes.append(took_ms(lambda table=table, keys=keys: table.delete(keys)))
            print(
                f"{name:12}{table.value.itemsize:7d}{'yes' if table._per_cpu else 'no':>9}"
                f"{statistics.median(reads):8.2f}{min(reads):8.2f}{statistics.median(deletes):8.2f}"
            )
    finally:
        kernel.close()
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
