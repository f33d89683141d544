"""Deviation: the smoothed distance of every metric from a baseline that follows slowly."""

from __future__ import annotations

import numpy as np

from osdetectord.detection.evidence import Evidence, Past, Rows, Setup
from osdetectord.detection.scale import CLIP, robust_spread
from osdetectord.detection.slots import Floats
from osdetectord.detection.smoothing import ewma

LEAST_SPREAD = 0.1
SETTLE_ROWS = 30


class Deviation(Evidence):
    """Base of the evidences that look at each metric's deviation by itself.

    The baseline follows with a bounded slew, as a running median does: a fault of half a minute cannot draw it
    along.  Deviations are in units of their own robust spread.
    """

    def __init__(self, setup: Setup, smoothing: float, follow: float, slew: float) -> None:
        super().__init__(setup)
        self.declare("baseline", (setup.metrics,))
        self.declare("smooth", (setup.metrics,))
        self.declare("spread", (setup.metrics,), fill=1.0)
        self.declare("live", fill=1.0)
        self._alpha, self._follow, self._slew = smoothing, follow, slew
        self._asked: tuple[Rows, Floats, Floats] | None = None

    def learn(self, past: Past) -> None:
        smooth = ewma(past.z, self._alpha)
        start = min(SETTLE_ROWS, len(past) // 4)
        baseline = np.median(smooth[:, : max(1, start)], axis=1)
        deviation = np.empty_like(smooth)
        for t in range(len(past)):
            deviation[:, t] = smooth[:, t] - baseline
            baseline = baseline + self._follow * np.clip(deviation[:, t], -self._slew, self._slew)
        self["baseline"][past.slots] = baseline
        self["smooth"][past.slots] = smooth[:, -1]
        self["live"][past.slots] = past.live()
        self["spread"][past.slots] = np.hypot(robust_spread(deviation[:, start:]), LEAST_SPREAD)

    def _away(self, rows: Rows) -> tuple[Floats, Floats]:
        """Return the smoothed metrics, and how far they are from their baseline; asked for to score and to update."""
        if self._asked is None or self._asked[0] is not rows:
            baseline = self["baseline"][rows.slots]
            smooth = np.where(rows.fresh[:, None], baseline, self["smooth"][rows.slots])
            smooth += self._alpha * (rows.z - smooth)
            self._asked = (rows, smooth, smooth - baseline)
        return self._asked[1], self._asked[2]

    def deviation(self, rows: Rows) -> Floats:
        """Return shape ``(K, M)``: how many spreads each smoothed metric is away from its baseline."""
        _, away = self._away(rows)
        return np.asarray(np.clip(away / self["spread"][rows.slots], -CLIP, CLIP))

    def update(self, rows: Rows, rate: Floats) -> None:
        smooth, away = self._away(rows)
        self._asked = None
        self["smooth"][rows.slots] = smooth
        self["baseline"][rows.slots] += self._follow * rate[:, None] * np.clip(away, -self._slew, self._slew)

    def blame(self, rows: Rows) -> Floats:
        return np.asarray(np.log1p(self.deviation(rows) ** 2))
