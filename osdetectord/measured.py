"""What is measured of a part of a process, one probed function or its allocations, from one tick to the next."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from osdetectord.collectors import uprobe
from osdetectord.metric import Metric
from osdetectord.probing.probes import ProbeTotal

FUNCTIONS, ALLOCATIONS = "functions", "allocations"
GROUPS: Mapping[str, tuple[Metric, ...]] = {FUNCTIONS: uprobe.METRICS, ALLOCATIONS: uprobe.ALLOCATION_METRICS}
"""Metrics of each kind of part."""
LARGEST = (uprobe.MEDIAN.name, uprobe.TAIL.name)
"""Metrics of which the processes of a target have the largest, and not the sum."""

MAX_LABEL = 200


@dataclass(frozen=True, slots=True)
class Measured:
    """What a part of a process did since it was asked for the last time.

    Parameters
    ----------
    group
        ``functions`` or ``allocations``.
    number
        Which probe, or which allocations.
    pid
        Whose.
    label
        The function's location, nothing for allocations.
    values
        In the ``sample_unit`` of the group's metrics, NaN where missing; None where nobody has looked since.
    """

    group: str
    number: int
    pid: int
    label: str
    values: tuple[float, ...] | None


def name_of(metric: str, label: str) -> str:
    """Return how people call a metric of a part: ``function.p99[libc:read]``, ``allocations.bytes``."""
    return f"{metric}[{label[:MAX_LABEL]}]" if label else metric


@dataclass(slots=True)
class _Sum:
    interval_s: float = 0.0
    calls: int = 0
    total_ns: int = 0
    cpu_ns: int = 0
    bucket: NDArray[np.uint64] = field(default_factory=lambda: np.zeros(uprobe.BUCKETS, dtype=np.uint64))

    def values(self) -> tuple[float, ...]:
        per_s = 1 / self.interval_s
        spent = (self.total_ns * 1e-9 * per_s, self.cpu_ns * 1e-9 * per_s)
        return (self.calls * per_s, *spent, *(uprobe.quantile(self.bucket, share) * 1e-9 for share in (0.5, 0.99)))


class CallSums:
    """Adds up what looks at the probes find, until somebody asks for it."""

    def __init__(self) -> None:
        self._sums: dict[tuple[int, int], _Sum] = {}

    def heard(self, totals: Iterable[ProbeTotal]) -> None:
        """Take in what a look found."""
        for total in totals:
            held = self._sums.get((total.number, total.pid))
            if held is None:
                # the first interval began before the probe did
                self._sums[total.number, total.pid] = _Sum()
                continue
            held.interval_s += total.interval_s
            held.calls += total.calls
            held.total_ns += total.total_ns
            held.cpu_ns += total.cpu_ns
            held.bucket = held.bucket + total.bucket

    def take(self, labels: Mapping[int, str], pids: Mapping[int, Sequence[int]]) -> list[Measured]:
        """Return what was added up, by probe and process, and begin anew.

        Parameters
        ----------
        labels
            Locations of the probes that there are, by number.
        pids
            Where each is attached now; with 0 in it, wherever it was called.
        """
        out = []
        kept: dict[tuple[int, int], _Sum] = {}
        for number, label in labels.items():
            everywhere = 0 in pids[number]
            for pid in [pid for probe, pid in self._sums if probe == number] if everywhere else pids[number]:
                held = self._sums.get((number, pid))
                if held is None:
                    out.append(Measured(FUNCTIONS, number, pid, label, None))
                    continue
                looked = held.interval_s > 0
                kept[number, pid] = _Sum() if looked else held
                out.append(Measured(FUNCTIONS, number, pid, label, held.values() if looked else None))
        self._sums = kept
        return out


@dataclass(frozen=True, slots=True)
class _Count:
    owner: int
    at_ns: int
    calls: int


class HeldSamples:
    """Makes samples of what processes hold of their allocators' memory."""

    def __init__(self) -> None:
        self._before: dict[tuple[int, int], _Count] = {}

    def take(self, number: int, pid: int, owner: int, at_ns: int, held: tuple[int, int, int]) -> Measured:
        """Return the sample of one process.

        Parameters
        ----------
        number, pid
            Whose.
        owner
            Changes when the count begins anew.
        at_ns
            CLOCK_MONOTONIC of the reading.
        held
            Outstanding bytes and blocks, and calls of the allocator so far.
        """
        size, blocks, calls = held
        before = self._before.get((number, pid))
        if before is not None and before.at_ns == at_ns:
            return Measured(ALLOCATIONS, number, pid, "", None)
        rate = math.nan
        if before is not None and before.owner == owner and calls >= before.calls:
            rate = (calls - before.calls) / ((at_ns - before.at_ns) * 1e-9)
        self._before[number, pid] = _Count(owner, at_ns, calls)
        # what was allocated before may be freed by realloc() in the same instant
        return Measured(ALLOCATIONS, number, pid, "", (float(max(size, 0)), float(max(blocks, 0)), rate))

    def forget(self, number: int, pids: Iterable[int]) -> None:
        """Keep nothing of other processes than these, for allocations of that number."""
        there = set(pids)
        self._before = {key: value for key, value in self._before.items() if key[0] != number or key[1] in there}
