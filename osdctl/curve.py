"""A curve: what one metric of a target did over time, what was expected of it, and when it was abnormal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from osdctl.model import Anomaly

PARTS = ("", ":min", ":max", ":low", ":high")
"""What is asked of the daemon for each metric."""

Series = Mapping[str, tuple[Sequence[int], Sequence[float]]]


@dataclass(frozen=True, slots=True)
class Range:
    """From where to where a value lay, or was expected to lie, at some times; oldest first."""

    times_us: tuple[int, ...] = ()
    low: tuple[float, ...] = ()
    high: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Curve:
    """Points of one metric, oldest first: means of what each stands for, their extremes, and what was expected."""

    metric: str
    unit: str
    times_us: tuple[int, ...]
    values: tuple[float, ...]
    extremes: Range
    expected: Range

    @classmethod
    def of(cls, metric: str, unit: str, series: Series) -> Curve:
        """Take a metric's parts out of the daemon's answer."""
        times, values = series.get(metric, ((), ()))
        extremes, expected = _range(series, metric, "min", "max"), _range(series, metric, "low", "high")
        return cls(metric, unit, tuple(times), tuple(values), extremes, expected)

    def json(self) -> dict[str, Any]:
        """For ``--json``: names and values that stay from version to version."""
        return {
            "metric": self.metric,
            "unit": self.unit,
            "times_us": self.times_us,
            "values": self.values,
            "min": self.extremes.low,
            "max": self.extremes.high,
            "expected": {"times_us": self.expected.times_us, "low": self.expected.low, "high": self.expected.high},
        }


@dataclass(frozen=True, slots=True)
class Mark:
    """An episode to mark in a chart: the anomaly's number, from when to when, and whether the metric is to blame."""

    number: int
    from_us: int
    to_us: int
    blamed: bool


def marks(anomalies: Sequence[Anomaly], metric: str, now_us: int) -> list[Mark]:
    """Return the marks of a target's anomalies in the chart of one of its metrics."""
    return [
        Mark(a.id, a.opened_us, a.closed_us or now_us, any(blame.metric == metric for blame in a.metrics))
        for a in anomalies
    ]


def _range(series: Series, metric: str, lower: str, upper: str) -> Range:
    times, low = series.get(f"{metric}:{lower}", ((), ()))
    ends = dict(zip(*series.get(f"{metric}:{upper}", ((), ())), strict=True))
    both = [(time, value, ends[time]) for time, value in zip(times, low, strict=True) if time in ends]
    return Range(*(tuple(column) for column in zip(*both, strict=True))) if both else Range()
