"""A program that works quietly until it is told to go wrong in one known and harmless way; ``osdctl drill`` runs it.

It stands by itself: ``python3 faulty.py FAULT``.  A line on standard input brings the fault about, its end ends the
program.
"""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable

PAUSE_S = 0.05
MOST_S = 600.0
"""It ends by itself after so long with the fault."""
BLOCK, MOST_BYTES = 4 << 20, 256 << 20
HANDLES, MOST_HANDLES = 10, 500

_kept: list[object] = []


def loop() -> None:
    """Spin for ever, as a loop whose end was forgotten."""
    end = time.monotonic() + 1.0
    while time.monotonic() < end:
        pass


def memory() -> None:
    """Keep what is no longer needed."""
    if len(_kept) * BLOCK < MOST_BYTES:
        _kept.append(b"\1" * BLOCK)


def descriptors() -> None:
    """Open and never close."""
    if len(_kept) < MOST_HANDLES:
        _kept.extend(os.open(os.devnull, os.O_RDONLY) for _ in range(HANDLES))


FAULTS: dict[str, Callable[[], None]] = {"loop": loop, "memory": memory, "descriptors": descriptors}


def work() -> None:
    """Do a little of what programs do."""
    with open("/proc/self/stat", "rb") as file:
        sum(file.read())
    with open(os.devnull, "wb") as file:
        file.write(b"work")
    time.sleep(PAUSE_S)


def main(fault: str) -> None:
    """Work, and go wrong when told."""
    told = threading.Event()

    def listen() -> None:
        for _ in sys.stdin.buffer:
            told.set()
        os._exit(0)

    threading.Thread(target=listen, daemon=True).start()
    since_s = 0.0
    while not since_s or time.monotonic() - since_s < MOST_S:
        if told.is_set():
            since_s = since_s or time.monotonic()
            FAULTS[fault]()
        work()


if __name__ == "__main__":
    main(sys.argv[1])
