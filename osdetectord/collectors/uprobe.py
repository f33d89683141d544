"""Layouts and decoding of the tables and rings of ``uprobe.bpf.c`` and ``allocation.bpf.c``."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from osdetectord.collectors.layout import U32, Table
from osdetectord.metric import Kind, Metric
from osdetectord.probing.event import RESULT, TEXTS, Event, Text

CALLS = Metric("function.calls", "calls", Kind.COUNTER, "calls of the probed function that returned")
DURATION = Metric("function.duration", "s", Kind.COUNTER, "time in the probed function, all threads")
ON_CPU = Metric("function.on_cpu", "s", Kind.COUNTER, "time on a CPU in the probed function")
MEDIAN = Metric("function.p50", "s", Kind.GAUGE, "median duration of the interval's calls")
TAIL = Metric("function.p99", "s", Kind.GAUGE, "99th percentile of the durations of the interval's calls")

METRICS = (CALLS, DURATION, ON_CPU, MEDIAN, TAIL)
"""What a probe gives to detection, for each process."""

HELD_BYTES = Metric("allocations.bytes", "bytes", Kind.GAUGE, "allocated since it is watched, and not yet freed")
HELD_BLOCKS = Metric("allocations.blocks", "blocks", Kind.GAUGE, "blocks that these are")
ALLOCATOR_CALLS = Metric("allocations.calls", "calls", Kind.COUNTER, "calls of the allocator")

ALLOCATION_METRICS = (HELD_BYTES, HELD_BLOCKS, ALLOCATOR_CALLS)
"""What allocations give to detection, for each process."""

PROGRAMS = ("probe_enter", "probe_return", "allocation_enter", "allocation_return")

RECORD_CALLS, TRACE_ENTRY, TRACE_RETURN, HAS_RETURN, TRACE_RETRY = 1, 2, 4, 8, 16
"""Bits of ``rule.flags``."""

CPU_EXACT, CPU_UNKNOWN, ALLOCATED_KNOWN = 1, 2, 4
"""Bits of ``call.flags``."""

DEPTH = 32
"""Calls of one function in one thread that can be under way at once."""

TEXT_BYTES = 128
"""What is read of each string of an event, the zero at the end included."""

BUCKETS, STEPS, FIRST_POWER = 128, 4, 7
"""Durations are counted in steps of a quarter of a power of two, from 128 ns to 275 s."""

ALLOCATION_FRAMES = 32

(
    ALLOCATE_SIZE,
    ALLOCATE_PRODUCT,
    ALLOCATE_ALIGNED,
    ALLOCATE_POSIX,
    ALLOCATE_AGAIN,
    ALLOCATE_AGAIN_PRODUCT,
    ALLOCATE_FREE,
) = range(1, 8)

LOST = ("calls", "events", "too_deep", "abandoned", "frames", "sums", "allocations", "stacks")
"""Causes, in the order of the table ``probe_lost``."""
LOST_OF_ALLOCATIONS = ("allocations", "stacks")

RULE = np.dtype([("flags", "<u4"), ("tid", "<u4"), ("entry_texts", "<u4"), ("return_texts", "<u4")])

STACK_KEY = np.dtype([("cookie", "<u8"), ("tid", "<u4"), ("unused", "<u4")])

STACK = np.dtype([("task", "<u8"), ("depth", "<u4"), ("pid", "<u4"), ("tid", "<u4"), ("unused", "<u4")])

FRAME_KEY = np.dtype([("cookie", "<u8"), ("tid", "<u4"), ("depth", "<u4")])

FRAME = np.dtype([("number", "<u8", 15), ("cpu_exact", "<u4"), ("unread", "<u4")])

SUM_KEY = np.dtype([("cookie", "<u8"), ("pid", "<u4"), ("unused", "<u4")])

SUM = np.dtype(
    [
        ("entries", "<u8"),
        ("calls", "<u8"),
        ("total_ns", "<u8"),
        ("cpu_ns", "<u8"),
        ("longest_ns", "<u8"),
        ("bucket", "<u8", BUCKETS),
    ]
)

CALL = np.dtype(
    [
        ("cookie", "<u8"),
        ("entered_ns", "<u8"),
        ("returned_ns", "<u8"),
        ("cpu_ns", "<u8"),
        ("user_ns", "<u8"),
        ("system_ns", "<u8"),
        ("voluntary", "<u8"),
        ("involuntary", "<u8"),
        ("allocated", "<i8"),
        ("allocations", "<i8"),
        ("result", "<u8"),
        ("pid", "<u4"),
        ("tid", "<u4"),
        ("depth", "<u4"),
        ("flags", "<u4"),
    ]
)

EVENT = np.dtype(
    [
        ("cookie", "<u8"),
        ("time_ns", "<u8"),
        ("entered_ns", "<u8"),
        ("value", "<u8", 7),
        ("pid", "<u4"),
        ("tid", "<u4"),
        ("returned", "<u4"),
        ("texts", "<u4"),
        ("depth", "<u4"),
        ("unused", "<u4"),
        ("length", "<u4", TEXTS),
        ("text", f"V{TEXT_BYTES}", TEXTS),
    ]
)

ALLOCATION_KEY = np.dtype([("owner", "<u8"), ("address", "<u8")])

ALLOCATION = np.dtype([("size", "<u8"), ("stack", "<i8")])

ALLOCATION_CALL_KEY = np.dtype([("sp", "<u8"), ("tid", "<u4"), ("unused", "<u4")])

ALLOCATION_CALL = np.dtype([("size", "<u8"), ("result_at", "<u8"), ("old", "<u8"), ("taken", ALLOCATION)])

ALLOCATION_SUM = np.dtype(
    [
        ("bytes", "<i8"),
        ("count", "<i8"),
        ("allocated_bytes", "<u8"),
        ("allocations", "<u8"),
        ("frees", "<u8"),
        ("unknown_frees", "<u8"),
    ]
)

ALLOCATION_THREAD = np.dtype([("bytes", "<i8"), ("count", "<i8")])

ALLOCATION_STACK_KEY = np.dtype([("owner", "<u8"), ("stack", "<i8")])

ALLOCATION_STACK_SUM = np.dtype([("bytes", "<i8"), ("count", "<i8")])

ALLOCATION_STACK = np.dtype([("address", "<u8", ALLOCATION_FRAMES)])

U64 = np.dtype("<u8")

TABLES = {
    "probe_rules": Table(U64, RULE),
    "probe_stacks": Table(STACK_KEY, STACK),
    "probe_frames": Table(FRAME_KEY, FRAME),
    "probe_sums": Table(SUM_KEY, SUM),
    "probe_lost": Table(U32, U64, per_cpu=True),
    "allocations": Table(ALLOCATION_KEY, ALLOCATION),
    "allocation_calls": Table(ALLOCATION_CALL_KEY, ALLOCATION_CALL),
    "allocation_sums": Table(U64, ALLOCATION_SUM),
    "allocation_stack_sums": Table(ALLOCATION_STACK_KEY, ALLOCATION_STACK_SUM),
    "allocation_stacks": Table(U32, ALLOCATION_STACK),
    "allocation_threads": Table(U32, ALLOCATION_THREAD),
}

CAPACITY = {
    "probe_rules": 4096,
    "probe_stacks": 8192,
    "probe_frames": 16384,
    "probe_sums": 4096,
    "probe_lost": len(LOST),
    "allocations": 1 << 20,
    "allocation_calls": 4096,
    "allocation_sums": 256,
    "allocation_stack_sums": 8192,
    "allocation_stacks": 8192,
    "allocation_threads": 4096,
}
"""Entries; ``allocations`` and the sums take memory only where they are used."""

RING_TABLE = "probe_rings"
"""The array of the rings."""

RINGS = {"probe_calls": CALL, "probe_events": EVENT}
"""Records of each ring, in the order of the array."""

PAGES = {"probe_calls": 256, "probe_events": 2048}
"""Size of each ring."""

DEFINES = {
    "MAX_PROBE_RULES": CAPACITY["probe_rules"],
    "MAX_PROBE_STACKS": CAPACITY["probe_stacks"],
    "MAX_PROBE_FRAMES": CAPACITY["probe_frames"],
    "MAX_PROBE_SUMS": CAPACITY["probe_sums"],
    "MAX_ALLOCATIONS": CAPACITY["allocations"],
    "MAX_ALLOCATION_CALLS": CAPACITY["allocation_calls"],
    "MAX_ALLOCATION_OWNERS": CAPACITY["allocation_sums"],
    "MAX_ALLOCATION_STACKS": CAPACITY["allocation_stacks"],
    "MAX_ALLOCATION_THREADS": CAPACITY["allocation_threads"],
    "PROBE_LOST_CAUSES": len(LOST),
    "PROBE_BUCKETS": BUCKETS,
    "PROBE_FIRST_POWER": FIRST_POWER,
    "PROBE_DEPTH": DEPTH,
    "PROBE_TEXTS": TEXTS,
    "PROBE_TEXT": TEXT_BYTES,
    "ALLOCATION_FRAMES": ALLOCATION_FRAMES,
}


def bucket_bounds() -> NDArray[np.float64]:
    """Nanoseconds at which the buckets of durations begin, and the end of the last; shape ``(BUCKETS + 1,)``."""
    step = np.arange(BUCKETS)
    return np.concatenate(([0.0], 2.0 ** (FIRST_POWER + step // STEPS) * (1 + step % STEPS / STEPS)))


BOUNDS = bucket_bounds()


def quantile(counts: NDArray[np.uint64], share: float) -> float:
    """Duration (ns) that a share of the calls did not exceed, interpolated within its bucket; NaN without calls.

    The relative error is at most a quarter, the width of a bucket.
    """
    total = int(counts.sum())
    if not total:
        return float("nan")
    wanted = share * total
    reached = np.cumsum(counts)
    bucket = int(np.searchsorted(reached, wanted))
    before = float(reached[bucket - 1]) if bucket else 0.0
    part = (wanted - before) / float(counts[bucket])
    return float(BOUNDS[bucket] + part * (BOUNDS[bucket + 1] - BOUNDS[bucket]))


def events_of(records: NDArray[np.void]) -> list[Event]:
    """Decode records of the ring ``probe_events``."""
    held = records["text"].tobytes()
    stride = TEXTS * TEXT_BYTES
    # whole columns at once: a record's fields one by one cost several times as much
    columns = (
        records[name].tolist()
        for name in (
            *("cookie", "time_ns", "entered_ns", "pid", "tid", "depth"),
            *("returned", "value", "texts", "length"),
        )
    )
    out = []
    for index, row in enumerate(zip(*columns, strict=True)):
        cookie, time_ns, entered_ns, pid, tid, depth, returned, values, wanted, lengths = row
        texts = _texts(held, index * stride, wanted, lengths) if wanted else {}
        out.append(Event(cookie, time_ns, entered_ns, pid, tid, depth, bool(returned), tuple(values), texts))
    return out


def _texts(held: bytes, begin: int, wanted: int, lengths: list[int]) -> dict[int, Text]:
    texts = {}
    for slot, position in enumerate(POSITIONS[wanted & 127]):
        at, length = begin + slot * TEXT_BYTES, min(lengths[slot], TEXT_BYTES)
        # a string that fills its place may have been cut off there
        texts[position] = Text(held[at : at + length - 1], length == TEXT_BYTES) if length else Text(None)
    return texts


POSITIONS = tuple(
    tuple(position for position in range(RESULT + 1) if wanted >> position & 1)[:TEXTS] for wanted in range(128)
)
"""Set of values that are strings, as bits -> their positions."""
