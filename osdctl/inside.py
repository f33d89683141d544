"""What goes on in a target's processes, as values: latencies, system calls, threads."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

UNIT_S = 1.024e-6
"""The daemon counts by power of two of this."""


@dataclass(frozen=True, slots=True)
class Latency:
    """How often something took how long."""

    counts: tuple[int, ...]
    p50_s: float
    p99_s: float
    longest_s: float

    @classmethod
    def of(cls, row: Sequence[Any]) -> Latency:
        """Read one histogram of ``GetLatency``."""
        counts, *rest = row
        return cls(tuple(counts), *rest)

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def bounds_s(self, index: int) -> tuple[float, float]:
        """Return from where to where a count goes, in seconds; the last one has no end."""
        low = 2.0**index * UNIT_S if index else 0.0
        return low, 2.0 ** (index + 1) * UNIT_S if index < len(self.counts) - 1 else float("inf")

    def json(self) -> dict[str, Any]:
        """For ``--json``: names and values that stay from version to version."""
        ends = map(self.bounds_s, range(len(self.counts)))
        buckets = [
            {"from_s": low, "to_s": high, "count": count} for count, (low, high) in zip(self.counts, ends, strict=True)
        ]
        numbers = {"p50_s": self.p50_s, "p99_s": self.p99_s, "longest_s": self.longest_s}
        return {"count": self.total, **numbers, "buckets": buckets}


@dataclass(frozen=True, slots=True)
class Syscall:
    """What one system call did in the processes of a target since they are watched."""

    number: int
    name: str
    calls: int
    errors: int
    total_s: float
    longest_s: float
    failures: dict[str, int]
    """By name of the error, most first."""

    @classmethod
    def of(cls, row: Sequence[Any]) -> Syscall:
        """Read one row of ``GetSyscalls``."""
        number, name, calls, errors, total_s, longest_s, failures = row
        ordered = dict(sorted(failures.items(), key=lambda item: (-item[1], item[0])))
        return cls(number, name, calls, errors, total_s, longest_s, ordered)

    def json(self) -> dict[str, Any]:
        """For ``--json``: names and values that stay from version to version."""
        return asdict(self)


@dataclass(frozen=True, slots=True)
class Thread:
    """A thread of a target's process."""

    pid: int
    tid: int
    comm: str
    state: str
    cpu: float
    cpu_s: float
    voluntary: int
    involuntary: int

    def json(self) -> dict[str, Any]:
        """For ``--json``: names and values that stay from version to version."""
        return asdict(self)
