"""Durations counted by power of two microseconds, and the quantiles that such counts tell."""

from __future__ import annotations

from dataclasses import dataclass

UNIT_S = 1.024e-6
"""The kernel part takes 1024 ns for a microsecond."""


@dataclass(frozen=True, slots=True)
class Histogram:
    """How often something took how long.

    Parameters
    ----------
    counts
        First those below 2 units, then those of ``[2^i, 2^(i+1))`` units for i = 1, 2, ...; the last also holds
        all that took longer.
    """

    counts: tuple[int, ...]

    @property
    def total(self) -> int:
        """How many there are."""
        return sum(self.counts)

    def quantile(self, q: float) -> float:
        """Seconds that a share ``q`` in [0, 1] of them does not exceed, NaN where there are none.

        Within a power of two they are taken as evenly spread, so that it is off by less than a factor of two.
        """
        wanted, below = q * self.total, 0
        for power, count in enumerate(self.counts):
            if count and below + count >= wanted:
                low = 2.0**power if power else 0.0
                return (low + (2.0 ** (power + 1) - low) * (wanted - below) / count) * UNIT_S
            below += count
        return float("nan")
