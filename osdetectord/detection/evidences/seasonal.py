"""Seasonal: how far a process is from where it was at the same phase of its own period, where it has one."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from osdetectord.detection.evidence import Options, Past, Rows, Setup
from osdetectord.detection.periodic import Periodic
from osdetectord.detection.scale import robust_spread
from osdetectord.detection.slots import Floats

LEAST_SPREAD = 0.1
MOST = 20.0


class Seasonal(Periodic):
    """Smoothed mean logarithm of the deviation from the median of the same phase of the last three periods.

    Without a period this evidence has nothing to say.
    """

    name = "seasonal"
    options: ClassVar[Options] = {"proof": (0.3, 0.1, 0.95), "longest": (80, 20, 5000)}
    min_rows = 60

    def __init__(self, setup: Setup) -> None:
        longest = int(setup.options["longest"])
        super().__init__(setup, setup.options["proof"], max(300, longest) if setup.slow else longest)
        self.declare("spread", (setup.metrics,), fill=1.0)
        self.declare("loud")

    def learn(self, past: Past) -> None:
        self["loud"][past.slots] = 0.0
        super().learn(past)

    def _learn_away(self, slot: int, away: Floats) -> None:
        self["spread"][slot] = np.hypot(robust_spread(away[None])[0], LEAST_SPREAD)

    def _energy(self, rows: Rows) -> Floats:
        away = self._away(rows) / self["spread"][rows.slots]
        return np.asarray(np.log1p(np.clip(np.abs(away), 0.0, MOST)))

    def score(self, rows: Rows) -> Floats:
        out = np.full(len(rows), np.nan)
        proven = self._proven(rows)
        if proven.any():
            some = rows.pick(proven)
            loud = self["loud"][some.slots]
            now = self._energy(some).sum(axis=1) / self["live"][some.slots]
            out[proven] = loud + 0.2 * (now - loud)
        return out

    def update(self, rows: Rows, rate: Floats) -> None:
        score = self.score(rows)
        self["loud"][rows.slots] = np.where(np.isfinite(score), score, 0.0)
        super().update(rows, rate)

    def blame(self, rows: Rows) -> Floats:
        away, proven = np.zeros(rows.z.shape), self._proven(rows)
        away[proven] = self._energy(rows.pick(proven))
        return away
