"""Extremes: how many metrics do what they never did."""

from __future__ import annotations

from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from osdetectord.detection.change import Change
from osdetectord.detection.evidence import Options, Past, Rows, Setup
from osdetectord.detection.periodic import SMOOTHING, Periodic
from osdetectord.detection.slots import Bools, Floats
from osdetectord.detection.smoothing import ewma

SHARE = 0.1
"""Share of the metrics that makes a score of e."""
LEAST, LEAST_SLOW = 2.5, 0.25
"""Spreads by which a record must be broken; where rows are minutes long, more of them have set it."""
YOUNG, GROWN_ROWS = 0.5, 240.0
"""... and a share of it, while few rows are known."""
LEARN_AT = 0.5
BLOCK_ROWS = 60
"""A record stands when so many rows were normal to their end: a fault would excuse itself."""
LONG_AGO = 10_000
MOST = 30.0
CHANGE, PLACE = 0, 1


class Extremes(Periodic):
    """Exponential of the share of metrics that broke a record of their own within the last rows.

    There are two records of each metric: the largest change within three rows, and the largest distance from where it
    is expected, which is the same phase of its period, or else the middle of what was learnt.  One metric breaks one
    now and then; many within a few rows do not (the share of metrics out of bounds is also Netdata's node anomaly
    rate, https://learn.netdata.cloud/docs/machine-learning-and-assisted-troubleshooting).
    """

    name = "extremes"
    typical = (0.0, 1.0)
    options: ClassVar[Options] = {"window": (5, 1, 100), "proof": (0.3, 0.1, 0.95)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup, setup.options["proof"], 300 if setup.slow else 0)
        self._window = int(setup.options["window"]) * (4 if setup.slow else 1)
        self._least = LEAST_SLOW if setup.slow else LEAST
        self.declare("record", (2, setup.metrics))
        self.declare("coming", (2, setup.metrics))
        self.declare("ago", (2, setup.metrics), np.int32, LONG_AGO)
        self._change = Change(self, setup.metrics)
        self.declare("rows", (), np.int64)
        self.declare("normal", (), np.int64)
        self._asked: tuple[Rows, Floats, NDArray[np.int32]] | None = None

    def fit(self, past: Past) -> Floats:
        """Learn; no row breaks a record that it set itself."""
        self.learn(past)
        return np.full(past.z.shape[:2], np.nan)

    def learn(self, past: Past) -> None:
        self.clear(past.slots)
        self["record"][past.slots, CHANGE] = self._change.past(past).max(axis=1)
        self["record"][past.slots, PLACE] = np.abs(ewma(past.z, SMOOTHING)).max(axis=1)
        super().learn(past)
        self._change.learn(past)
        self["rows"][past.slots] = len(past)

    def _learn_away(self, slot: int, away: Floats) -> None:
        self["record"][slot, PLACE] = np.abs(away).max(axis=0)

    def _now(self, rows: Rows) -> Floats:
        """Return shape ``(K, 2, M)``, what may be a record."""
        place, proven = np.abs(self._smoothed(rows)), self._proven(rows)
        if proven.any():
            place[proven] = np.abs(self._away(rows.pick(proven)))
        return np.stack([self._change.now(rows), place], axis=1)

    def _looked(self, rows: Rows) -> tuple[Floats, NDArray[np.int32]]:
        """Return what may be a record, and how many rows ago each was broken, both of shape ``(K, 2, M)``; asked for
        to score and to update."""
        if self._asked is None or self._asked[0] is not rows:
            now = self._now(rows)
            young = 1.0 + YOUNG / (1.0 + self["rows"][rows.slots] / GROWN_ROWS)
            broken = now > self["record"][rows.slots] * young[:, None, None] + self._least
            self._asked = (rows, now, np.where(broken, 0, self["ago"][rows.slots] + 1).astype(np.int32))
        return self._asked[1], self._asked[2]

    def _lately(self, rows: Rows) -> Bools:
        return np.asarray(self._looked(rows)[1] < self._window)

    def score(self, rows: Rows) -> Floats:
        share = self._lately(rows).sum(axis=(1, 2)) / (2.0 * self["live"][rows.slots])
        return np.asarray(np.exp(np.minimum(share / SHARE, MOST)))

    def update(self, rows: Rows, rate: Floats) -> None:
        slots, (now, ago) = rows.slots, self._looked(rows)
        self._asked = None
        self["ago"][slots] = np.minimum(ago, LONG_AGO)
        normal = rate >= LEARN_AT
        self["coming"][slots] = np.where(normal[:, None, None], np.maximum(self["coming"][slots], now), 0.0)
        self["normal"][slots] = np.where(normal, self["normal"][slots] + 1, 0)
        stands = slots[self["normal"][slots] >= BLOCK_ROWS]
        self["record"][stands] = np.maximum(self["record"][stands], self["coming"][stands])
        self["coming"][stands], self["normal"][stands] = 0.0, 0
        self["rows"][slots] += 1
        self._change.update(rows)
        super().update(rows, rate)

    def blame(self, rows: Rows) -> Floats:
        return np.asarray(self._lately(rows).sum(axis=1) * np.abs(rows.z))
