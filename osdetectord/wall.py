"""Wall-clock time, which only records, files and the bus speak; everything inside is CLOCK_MONOTONIC."""

from __future__ import annotations

import time


def now_us() -> int:
    """Return the wall clock, microseconds since the epoch."""
    return time.time_ns() // 1000


def of_monotonic_us(monotonic_ns: int) -> int:
    """Return the wall-clock microseconds of an instant of CLOCK_MONOTONIC, as the wall clock stands now."""
    return (time.time_ns() - time.monotonic_ns() + monotonic_ns) // 1000


def of_start_us(start_ticks: int, ticks_per_s: int) -> int:
    """Return the wall-clock microseconds of a start time in clock ticks since boot."""
    boot_ns = time.time_ns() - time.clock_gettime_ns(time.CLOCK_BOOTTIME)
    return boot_ns // 1000 + start_ticks * 1_000_000 // ticks_per_s


def clock(us: int) -> str:
    """Return the time of day in local time, ``HH:MM:SS``."""
    return time.strftime("%H:%M:%S", time.localtime(us / 1e6))
