"""What changed with an anomaly: calls in the episode against calls before it, the most changed first."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

LEAST = math.log(1.5)
_RATE, _TIME = 0.5, 1e-3
"""What is added to calls and to seconds per second, so that a few more than none are no great change."""


@dataclass(frozen=True, slots=True)
class Change:
    """Calls of one name; rates are per second, means in seconds; NaN where not known."""

    name: str
    rate: float
    rate_before: float
    mean_s: float
    mean_before_s: float
    failed: float
    """Part of the calls in the episode that failed."""
    size: float
    """How much changed: a sum of logarithms of ratios."""


@dataclass(frozen=True, slots=True)
class Changes:
    """Calls of one kind, the most changed first, and the seconds in which they were counted."""

    during_s: float
    before_s: float
    calls: tuple[Change, ...]


def changes(found: Any) -> Changes:
    """Read the daemon's evidence; what is of another form is passed over."""
    if not isinstance(found, dict):
        return Changes(0.0, 0.0, ())
    during_s, before_s = number_of(found, "during_s"), number_of(found, "before_s")
    rows = found.get("calls")
    calls = [_change(row, during_s, before_s) for row in rows or [] if isinstance(row, dict) and during_s > 0]
    known = [call for call in calls if call.size >= LEAST]
    return Changes(during_s, before_s, tuple(sorted(known, key=lambda call: -call.size)))


def number_of(row: Mapping[str, Any], name: str) -> float:
    """Return a number of the evidence, 0 where there is none."""
    value = row.get(name)
    return float(value) if isinstance(value, int | float) and math.isfinite(value) else 0.0


def _change(row: Mapping[str, Any], during_s: float, before_s: float) -> Change:
    count, seconds = number_of(row, "count"), number_of(row, "total_ns") / 1e9
    before, seconds_before = number_of(row, "before_count"), number_of(row, "before_total_ns") / 1e9
    rate, busy = count / during_s, seconds / during_s
    rate_before = before / before_s if before_s > 0 else math.nan
    was, was_busy = (rate_before, seconds_before / before_s) if before_s > 0 else (0.0, 0.0)
    size = abs(math.log((rate + _RATE) / (was + _RATE))) + abs(math.log((busy + _TIME) / (was_busy + _TIME)))
    return Change(
        str(row.get("name", "?")),
        rate,
        rate_before,
        seconds / count if count else math.nan,
        seconds_before / before if before else math.nan,
        number_of(row, "errors") / count if count else 0.0,
        size,
    )
