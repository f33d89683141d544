"""Innovation: how fast all metrics change together."""

from __future__ import annotations

from typing import ClassVar

import numpy as np

from osdetectord.detection.change import LAG, Change
from osdetectord.detection.evidence import Evidence, Options, Past, Rows, Setup
from osdetectord.detection.scale import NORMAL_CONSISTENCY
from osdetectord.detection.slots import Floats

LEAST_SPREAD = 0.3
MOST = 20.0


class Innovation(Evidence):
    """Smoothed mean of the absolute change over three rows, in units of its own spread."""

    name = "innovation"
    typical = (-0.43, 0.24)
    options: ClassVar[Options] = {"smoothing": (0.25, 0.01, 1.0)}

    def __init__(self, setup: Setup) -> None:
        super().__init__(setup)
        self._change = Change(self, setup.metrics)
        self.declare("spread", (setup.metrics,), fill=1.0)
        self.declare("smooth")
        self.declare("live", fill=1.0)
        self._alpha = setup.options["smoothing"] * (0.5 if setup.slow else 1.0)
        self._asked: tuple[Rows, Floats] | None = None

    def learn(self, past: Past) -> None:
        change = self._change.past(past) / LAG
        spread = np.maximum(NORMAL_CONSISTENCY * np.median(change, axis=1), LEAST_SPREAD)
        live = past.live()
        energy = np.clip(change / spread[:, None], 0.0, MOST).sum(axis=2) / live[:, None]
        smooth = energy[:, 0]
        for t in range(1, energy.shape[1]):
            smooth = smooth + self._alpha * (energy[:, t] - smooth)
        self["spread"][past.slots] = spread
        self["smooth"][past.slots] = smooth
        self["live"][past.slots] = live
        self._change.learn(past)

    def score(self, rows: Rows) -> Floats:
        smooth = np.where(rows.fresh, 0.0, self["smooth"][rows.slots])
        energy = self.blame(rows).sum(axis=1) / self["live"][rows.slots]
        score = np.where(self._change.known(rows), smooth + self._alpha * (energy - smooth), smooth)
        self._asked = (rows, score)
        return score

    def update(self, rows: Rows, rate: Floats) -> None:
        asked, self._asked = self._asked, None
        self["smooth"][rows.slots] = asked[1] if asked is not None and asked[0] is rows else self.score(rows)
        self._change.update(rows)

    def blame(self, rows: Rows) -> Floats:
        return np.asarray(np.clip(self._change.now(rows) / LAG / self["spread"][rows.slots], 0.0, MOST))
