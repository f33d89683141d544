"""How good a detector is: ranking without a threshold, and alarms at its own threshold."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from osdetectord.offline import runs

Floats = NDArray[np.float64]
Bools = NDArray[np.bool_]

NORMAL, ANOMALY, DONT_CARE = 0, 1, 2
FALSE_ALARM_ROWS = 60
"""A run of alarm in normal time is one false alarm for each 60 rows begun, or else "always on" would win."""
THRESHOLDS = 250


@dataclass(frozen=True, slots=True)
class Kind:
    """What is fixed for one kind of data: warm-up, rows a day, buffer of VUS, rows after an event and between alarms
    that are forgiven."""

    warmup: int
    rows_per_day: int
    buffer: int
    after: int
    gap: int

    @property
    def interval_s(self) -> float:
        return 86400.0 / self.rows_per_day


KINDS = {
    "process": Kind(warmup=240, rows_per_day=86400, buffer=20, after=15, gap=15),
    "jumpstarter": Kind(warmup=5760, rows_per_day=288, buffer=100, after=12, gap=6),
}


@dataclass(slots=True)
class Tally:
    """Events and alarms of several series."""

    events: int = 0
    found: int = 0
    false: int = 0
    normal_rows: int = 0
    delays: list[int] = field(default_factory=list)

    @property
    def recall(self) -> float:
        return self.found / max(1, self.events)

    @property
    def precision(self) -> float:
        return self.found / max(1, self.found + self.false)

    @property
    def f1(self) -> float:
        return 2 * self.recall * self.precision / max(1e-9, self.recall + self.precision)


def vus_pr(truth: Bools, score: Floats, widest: int) -> float:
    """Return the volume under the precision-recall surface over buffers of 0 to ``widest`` rows.

    Paparrizos et al., "Volume Under the Surface", VLDB 2022: labels fade out over half a buffer on both sides of an
    event, and recall counts an event only as far as some part of it was found.
    """
    events, rows = runs(truth), len(score)
    levels = -np.sort(-score)[np.linspace(0, rows - 1, THRESHOLDS).astype(int)]
    rank = np.searchsorted(-levels, -score, side="left")

    def reached(ranks: NDArray[np.intp], weight: Floats | None = None) -> Floats:
        return np.asarray(np.cumsum(np.bincount(ranks, weight, minlength=THRESHOLDS + 1)[:THRESHOLDS]), np.float64)

    predicted, hits = reached(rank), reached(rank[truth])
    areas = []
    for width in range(widest + 1):
        soft = _faded(truth, events, width)
        near = np.flatnonzero(soft)
        extra = reached(rank[near], soft[near])
        spans = _merged(events, width // 2, rows)
        existence = reached(np.array([rank[a : b + 1].min() for a, b in spans])) / len(spans)
        recall = np.minimum((hits + extra) / (truth.sum() + 0.5 * extra), 1.0) * existence
        areas.append(float(np.diff(recall, prepend=0.0) @ ((hits + extra) / predicted)))
    return float(np.mean(areas))


def _faded(truth: Bools, events: list[tuple[int, int]], width: int) -> Floats:
    soft = np.zeros(len(truth))
    half = width // 2
    for first, last in events if width else []:
        after = np.arange(last + 1, min(last + half + 1, len(truth)))
        before = np.arange(max(first - half, 0), first)
        soft[after] += np.sqrt(1 - (after - last) / width)
        soft[before] += np.sqrt(1 - (first - before) / width)
    soft = np.minimum(soft, 1.0)
    soft[truth] = 0.0
    return soft


def _merged(events: list[tuple[int, int]], half: int, rows: int) -> list[tuple[int, int]]:
    spans: list[tuple[int, int]] = []
    for first, last in events:
        first, last = max(first - half, 0), min(last + half, rows - 1)
        if spans and spans[-1][1] >= first:
            spans[-1] = (spans[-1][0], last)
        else:
            spans.append((first, last))
    return spans


def tally(into: Tally, label: NDArray[np.int64], alarm: Bools, kind: Kind) -> None:
    """Count a series' events that were found and its false alarms."""
    label, events = label.copy(), runs(label == ANOMALY)
    for first, last in events:
        tail = label[last + 1 : last + 1 + kind.after]
        tail[tail == NORMAL] = DONT_CARE
        into.events += 1
        if alarm[first : last + 1].any():
            into.found += 1
            into.delays.append(int(np.argmax(alarm[first : last + 1])))
    normal = label == NORMAL
    into.normal_rows += int(normal.sum())
    merged: list[tuple[int, int]] = []
    for first, last in runs(alarm & normal):
        if merged and first - merged[-1][1] <= kind.gap + 1 and normal[merged[-1][1] : first + 1].all():
            merged[-1] = (merged[-1][0], last)
        else:
            merged.append((first, last))
    into.false += sum(-(-(last - first + 1) // FALSE_ALARM_ROWS) for first, last in merged)
