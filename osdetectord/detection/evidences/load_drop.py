"""Load drop: clients that were there a moment ago are gone."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from osdetectord.detection.evidence import Evidence, Options, Past, Rows, Setup
from osdetectord.detection.slots import Floats

SETTLE_ROWS = 10
DOWN, UP = 0.005, 0.015
"""Nats a row by which what is usual follows: a load that goes home does so in minutes, one that came and goes again
within half a minute was never usual."""
FARTHEST = 6.0
"""Nats below the smoothed load that count of one row."""
ROUTINE = 0.95
"""Drops that such a share of the past stayed below are routine."""
YOUNG, GROWN_ROWS = 1.0, 240.0
"""What is known only from a few minutes may drop further."""
LOUDEST = 30.0


class LoadDrop(Evidence):
    """Exponential of how far the smoothed load is below what is usual, in drops that are routine for the process.

    A service whose traffic stops or falls to a third does nothing that it did not do before, only less: evidences
    that look at single metrics see little.  It has something to say only where the load is below what is usual.
    """

    name = "load_drop"
    typical = (0.0, 1.0)
    options: ClassVar[Options] = {"smoothing": (0.12, 0.01, 1.0), "least": (0.1, 0.01, 5.0)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._alpha, self._least = setup.options["smoothing"], setup.options["least"]
        self.declare("smooth")
        self.declare("usual")
        self.declare("routine", fill=1.0)
        self.declare("rows", (), np.int64)

    def fit(self, past: Past) -> Floats:
        """Learn; no past drop is held against what it taught itself."""
        self.learn(past)
        return np.full(past.z.shape[:2], np.nan)

    def learn(self, past: Past) -> None:
        smooth = past.load[:, :SETTLE_ROWS].mean(axis=1)
        usual, drops = smooth, []
        for t in range(SETTLE_ROWS, len(past)):
            smooth = smooth + self._alpha * (past.load[:, t] - smooth)
            drops.append(usual - smooth)
            usual = usual - np.clip(usual - smooth, -UP, DOWN)
        self["smooth"][past.slots], self["usual"][past.slots] = smooth, usual
        settled = drops[min(2 * SETTLE_ROWS, len(drops) - 1) :]
        self["routine"][past.slots] = np.maximum(self._least, np.quantile(settled, ROUTINE, axis=0))
        self["rows"][past.slots] = 0

    def _smoothed(self, rows: Rows) -> Floats:
        smooth = np.where(rows.fresh, self["usual"][rows.slots], self["smooth"][rows.slots])
        return np.asarray(smooth + self._alpha * np.maximum(rows.load - smooth, -FARTHEST))

    def _drop(self, rows: Rows) -> Floats:
        drop: Floats = self["usual"][rows.slots] - self._smoothed(rows)
        return drop

    def score(self, rows: Rows) -> Floats:
        young = YOUNG / (1.0 + self["rows"][rows.slots] / GROWN_ROWS)
        drop = self._drop(rows) / (self["routine"][rows.slots] * (1.0 + young))
        return np.where(drop > 0.0, np.exp(np.minimum(drop, LOUDEST)), np.nan)

    def update(self, rows: Rows, rate: Floats) -> None:
        drop = self._drop(rows)
        self["smooth"][rows.slots] = self["usual"][rows.slots] - drop
        self["usual"][rows.slots] -= np.clip(drop, -UP, DOWN)
        self["rows"][rows.slots] += 1

    def blame(self, rows: Rows) -> Floats:
        return np.where((self._drop(rows) > 0.0)[:, None], np.maximum(-rows.z, 0.0), 0.0)
